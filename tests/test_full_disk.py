"""A disk that will not take a file is told in the one sentence, whoever was writing, and nothing half stays."""

import functools
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_evolution
from forks import finish, fork

from diverseevol.errors import InputError
from diverseevol.evaluation.questions.answer_file import AnswerFile
from diverseevol.parallel.processes import Processes
from diverseevol.parallel.shared_arrays import cached_by_all, filled
from diverseevol.runs.round_folder import RoundFolder
from diverseevol.storage.cache import cached_folder
from diverseevol.storage.files import write_jsonl, writing
from diverseevol.storage.sealed import build_complete

ROOM = 4096


@contextmanager
def no_room() -> Iterator[None]:
    """No file may grow beyond `ROOM` bytes: what a full disk does to whoever writes, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Peers(Processes):
    """The first of two processes, the second of which does as it is told."""

    def barrier(self) -> None:
        pass

    def share(self, value: Any) -> Any:
        return value


@pytest.fixture(params=["tokeniser", "weights", "lines"])
def save(request: pytest.FixtureRequest, foundation: Any) -> Callable[[Path], object]:
    """Three writers with three kinds of exception."""
    tokenizer, model = foundation.tokenizer(), foundation.load()
    return {
        "tokeniser": lambda folder: tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json")),
        "weights": model.save_pretrained,
        "lines": lambda folder: write_jsonl(folder / "many.jsonl", [{"text": "x" * ROOM}]),
    }[request.param]


@pytest.mark.parametrize(
    "build",
    [
        build_complete,
        cached_folder,
        lambda folder, save: cached_by_all(folder, save, Peers(0, 2)),
        lambda folder, save: RoundFolder(folder.parent, 0, "").keep_model(save),
    ],
    ids=["folder", "cache", "cache of two processes", "model"],
)
def test_folders_are_whole_or_not_there(
    build: Callable[[Path, Callable[[Path], object]], Any], save: Callable[[Path], object], tmp_path: Path
) -> None:
    folder = tmp_path / "below" / "model"
    with no_room(), pytest.raises(InputError, match=r"cannot be written \(.*too large") as caught:
        build(folder, save)
    assert str(folder) in str(caught.value)
    assert str(caught.value).count("cannot be written") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and path != folder.parent]
    assert not list(tmp_path.rglob("*.partial"))
    build(folder, save)
    assert list(folder.iterdir())


@pytest.mark.parametrize("number", [27, 28, 30, 122])
def test_what_libraries_in_rust_say_of_the_disk_is_understood(number: int, tmp_path: Path) -> None:
    reason = f"{os.strerror(number)} (os error {number})"
    with pytest.raises(InputError, match=f"cannot be written .{re.escape(reason)}"), writing(tmp_path / "file"):
        raise Exception(reason)
    with pytest.raises(InputError, match=r"^is said already"), writing(tmp_path / "file"):
        raise InputError(f"is said already (os error {number})")


def test_other_mistakes_stay_what_they_are_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "file.partial").touch()
    with pytest.raises(RuntimeError, match="os error 2"), writing(tmp_path / "file", tmp_path / "file.partial"):
        raise RuntimeError("nothing to do with room (os error 2)")
    assert not list(tmp_path.iterdir())


def test_arrays_answers_and_what_is_dropped(exam: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a file"
    file.touch()
    with pytest.raises(InputError, match="cannot be written"), filled(file / "probe", {}, Processes()):
        pytest.fail("arrays in a file")
    shapes = {"embedding": ((ROOM,), "float32")}
    with no_room(), pytest.raises(InputError, match=r"embedding.*too large"), filled(tmp_path, shapes, Processes()):
        pytest.fail("arrays without room")
    assert not list(tmp_path.glob("*.partial"))

    answers = AnswerFile(tmp_path, exam.benchmarks[0], exam.generation)
    answers.append({0: "one"})
    with no_room(), pytest.raises(InputError, match="unfinished: cannot be written"):
        answers.append({1: "x" * ROOM})
    (answers.path / "in the way").mkdir(parents=True)
    with pytest.raises(InputError, match=r"small\.jsonl: cannot be written"):
        answers.finish()

    here = RoundFolder(tmp_path, 0, "")
    here.model.mkdir()

    def read_only(path: Path) -> None:
        raise OSError(30, os.strerror(30))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", read_only)
        with pytest.raises(InputError, match="model: cannot be written"):
            here.drop(here.model)
    here.model.mkdir()
    with pytest.raises(InputError, match="model: cannot be written"):
        here.forget("model")


def test_an_answer_that_was_cut_off_stays_where_it_cannot_be_dropped(
    exam: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(descriptor: int) -> None:
        raise OSError(30, os.strerror(30))

    answers = AnswerFile(tmp_path, exam.benchmarks[0], exam.generation)
    answers.append({0: "one"})
    with answers.unfinished.open("a") as file:
        file.write("half")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", read_only)
        with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
            answers.begun()
    assert answers.begun() == {0: "one"}


def test_the_cache_of_several_processes_is_swept_of_what_a_kill_left(tmp_path: Path) -> None:
    cache = tmp_path / "foundation" / "key"

    def build(folder: Path) -> None:
        np.save(folder / "embedding.npy", np.zeros(3))

    def killed(folder: Path) -> None:
        build(folder)
        os._exit(9)

    child = os.fork()
    if not child:
        cached_by_all(cache, killed, Peers(0, 2))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert list(cache.parent.glob("*.partial")), "it was killed in the middle"
    cached_by_all(cache, build, Peers(0, 2))
    assert {file.name for file in cache.iterdir()} == {"embedding.npy", ".digests"}
    assert not list(cache.parent.glob("*.partial"))
    cached_by_all(cache, killed, Peers(0, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "target"), [("small disk", "folder"), ("small disk", "cache"), ("small files", "both")]
)
def test_an_evolution_on_a_disk_that_grows_is_refused_in_sentences_until_it_fits(
    kind: str, target: str, tmp_path: Path
) -> None:
    """Room is added in small steps, so that the disk is full at many instants."""
    import torch

    import diverseevol.cli.commands.evolve  # noqa: F401

    torch.set_num_threads(1)
    usual = ["evolve", "logger=none", *small_evolution.SMALL]
    cache, whole, disk = tmp_path / "cache", tmp_path / "whole", tmp_path / "disk"
    assert finish(fork([*usual, f"folder={whole}", f"cache={cache}"], tmp_path / "log")) == 0
    disk.mkdir()
    folder = tmp_path / "run" if target == "cache" else disk / "run"
    arguments = [*usual, f"folder={folder}", f"cache={cache if target == 'folder' else disk / 'cache'}"]
    said = []
    with _growing(kind, disk) as rooms:
        for attempt, first in enumerate(rooms):
            log = tmp_path / f"log-{attempt}"
            code = finish(fork(arguments, log, first=first))
            text = log.read_text()
            assert not list(disk.rglob("*.partial")), text
            assert "Traceback" not in text
            if code == 0:
                break
            assert code == 2, text
            assert re.search(r"cannot be written \(.*(No space left|too large|requested)", text), text
            said.append(text.split(": cannot be written")[0].split("diverseevol: ")[-1])
        else:
            pytest.fail("it never fitted")
        print(*said, sep="\n")
        assert len({*said}) >= 2, "it was full at several instants"
        names = ("selected.jsonl", "receipts.jsonl", "map.npy", "rounds/00/chosen.jsonl")
        for file in (*names, "rounds/01/answers/lab_natural.jsonl"):
            assert (folder / file).read_bytes() == (whole / file).read_bytes()
        if kind == "small disk" and target == "folder":
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            grown = [*arguments, "schedule.rounds=2"]
            assert finish(fork(grown, tmp_path / "read-only")) == 2
            text = (tmp_path / "read-only").read_text()
            assert "Read-only file system" in text
            assert "Traceback" not in text


@contextmanager
def _growing(kind: str, disk: Path) -> Iterator[Iterator[Callable[[], object]]]:
    """Room after room: what makes each, called in the child that has to do with it."""
    if kind == "small files":
        yield (
            functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
            for size in (1 << shift for shift in range(12, 24))
        )
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")

    def rooms() -> Iterator[Callable[[], object]]:
        for size in range(16, 4096, 112):
            subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
            yield lambda: None

    try:
        yield rooms()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)
