"""What an interrupted round has left is believed only as it was left: what is damaged is made again as it was."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diverseevol.evaluation.exam import Exam
from diverseevol.evolution.loop import evolve
from diverseevol.evolution.setup import Evolution
from diverseevol.options import Schedule
from diverseevol.runs.round_folder import RoundFolder
from diverseevol.storage.files import read_json
from diverseevol.storage.sealed import SEAL


class Cut(BaseException):
    """The end of a process."""


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    os.truncate(file, 0)


LEFT = (
    "training.jsonl", "chosen.jsonl", "measures.json", "probe/embedding.npy", "model/model.safetensors",
    "model/config.json", f"model/{SEAL}", f"probe/{SEAL}", SEAL,
)  # fmt: skip


@pytest.fixture(scope="module")
def cut_off(evolution: Callable[..., Evolution], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An evolution that ended after the last phase of round 0, and the same one whole."""
    folder = tmp_path_factory.mktemp("rounds")
    make = lambda name: evolution(folder / name, schedule=Schedule(1, 6, 4), exam=Exam())  # noqa: E731

    def end(self: RoundFolder, done: Any) -> None:
        raise Cut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RoundFolder, "finish", end)
        with pytest.raises(Cut):
            evolve(make("cut"))
    evolve(make("whole"))
    return folder / "cut", folder / "whole"


def results(folder: Path) -> list[Any]:
    records = [read_json(folder / f"rounds/{t:02d}/round.json") for t in range(2)]
    costs = ("seconds", "predicted", "peak_memory")
    return [{key: value for key, value in record.items() if key not in costs} for record in records]


@pytest.mark.parametrize(
    ("harm", "names"),
    [*((flip, (name,)) for name in LEFT), (cut, LEFT), (empty, LEFT), (Path.unlink, LEFT)],
    ids=lambda part: part.__name__ if callable(part) else part[0] if len(part) == 1 else "all",
)
def test_a_round_whose_files_were_damaged_ends_as_if_they_had_not_been(
    harm: Callable[[Path], None], names: tuple[str, ...], cut_off: tuple[Path, Path],
    evolution: Callable[..., Evolution], tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    shutil.copytree(cut_off[0], tmp_path / "copy")
    if names[0].startswith("probe/"):  # which is read only while nothing has come of it
        for name in ("chosen.jsonl", "measures.json"):
            (tmp_path / "copy/rounds/00" / name).unlink()
    for name in names:
        harm(tmp_path / "copy/rounds/00" / name)
    evolve(evolution(tmp_path / "copy", schedule=Schedule(1, 6, 4), exam=Exam()))
    assert results(tmp_path / "copy") == results(cut_off[1])
    told = [record.getMessage() for record in caplog.records if "is not used" in record.getMessage()]
    assert all(f"{tmp_path / 'copy/rounds/00'}" in line for line in told)
    if harm is not Path.unlink:  # of what is not there nothing is damaged
        assert told
        assert len(told) == len(set(told))


def test_what_is_sound_is_not_made_again(
    cut_off: tuple[Path, Path], evolution: Callable[..., Evolution], idle: Any, tmp_path: Path
) -> None:
    shutil.copytree(cut_off[0], tmp_path / "copy")
    usual = evolution(tmp_path / "copy", schedule=Schedule(0, 6, 4), exam=Exam())
    evolve(dataclasses.replace(usual, learner=idle, schedule=Schedule(0, 6, 4)))
    assert read_json(tmp_path / "copy/rounds/00/round.json")["chosen"] == []
