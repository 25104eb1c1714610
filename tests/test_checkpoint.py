"""A fit that was cut goes on from its checkpoint, and ends bit for bit as if it had not been cut."""

import dataclasses
import functools
import json
import logging
import os
import resource
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import small_evolution
import torch
from forks import finish, fork, wait_until

from diverseevol.engine.learner import Learner
from diverseevol.engine.tuning import checkpoint as checkpoints
from diverseevol.engine.tuning.tuner import Fit
from diverseevol.errors import InputError
from diverseevol.evolution.loop import evolve
from diverseevol.options import LoRA, Tuning
from diverseevol.parallel.signals import ENDING, postponed
from diverseevol.runs.tracking import NoLogger
from diverseevol.storage.files import read_json, read_jsonl, write_json
from diverseevol.storage.sealed import SEAL, damage, seal

ROWS, SEED = np.arange(10, 40), (0, 1)
ALWAYS = 1e-9  # minutes: a checkpoint after each step
OPTIONS: dict[str, Any] = {
    "learning_rate": 1e-2, "steps": 7, "batch_size": 6, "micro_batch_tokens": 200, "weight_decay": 0.1,
    "warmup_ratio": 0.3,
}  # fmt: skip


class Cut(BaseException):
    """The end of a process, at a point of our choice."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "round" / "checkpoint"


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def tuned(learner: Learner, options: type[Tuning] = Tuning, **changes: Any) -> Learner:
    return dataclasses.replace(learner, tuning=options(**(OPTIONS | changes)))


def kept(learner: Learner) -> Learner:
    return dataclasses.replace(learner, tuning=dataclasses.replace(learner.tuning, checkpoint_minutes=ALWAYS))


def cut(learner: Learner, folder: Path, step: int) -> None:
    """Fit until so many steps are taken; the checkpoint is of the one before."""

    def ends(number: int, values: dict[str, float]) -> None:
        if number == step:
            raise Cut

    with pytest.raises(Cut):
        kept(learner).fit(ROWS, SEED, ends, checkpoint=folder)
    assert read_json(folder / checkpoints.STATE)["curve"][-1]["step"] == step - 1


def assert_equal(found: Fit, expected: Fit) -> None:
    ours, theirs = found.model.state_dict(), expected.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())
    assert found.curve == expected.curve


def with_dropout(learner: Learner, tmp_path: Path) -> Learner:
    """The learner with a foundation model of the same weights, whose attention drops a share of what it looks at."""
    path = shutil.copytree(learner.foundation.path, tmp_path / "dropping")
    write_json(path / "config.json", read_json(path / "config.json") | {"attention_dropout": 0.3})
    return dataclasses.replace(learner, foundation=dataclasses.replace(learner.foundation, path=str(path)))


@pytest.mark.parametrize(
    "case", ["full", "dropout", "threads", "bf16", "rounding", "lora", "lora with dropout", "plain path"]
)
def test_a_fit_that_was_cut_ends_as_if_it_had_not_been(learner, folder, tmp_path, case, monkeypatch):
    if case == "dropout":
        learner = with_dropout(learner, tmp_path)
    if case == "bf16":
        trainer = functools.partial(lightning.Trainer, accelerator="cpu", precision="bf16-mixed")
        learner = dataclasses.replace(learner, trainer=trainer)
    if case == "plain path":
        monkeypatch.setenv("DIVERSEEVOL_FAST_PATH", "0")
    if case.startswith("lora"):
        learner = tuned(learner, LoRA, rank=4, alpha=8, dropout=0.3 * case.endswith("dropout"))
    else:
        learner = tuned(learner)
    if case == "rounding":
        foundation = dataclasses.replace(learner.foundation, dtype="bfloat16")
        tuning = dataclasses.replace(learner.tuning, moments="bfloat16", rounding="stochastic")
        learner = dataclasses.replace(learner, foundation=foundation, tuning=tuning)
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if case == "threads" else threads)
    try:
        expected = learner.fit(ROWS, SEED)
        assert not np.isclose(expected.curve[0]["loss"], expected.curve[-1]["loss"])
        cut(learner, folder, 3)
        cut(learner, folder, 6)  # goes on from the first one
        told: list[int] = []
        found = learner.fit(ROWS, SEED, lambda step, values: told.append(step), checkpoint=folder)
    finally:
        torch.set_num_threads(threads)
    assert_equal(found, expected)
    assert told == list(range(1, 8)), "loggers get every point"
    assert found.earlier > 0
    assert expected.earlier == 0


def test_writing_checkpoints_changes_nothing_and_only_the_latest_is_kept(learner, folder):
    learner = tuned(learner)
    assert_equal(kept(learner).fit(ROWS, SEED, checkpoint=folder), learner.fit(ROWS, SEED))
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]
    assert damage(folder, full=True) is None
    assert {path.name for path in folder.iterdir()} == {
        SEAL, "state.json", "random-0.safetensors", "tensors-0-0.safetensors"
    }  # fmt: skip


def test_none_is_written_unless_minutes_are_given_and_have_passed(learner, folder):
    for minutes in (None, 1e6):
        tuned(learner, checkpoint_minutes=minutes).fit(ROWS, SEED, checkpoint=folder)
    assert not folder.parent.exists()
    with pytest.raises(InputError, match=r"^tuning\.checkpoint_minutes is 0; it must be above 0"):
        Tuning(checkpoint_minutes=0)


def test_tensors_are_written_in_pieces_of_a_size(learner, folder, monkeypatch):
    monkeypatch.setattr(checkpoints, "PIECE_BYTES", 50_000)
    learner = tuned(learner)
    cut(learner, folder, 4)
    assert len(list(folder.glob("tensors-0-*.safetensors"))) > 3
    assert_equal(learner.fit(ROWS, SEED, checkpoint=folder), learner.fit(ROWS, SEED))


def test_the_checkpoint_of_adapters_holds_adapters_alone(learner, folder):
    cut(tuned(learner, LoRA, rank=1), folder, 3)
    adapted = tuned(learner, LoRA, rank=1).fit(ROWS, SEED).model
    trained = sum(weight.nbytes for weight in adapted.parameters() if weight.requires_grad)
    assert (folder / "tensors-0-0.safetensors").stat().st_size < 4 * trained + 20_000


def _flip_a_bit(folder: Path) -> None:
    file = folder / "tensors-0-0.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _of_two_processes(folder: Path) -> None:
    state = read_json(folder / "state.json")
    write_json(folder / "state.json", state | {"identity": state["identity"] | {"processes": 2}})
    seal(folder, ["state.json"])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_flip_a_bit, "tensors-0-0.safetensors holds other bytes than were written"),
        (lambda folder: (folder / SEAL).unlink(), f"has no readable {SEAL}"),
        (lambda folder: (folder / "random-0.safetensors").unlink(), "random-0.safetensors is missing"),
        (_of_two_processes, "it is of 2 processes, not 1"),
    ],
)
def test_a_checkpoint_that_cannot_be_trusted_is_not_used(learner, folder, spoil, reason, caplog):
    learner = tuned(learner)
    cut(learner, folder, 3)
    spoil(folder)
    with caplog.at_level(logging.WARNING):
        found = learner.fit(ROWS, SEED, checkpoint=folder)
    assert_equal(found, learner.fit(ROWS, SEED))
    assert found.earlier == 0
    assert f"checkpoint is not used ({reason}" in caplog.text
    assert "the fit begins anew" in caplog.text


def test_the_checkpoint_of_another_fit_is_not_used(learner, folder, caplog):
    cut(tuned(learner), folder, 3)
    for other, rows, seed in (
        (tuned(learner), ROWS[1:], SEED), (tuned(learner), ROWS, (0, 2)), (tuned(learner, steps=8), ROWS, SEED),
        (tuned(learner, LoRA, rank=2), ROWS, SEED),
    ):  # fmt: skip
        caplog.clear()
        assert other.fit(rows, seed, checkpoint=folder).earlier == 0
        assert "it is of another fit" in caplog.text


def test_a_full_disk_costs_the_checkpoint_and_not_the_fit(learner, folder, caplog):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    learner = tuned(learner)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        found = kept(learner).fit(ROWS, SEED, checkpoint=folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_equal(found, learner.fit(ROWS, SEED))
    assert not list(folder.parent.iterdir())
    assert "the checkpoint cannot be written (" in caplog.text
    assert "too large" in caplog.text
    assert "the fit goes on without it" in caplog.text


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(("number", "at"), [*((number, 4) for number in ENDING), (signal.SIGTERM, OPTIONS["steps"])])
def test_a_signal_waits_for_a_checkpoint_of_the_step(learner, folder, number, at):
    def ends(*_: object) -> None:
        raise Cut

    def signalled(step: int, values: dict[str, float]) -> None:
        if step == at:
            signal.raise_signal(number)

    signal.signal(number, ends)
    learner = tuned(learner)
    minutes = dataclasses.replace(learner, tuning=dataclasses.replace(learner.tuning, checkpoint_minutes=1e6))
    with pytest.raises(Cut):
        minutes.fit(ROWS, SEED, signalled, checkpoint=folder)
    assert len(read_json(folder / "state.json")["curve"]) == at
    assert signal.getsignal(number) is ends
    assert_equal(learner.fit(ROWS, SEED, checkpoint=folder), learner.fit(ROWS, SEED))
    with pytest.raises(Cut):  # where none are written, it ends the fit at once
        learner.fit(ROWS, (0, 5), signalled, checkpoint=folder)


@pytest.mark.usefixtures("handlers")
def test_a_second_signal_does_not_wait_and_one_may_not_end_anything():
    received: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, frame: received.append(number))
    with postponed() as signals:
        signal.raise_signal(signal.SIGUSR2)
        assert (received, signals.number) == ([], signal.SIGUSR2)
        signal.raise_signal(signal.SIGUSR2)
        assert (received, signals.number) == ([signal.SIGUSR2], 0)
    assert [received.pop()] == [signal.SIGUSR2]
    with postponed():
        signal.raise_signal(signal.SIGUSR2)
    assert received.pop()
    with postponed() as signals:
        signal.raise_signal(signal.SIGUSR2)
        signals.deliver(signal.SIGUSR2)
        assert received.pop()
        signal.raise_signal(signal.SIGUSR2)
        assert not received
    assert received


def test_a_round_that_was_cut_in_its_fit_goes_on_and_keeps_no_checkpoint(evolution, whole, tmp_path, learner, caplog):
    class Cutting(NoLogger):
        """Ends the process at a step of the second round."""

        def open(self, name: Any, *details: Any) -> Any:
            opened = super().open(name, *details)
            if name.name == "round-01":

                def curve(step: int, values: dict[str, float]) -> None:
                    if step == 3:
                        raise Cut

                opened.curve = curve
            return opened

    run, ours = tmp_path / "run", kept(learner)
    with pytest.raises(Cut):
        evolve(evolution(run, learner=ours, keep_models="all", tracker=Cutting()))
    assert [path.parent.name for path in run.glob("rounds/*/checkpoint")] == ["01"]
    evolve(evolution(run, keep_models="all"))
    assert "the fit goes on from step 2 of " in caplog.text
    assert not list(run.glob("rounds/*/checkpoint"))
    for name in ("training.jsonl", "model/model.safetensors"):
        assert (run / "rounds/01" / name).read_bytes() == (whole / "rounds/01" / name).read_bytes()
    assert read_jsonl(run / "selected.jsonl") == read_jsonl(whole / "selected.jsonl")


LONG = (
    *small_evolution.SMALL, "tuning.steps=60", "schedule.rounds=0", "logger=none", "trainer.accelerator=cpu",
    "tuning.micro_batch_tokens=300", "embedding.batch_tokens=300", "generation.max_new_tokens=2",
)  # fmt: skip


def start(arguments: list[str], log: Path, processes: int) -> list[int]:
    """The command in one process, or in several as `srun` starts them."""
    if processes == 1:
        return [fork(arguments, log)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)} for rank in range(processes)]
    return [fork(arguments, log.with_name(f"{log.name}-{rank['RANK']}"), {**address, **rank}) for rank in ranks]


def results(folder: Path) -> list[bytes]:
    record = json.loads((folder / "rounds/00/round.json").read_text())
    files = [folder / "rounds/00" / name for name in ("training.jsonl", "model/model.safetensors")]
    return [json.dumps(record["metrics"]).encode(), *(file.read_bytes() for file in files)]


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "strategy"), [(1, "ddp"), (2, "ddp"), (2, "fsdp")])
def test_a_command_that_is_ended_twice_in_a_fit_goes_on_within_it(
    tmp_path: Path, processes: int, strategy: str
) -> None:
    import diverseevol.cli.commands.evolve  # noqa: F401

    torch.set_num_threads(1)
    usual = ["evolve", f"cache={tmp_path / 'cache'}", f"trainer.strategy={strategy}", *LONG]
    for child in start([*usual, f"folder={tmp_path / 'whole'}"], tmp_path / "log", processes):
        assert finish(child) == 0, [log.read_text() for log in tmp_path.glob("log*")]
    run, checkpoint = [*usual, f"folder={tmp_path / 'run'}"], tmp_path / "run/rounds/00/checkpoint"
    for number in (signal.SIGKILL, signal.SIGTERM):
        before = checkpoint.stat().st_ino if checkpoint.exists() else None
        children = start([*run, f"tuning.checkpoint_minutes={ALWAYS}"], tmp_path / "ended", processes)
        wait_until(lambda before=before: checkpoint.stat().st_ino != before, children[0])
        for child in children:
            os.kill(child, number)
        codes = [finish(child) for child in children]
        assert codes == [-number if number == signal.SIGKILL else 130] * processes
        assert not (tmp_path / "run/rounds/00/training.jsonl").exists(), "in the middle"
    for child in start(run, tmp_path / "log", processes):
        assert finish(child) == 0
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    assert not checkpoint.exists()
    assert not list(tmp_path.rglob("*.partial"))
    ended = "".join(log.read_text() for log in tmp_path.glob("ended*"))
    assert ended.count("interrupted; everything so far is kept") == 1
    assert "begins anew" not in ended
