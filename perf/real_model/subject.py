"""The model and the rows that a comparison is about, and what is measured of it."""

import functools
import gc
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import lightning
import numpy as np
import torch
import transformers
from jaxtyping import Int
from transformers import PreTrainedModel

from diverseevol.data.dataset import load
from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import Tokens, encode
from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import Pretrained
from diverseevol.options import PromptOptions, Tuning
from perf import turns

OURS, PLAIN, TRL = "ours", "plain", "TRL"
PRECISIONS: dict[str, Any] = {"float32": "32-true", "bf16": "bf16-mixed"}  # as trainer=auto and trainer=bf16 compute

# What prepares a candidate, and gives what is to be timed.
Candidate = Callable[[], Callable[[], Any]]


@dataclass(frozen=True)
class Subject:
    """A model and rows, named so that a process of its own can open them again.

    Attributes:
        model: a folder with a causal language model of transformers.
        data: a file of rows that the project reads.
        cache: a folder for checked and tokenised rows.
    """

    model: str
    data: str
    cache: Path

    @property
    def foundation(self) -> Pretrained:
        return Pretrained(self.model)

    @cached_property
    def prompt(self) -> Prompt:
        """The model's own chat template where it has one."""
        tokenizer = self.foundation.tokenizer()
        return Prompt(tokenizer, PromptOptions(template="chat" if tokenizer.chat_template else "alpaca"))

    @cached_property
    def encoded(self) -> Tokens:
        """The file's first 2,000 rows as tokens."""
        dataset = load(self.data, split="train[:2000]", on_bad_rows="skip", cache=self.cache)
        return encode(dataset, self.prompt, self.cache)

    def rows(self, n: int) -> Int[np.ndarray, " n"]:
        """A sample of the rows that can be trained on, the same each time, ascending."""
        able = np.flatnonzero(self.encoded.eligible)
        return np.sort(np.random.default_rng(0).choice(able, min(n, len(able)), replace=False))

    def longest(self, n: int) -> Int[np.ndarray, " n"]:
        """The longest rows that can be trained on, which need the most memory, ascending."""
        able = np.flatnonzero(self.encoded.eligible)
        return np.sort(able[np.argsort(-self.encoded.lengths[able], kind="stable")[:n]])

    def learner(self, precision: str, tuning: Tuning | None = None) -> Learner:
        """The project's learner, with the trainer that `trainer=auto` or `trainer=bf16` makes on a processor."""
        trainer = functools.partial(
            lightning.Trainer, accelerator="cpu", precision=PRECISIONS[precision], deterministic=True
        )
        return Learner(
            foundation=self.foundation, prompt=self.prompt, encoded=self.encoded, tuning=tuning or Tuning(),
            trainer=trainer,
        )  # fmt: skip

    @functools.cache  # noqa: B019 — a subject lives as long as its process
    def loaded(self, dtype: str = "float32") -> PreTrainedModel:
        """The model, to be read only."""
        return Pretrained(self.model, dtype=dtype).load().eval()


def plainly(precision: str) -> torch.autocast:
    """What the plain way computes under: without the deterministic mode that our trainers switch on for all."""
    torch.use_deterministic_algorithms(False)
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")


@dataclass(frozen=True)
class Timed:
    """The seconds of each turn, and what the last turn gave."""

    seconds: tuple[float, ...]
    result: Any

    @property
    def typical(self) -> float:
        """Median seconds of a turn."""
        return median(self.seconds)

    def ratio(self, ours: "Timed") -> float:
        """How many times as long as ours: the median over turns."""
        return median(its / our for its, our in zip(self.seconds, ours.seconds, strict=True))


def in_turns(candidates: dict[str, Candidate], warmed: dict[str, Candidate], n: int) -> dict[str, Timed]:
    """Let candidates take turns: forth and back, so that none is always the first.

    Args:
        candidates: by name.
        warmed: the same with little work, done once before and not timed.
        n: turns of each.
    """
    now = turns.CLOCKS[turns.CLOCK]
    for name in candidates:
        warmed[name]()()
        gc.collect()
    work = {name: prepare() for name, prepare in candidates.items()}
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    results: dict[str, Any] = {}
    for turn in range(n):
        for name in list(work)[:: -1 if turn % 2 else 1]:
            start = now()
            results[name] = work[name]()
            seconds[name].append(now() - start)
            gc.collect()  # trainers lie in cycles of references, and their models and optimizers with them
    return {name: Timed(tuple(seconds[name]), results[name]) for name in candidates}


def named(implementation: str, precision: str) -> str:
    return f"{implementation}, {precision}"


def quiet() -> None:
    """Libraries' notes and progress bars would stand between the tables."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning)
