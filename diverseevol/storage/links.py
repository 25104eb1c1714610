"""Links in folders from other people: one that leads out of its folder could be any file of the reader's."""

import os
from collections.abc import Iterator
from pathlib import Path

from diverseevol.errors import InputError

READ_FILES = (".jsonl", ".json", ".yaml", ".npy")  # what commands read of a run folder, by its ending
READ_FOLDERS = {"rounds", "answers", "judgements", "questions", "rows"}  # folders of a run or round that are read


def refuse_files_from_outside(run: Path) -> None:
    """Refuse a run folder that has a file, or a folder with files, by a link out of it.

    Raises:
        InputError: it has.
    """
    for link in _links(run):
        if link.suffix in READ_FILES or link.name in READ_FOLDERS or link.parent.name == "rounds":
            refuse_from_outside(link, run)


def refuse_from_outside(file: Path, folder: Path) -> None:
    """Refuse a file that is read by a link out of the folder that it belongs to.

    Raises:
        InputError: it is one.
    """
    if not Path(os.path.realpath(file)).is_relative_to(folder.resolve()):
        kind = "folder" if file.is_dir() else "file"
        raise InputError(
            f"{file}: is a link to a {kind} outside of its run folder, whose content would be sent to a judge, shown, "
            f"logged or copied; put the {kind} itself there, or leave this run folder out"
        )


def _links(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            path = Path(parent, name)
            if path.is_symlink():
                yield path
