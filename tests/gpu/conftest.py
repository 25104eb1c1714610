"""What runs on a CUDA device, and is skipped where there is none: `python -m pytest -m gpu tests/gpu`."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import lightning
import pytest
import torch

from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import encode
from diverseevol.engine.learner import Learner
from diverseevol.lab import foundation_model
from diverseevol.lab.dataset import load as lab_source
from diverseevol.options import PromptOptions, Tuning


@pytest.fixture(scope="session", autouse=True)
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    return torch.device("cuda")


def trainer(accelerator: str, precision: str = "32-true") -> Callable[..., lightning.Trainer]:
    """As conf/trainer has it."""
    return functools.partial(lightning.Trainer, accelerator=accelerator, precision=precision, deterministic=True)


@pytest.fixture(scope="session")
def on_gpu(learner: Learner) -> Callable[[str], Learner]:
    """`on_gpu(precision)`: the tiny learner on the device."""
    return lambda precision="32-true": dataclasses.replace(learner, trainer=trainer("cuda", precision))


@pytest.fixture(scope="session")
def lab(cache: Path) -> Callable[..., Learner]:
    """`lab(accelerator, precision)`: the lab's model, which says something, over 600 of its rows."""
    rows, foundation = lab_source(size=600, cache=cache), foundation_model()
    prompt = Prompt(foundation.tokenizer(), PromptOptions())
    encoded = encode(rows, prompt, cache)
    tuning = Tuning(learning_rate=1e-3, epochs=4, batch_size=8)
    return lambda accelerator, precision="32-true": Learner(
        foundation=foundation, prompt=prompt, encoded=encoded, tuning=tuning, trainer=trainer(accelerator, precision)
    )
