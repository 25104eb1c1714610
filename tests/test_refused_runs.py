"""A run that is refused leaves the folders and files that were there before it, and nothing of its own."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from diverseevol import cli
from diverseevol.errors import InputError
from diverseevol.runs.run_folder import RunFolder
from diverseevol.storage.files import make_folder


def tree(folder: Path) -> dict[str, str]:
    """Every name below a folder, with what it is."""
    kinds = {path: "link" if path.is_symlink() else "folder" if path.is_dir() else "file" for path in folder.rglob("*")}
    return {str(path.relative_to(folder)): kind for path, kind in kinds.items()}


def empty(folder: Path) -> None:
    (folder / "mine/empty").mkdir(parents=True)


def linked(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")


def released(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine/.lock").touch()


BEFORE: dict[str, Callable[[Path], None]] = {
    "mine/empty": empty,
    "mine/empty/": empty,
    "mine/empty/new/deeper": empty,
    "mine/empty/../other": empty,
    "mine": released,
    "link": linked,
    "link/new": linked,
    ".": lambda folder: None,
    "new": lambda folder: None,
}


@pytest.mark.parametrize("name", BEFORE)
@pytest.mark.parametrize("absolute", [True, False])
def test_what_was_there_before_a_refused_run_is_there_after_it(
    name: str, absolute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    BEFORE[name](tmp_path)
    before = tree(tmp_path)
    with (
        pytest.raises(InputError, match="no such data"),
        RunFolder(tmp_path / name if absolute else Path(name), {}).locked(),
    ):
        raise InputError("no such data")
    assert tree(tmp_path) == before


def test_a_configuration_of_the_users_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("my: own\n")
    with pytest.raises(InputError, match=r"holds 'config\.yaml' but no evolution"), RunFolder(tmp_path, {}).locked():
        pytest.fail("the folder was taken")
    assert tree(tmp_path) == {"config.yaml": "file"}


def test_a_folder_of_the_users_with_rounds_in_it_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "rounds/photos").mkdir(parents=True)
    (tmp_path / f"rounds/photos/a.{16 * '0'}.partial").touch()
    before = tree(tmp_path)
    folder = RunFolder(tmp_path, {})
    with pytest.raises(InputError, match=r"fingerprint\.json: missing"), folder.locked():
        folder.claim("")
    assert tree(tmp_path) == before


def test_what_a_run_has_written_stays_when_it_fails(tmp_path: Path) -> None:
    with contextlib.suppress(InputError), RunFolder(tmp_path / "a/b", {}).locked():
        (tmp_path / "a/b/fingerprint.json").touch()
        raise InputError("later")
    assert tree(tmp_path) == {"a": "folder", "a/b": "folder", "a/b/.lock": "file", "a/b/fingerprint.json": "file"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("file", "file: is a file, expected a folder or a free name; give another path"),
        ("nowhere", "nowhere: is a link that leads nowhere, expected a folder"),
        ("file/below", r"file/below: cannot be written \(Not a directory\)"),
        ("new/" + "x" * 300, r"cannot be written \(File name too long\)"),
        ("locked", r"locked: cannot be written \(Is a directory\)"),
    ],
)
def test_a_folder_that_cannot_be_one_is_refused_in_a_sentence(name: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "locked/.lock").mkdir(parents=True)
    before = tree(tmp_path)
    with pytest.raises(InputError, match=sentence), RunFolder(tmp_path / name, {}).locked():
        pytest.fail("the folder was taken")
    assert tree(tmp_path) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_a_place_that_takes_nothing_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: Path, *further: object, **options: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(InputError, match=r"new: cannot be written \(Read-only file system\)"):
        make_folder(tmp_path / "new")


@pytest.mark.parametrize("folder", [".", "mine/empty"])
def test_evolve_with_a_misspelt_path_says_so_and_leaves_the_folder(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/empty").mkdir(parents=True)
    if folder == ".":
        monkeypatch.chdir(tmp_path / "mine/empty")
    arguments = ["data=json", "data.path=/nowhere/rows.jsonl", "model=tiny", f"folder={folder}", "logger=none"]
    monkeypatch.setattr(sys, "argv", ["diverseevol", "evolve", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "/nowhere/rows.jsonl: no such file" in capsys.readouterr().err
    assert tree(tmp_path) == {"mine": "folder", "mine/empty": "folder"}
