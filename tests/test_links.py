"""Nothing is written through a link or over what has a temporary name, and a lock empties no file."""

import os
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diverseevol import cli
from diverseevol.cli.commands.answer import claim
from diverseevol.errors import InputError
from diverseevol.evaluation.judges.reply_cache import ReplyCache
from diverseevol.evaluation.questions.answer_file import AnswerFile
from diverseevol.parallel.processes import Processes
from diverseevol.parallel.shared_arrays import filled
from diverseevol.runs.round_folder import RoundFolder
from diverseevol.runs.run_folder import RunFolder
from diverseevol.storage.files import (
    TEMPORARY,
    atomic_write,
    is_temporary,
    locked,
    make_folder,
    refuse_links,
    sweep_siblings,
    sweep_temporary,
    temporary,
    write_json,
    write_jsonl,
)
from diverseevol.storage.sealed import SEAL, build_complete


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the user's outside of what is written."""
    (tmp_path / "precious").mkdir()
    file = tmp_path / "precious/victim"
    file.write_text("mine")
    return file


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that is written to."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def arrays(path: Path) -> None:
    with filled(path.parent, {path.name.removesuffix(".npy"): ((3,), "float32")}, Processes()):
        pass


def binary(path: Path) -> None:
    with atomic_write(path, "wb") as file:
        file.write(b"new")


WRITERS: dict[str, Callable[[Path], object]] = {
    "json": lambda path: write_json(path, 1),
    "lines": lambda path: write_jsonl(path, [{"a": 1}]),
    "bytes": binary,
    "folder": lambda path: build_complete(path, lambda folder: write_json(folder / "a.json", 1)),
    "model": lambda path: RoundFolder(path.parent, 0, "").keep_model(lambda folder: write_json(folder / "a.json", 1)),
    "arrays": arrays,
}
NAMES = {"model": "model", "arrays": "embedding.npy"}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("target", ["file", "folder", "nowhere"])
def test_a_link_with_the_name_of_what_is_written_is_replaced(
    kind: str, target: str, place: Path, victim: Path, tmp_path: Path
) -> None:
    path = place / NAMES.get(kind, "report.html")
    path.symlink_to({"file": victim, "folder": victim.parent, "nowhere": tmp_path / "nowhere"}[target])
    WRITERS[kind](path)
    assert not path.is_symlink()
    assert path.exists()
    assert victim.read_text() == "mine"
    assert [file.name for file in victim.parent.iterdir()] == ["victim"]
    assert not (tmp_path / "nowhere").exists()
    assert {file.name for file in place.iterdir()} - {SEAL} == {path.name}


@pytest.mark.parametrize("kind", WRITERS)
def test_what_has_a_name_that_looks_temporary_stays(kind: str, place: Path, victim: Path) -> None:
    path = place / NAMES.get(kind, "report.html")
    linked, folder = place / (path.name + TEMPORARY), place / f"{path.name}.0{TEMPORARY}"
    linked.symlink_to(victim)
    folder.mkdir()
    (folder / "notes").touch()
    WRITERS[kind](path)
    assert linked.readlink() == victim
    assert victim.read_text() == "mine"
    assert (folder / "notes").exists()
    assert {file.name for file in place.iterdir()} - {SEAL} == {path.name, linked.name, folder.name}


def test_another_name_of_the_same_file_keeps_its_content(place: Path, victim: Path) -> None:
    (place / "report.html").hardlink_to(victim)
    write_json(place / "report.html", 1)
    assert victim.read_text() == "mine"


def test_temporary_names_are_new_and_fit_beside_any_name(tmp_path: Path) -> None:
    for name in ("a", "é" * 127, "n" * 255, "line\nbreak", "\udcff"):
        path = tmp_path / name
        names = {temporary(path).name for _ in range(100)}
        assert len(names) == 100
        assert all(is_temporary(each) for each in names)
        write_json(path, name.isascii())
        assert path.exists()
    assert not is_temporary("thesis.partial")
    assert not is_temporary("thesis.0123456789abcdef.partial.txt")


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as first:
        first.write("first")
        with atomic_write(path) as second:
            second.write("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("device", ["/dev/null", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "."])
def test_a_device_is_not_replaced_by_a_file(device: str) -> None:
    with pytest.raises(InputError, match=r"name a file"):
        write_json(Path(device), 1)
    assert not stat.S_ISREG(os.lstat(device).st_mode)


def test_a_pipe_is_not_replaced_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(InputError, match=r"is a device or a pipe, expected a file or a free name"):
            write_json(tmp_path / name, 1)


def test_a_lock_that_is_a_link_empties_no_file(place: Path, victim: Path) -> None:
    (place / "file.lock").symlink_to(victim)
    with pytest.raises(InputError, match=r"file\.lock: is a link, expected a lock file"), locked(place / "file.lock"):
        pytest.fail("it was held")
    (place / "file.lock").rename(place / ".lock")
    with pytest.raises(InputError, match=r"\.lock: is a link"), RunFolder(place, {}).locked():
        pytest.fail("it was held")
    assert (place / ".lock").readlink() == victim
    assert victim.read_text() == "mine"


def test_a_file_of_replies_that_is_a_link_is_not_written_through(place: Path, victim: Path) -> None:
    victim.write_bytes(b"")
    (place / "judgements.sqlite").symlink_to(victim)
    with pytest.raises(InputError, match=r"judgements\.sqlite: is a link, expected the file of judges' replies"):
        ReplyCache(place / "judgements.sqlite")
    assert victim.read_bytes() == b""


def test_leftovers_of_killed_processes_go_and_nothing_behind_links(place: Path, victim: Path) -> None:
    old, fresh, other = temporary(place / "a.json"), temporary(place / "a.json"), temporary(place / "b.json")
    mine, linked = place / "a.json.mine.partial", temporary(place / "a.json")
    for file in (old, fresh, other, mine):
        file.touch()
    linked.symlink_to(victim.parent)
    for file in (old, other, mine):
        os.utime(file, (0, 0))
    sweep_siblings(place / "a.json", older=60)
    assert {file.name for file in place.iterdir()} == {each.name for each in (fresh, other, mine, linked)}
    (place / "further").symlink_to(victim.parent)
    behind = temporary(victim)
    behind.touch()
    sweep_temporary(place)
    assert {file.name for file in place.iterdir()} == {mine.name, linked.name, "further"}
    assert behind.exists()


def test_answers_are_appended_to_no_file_of_somebody_elses(exam: Any, place: Path, victim: Path) -> None:
    file = AnswerFile(place, exam.benchmarks[0], exam.generation)
    file.unfinished.parent.mkdir()
    file.unfinished.symlink_to(victim)
    with pytest.raises(InputError, match="unfinished: cannot be written"):
        file.append({0: "one"})
    file.unfinished.unlink()
    file.unfinished.hardlink_to(victim)
    assert file.begun() == {}
    file.append({0: "one"})
    assert file.begun() == {0: "one"}
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("taken", ["evolve", "answer"])
def test_a_folder_with_a_link_out_of_it_is_not_written_to(taken: str, place: Path, victim: Path) -> None:
    write_json(place / "fingerprint.json", {})
    (place / "rounds").mkdir()
    (place / "rounds/00").symlink_to(victim.parent)
    enter = {"answer": lambda: claim(place, {}), "evolve": lambda: RunFolder(place, {}).locked().__enter__()}[taken]
    with pytest.raises(InputError, match=r"rounds/00: is a link to a folder outside .*; put a folder in its place"):
        enter()
    assert [file.name for file in victim.parent.iterdir()] == ["victim"]


def test_links_within_a_folder_and_the_users_own_link_to_it_are_fine(place: Path) -> None:
    (place / "wandb/offline-run-1").mkdir(parents=True)
    (place / "wandb/latest-run").symlink_to("offline-run-1")
    refuse_links(place)
    (place.parent / "link").symlink_to(place)
    refuse_links(place.parent / "link")


def test_a_report_beside_runs_is_not_written_behind_a_link(
    place: Path, victim: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "report").symlink_to(victim.parent)
    monkeypatch.setattr(sys, "argv", ["diverseevol", "report", f"folder={place}"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "report: is a link" in capsys.readouterr().err
    assert [file.name for file in victim.parent.iterdir()] == ["victim"]


def test_folders_are_made_once_by_whoever_comes_first(tmp_path: Path) -> None:
    made: list[list[Path]] = []
    threads = [threading.Thread(target=lambda: made.append(make_folder(tmp_path / "a/b"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path for paths in made for path in paths) == [tmp_path / "a", tmp_path / "a/b"]
