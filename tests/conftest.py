"""A small world that is real all through: rows on disk, a tokeniser trained on them, a Llama with random weights."""
# ruff: noqa: E402 — what libraries read when they are imported is set first

import os
import socket

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: spinning, two take 15 × the time of one
    "TOKENIZERS_PARALLELISM": "false",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}

import dataclasses
import functools
import json
import logging
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import beartype
import lightning
import numpy as np
import pytest
import torch
import transformers
from hydra.core.global_hydra import GlobalHydra

# Annotations are checked in tests, with the meaning that mypy gives them: an int will do for a float (PEP 484).
beartype.beartype = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))

from chat_server import KEY, ChatServer

from diverseevol.data.dataset import Dataset, load
from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import Tokens, encode
from diverseevol.engine import fast_path
from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import Pretrained, TinyLlama
from diverseevol.evaluation.exam import Exam
from diverseevol.evaluation.judges.openai_judge import OpenAI
from diverseevol.evaluation.judges.without_model import Gold
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.evolution.loop import evolve
from diverseevol.evolution.setup import Evolution
from diverseevol.options import Generation, PromptOptions, Schedule, Tuning
from diverseevol.parallel.signals import ENDING
from diverseevol.runs.run_folder import RunFolder
from diverseevol.samplers.kcenter import KCenter

torch.set_num_threads(1)  # contended threads slow models this small down eightfold
transformers.utils.logging.disable_progress_bar()
for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)

# Files of tests of pure functions, beside those of the samplers: `make test-fast`, for the edit loop.
FAST = (
    "test_agreement", "test_comparison", "test_files", "test_grammar", "test_measures", "test_names",
    "test_output", "test_pairwise", "test_projections", "test_reading", "test_scores", "test_spending", "test_stopping",
)  # fmt: skip

TOO_LONG = 7  # the row whose prompt alone fills all tokens that a row may have


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "samplers" or item.path.stem in FAST:
            item.add_marker(pytest.mark.fast)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    os.environ["DIVERSEEVOL_CACHE"] = str(folder)
    for name in ("CACHE", "CONFIG", "DATA"):
        os.environ[f"WANDB_{name}_DIR"] = str(folder / "wandb")
    return folder


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """A judge's endpoint on this machine."""
    with ChatServer().running() as running:
        yield running


@pytest.fixture
def make(server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., OpenAI]:
    """`make(**options)`: a judge at that endpoint, with a key in the environment and a cache of its own."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    usual = {"model": "gpt-4", "base_url": server.url, "backoff": 0.01, "cache": str(tmp_path)}
    return lambda **options: OpenAI(**(usual | options))


@pytest.fixture(params=["fast", "plain"])
def engine_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both paths through the engine: tests of what it computes run on each."""
    monkeypatch.setenv(fast_path.SWITCH, "1" if request.param == "fast" else "0")
    return str(request.param)


def records() -> list[dict[str, str]]:
    """60 rows of three kinds, of many lengths, with and without input; one can not be trained on."""
    animals = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]
    rows = []
    for i in range(60):
        animal, neighbour = animals[i % 10], animals[(3 * i + 1) % 10]
        instruction, context, output = [
            (f"Name {i} words about the {animal}.", "", f"{animal} " * (1 + i % 7)),
            ("Sum up.", f"The {animal} met {i} times a {neighbour}.", f"{animal}, {neighbour}!"),
            (f"Is {animal} > {neighbour}?", "", "Yes" if animal > neighbour else "No."),
        ][i % 3]
        rows.append({"instruction": instruction, "input": context, "output": output})
    rows[TOO_LONG]["instruction"] = "Why? " * 200
    return rows


@pytest.fixture(scope="session")
def dataset(cache: Path) -> Dataset:
    file = cache / "animals.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records()))
    return load(file, cache=cache)


@pytest.fixture(scope="session")
def foundation(dataset: Dataset, cache: Path) -> Pretrained:
    return TinyLlama(hidden=32, layers=2, heads=2, vocabulary=300).prepare(dataset, cache)


@pytest.fixture(scope="session")
def prompt(foundation: Pretrained) -> Prompt:
    return Prompt(foundation.tokenizer(), PromptOptions())


@pytest.fixture(scope="session")
def encoded(dataset: Dataset, prompt: Prompt, cache: Path) -> Tokens:
    return encode(dataset, prompt, cache)


@pytest.fixture(scope="session")
def learner(foundation: Pretrained, prompt: Prompt, encoded: Tokens) -> Learner:
    tuning = Tuning(learning_rate=1e-2, steps=3, batch_size=3)
    return Learner(
        foundation=foundation, prompt=prompt, encoded=encoded, tuning=tuning,
        trainer=functools.partial(lightning.Trainer, accelerator="cpu"),
    )  # fmt: skip


@pytest.fixture(scope="session")
def exam() -> Exam:
    questions = tuple(Question(str(i), f"What is {i}?", reference=f"It is {i}.") for i in range(3))
    return Exam((Benchmark("small", questions),), Gold(), Generation(max_new_tokens=4))


MakeEvolution = Callable[..., Evolution]


@pytest.fixture(scope="session")
def evolution(dataset: Dataset, learner: Learner, exam: Exam, cache: Path) -> MakeEvolution:
    """`evolution(folder, **changes)`: an evolution of three rounds in a folder, the lock not held."""

    def make(folder: Path, **changes: Any) -> Evolution:
        @functools.cache
        def space() -> np.ndarray:
            return learner.foundation_embedding(cache / "foundation-of-the-tests")

        usual = Evolution(
            dataset=dataset, learner=learner, sampler=KCenter(), schedule=Schedule(2, 6, 4),
            run=RunFolder(folder, {"what": "a test"}), space=space, seed=0, exam=exam,
        )  # fmt: skip
        return dataclasses.replace(usual, **changes)

    return make


@pytest.fixture(scope="session")
def whole(evolution: MakeEvolution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished evolution, every model kept. To look at; take a copy to change it."""
    folder = tmp_path_factory.mktemp("evolution") / "whole"
    evolve(evolution(folder, keep_models="all"))
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


@pytest.fixture
def idle(learner: Learner) -> Learner:
    """A learner for evolutions that have nothing left to do."""

    def no_trainer(**options: Any) -> lightning.Trainer:
        pytest.fail("a trainer was started where nothing was left to do")

    return dataclasses.replace(learner, trainer=no_trainer)


@pytest.fixture
def command_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """`command_line(verb, *overrides)`: exit code, stdout and stderr of a command, in this process."""
    from diverseevol.cli import main

    monkeypatch.setenv("COLUMNS", "400")
    handlers = {number: signal.getsignal(number) for number in ENDING}

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["diverseevol", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capfd.readouterr()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
    GlobalHydra.instance().clear()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection fails the test."""

    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
