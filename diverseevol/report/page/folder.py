"""The folder of a report: which folders one may be written to, and the page by which an earlier report is known.

The page is the first file that a report writes into a new folder, so that a report that was killed is known by it, too.
"""

import os
from html import escape
from pathlib import Path

from diverseevol.errors import InputError
from diverseevol.storage.files import atomic_write, is_temporary
from diverseevol.storage.reading import opened

PAGE = "report.html"
TITLE = "Which rows are worth training on"
HEAD = f'<link rel="icon" href="data:,"><title>{escape(TITLE)}</title>'  # near the start of each page
UNFINISHED = (
    f'<!doctype html><html lang="en"><head><meta charset="utf-8">{HEAD}</head><body><p>This report was not finished; '
    f"run the same command again.</p></body></html>\n"
)


def holds_report(folder: Path) -> bool:
    """Whether a report was written to the folder, or begun."""
    try:
        with opened(folder / PAGE) as file:
            return HEAD.encode() in file.read(1 << 12)
    except (OSError, InputError):
        return False


def begin(out: Path) -> None:
    """Mark a new folder as a report's; an earlier report keeps its page until the new one is complete."""
    if not holds_report(out):
        with atomic_write(out / PAGE) as file:
            file.write(UNFINISHED)


def refuse_foreign(out: Path, requested: str | None) -> None:
    """A folder with other things in it is left alone: nothing of the user's is written over.

    Args:
        out: the folder that is to get the report.
        requested: what the user called it; None for the default.

    Raises:
        InputError: it is a file, or holds something and no report.
    """
    if requested == "":
        raise InputError("out is empty: give out=… a new folder, or leave it out for one beside what is read")
    if out.is_file():
        raise InputError(f"{out}: is a file, expected a folder; give out=… a new folder, or an earlier report's")
    if not out.is_dir() or not os.access(out, os.R_OK) or holds_report(out):
        return
    names = sorted(file.name for file in out.iterdir())
    foreign = [name for name in names if not (name.startswith(f"{PAGE}.") and is_temporary(name))]
    if foreign:
        raise InputError(
            f"{out}: holds {foreign[0]!r} but no report; give out=… a new folder, an empty one, or an earlier report's"
        )
