"""What is known of the rows beside what they say, told once before anything is done with them, and listed."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diverseevol.data.contamination import HELD_OUT
from diverseevol.data.tags import DUPLICATE, NEAR, Tags
from diverseevol.report.contamination import CONTAMINATION
from diverseevol.storage.files import write_jsonl


def tagged(tags: Tags, contamination: str = CONTAMINATION) -> Iterator[str]:
    """A sentence for each kind of tag that a user may want to act on.

    Args:
        tags: of all rows.
        contamination: the file that lists which rows hold which questions.
    """
    counts = tags.counts()
    copies = {name: counts[kind] for kind, name in ((DUPLICATE, "equal"), (NEAR, "nearly equal")) if kind in counts}
    if copies:
        listed = " and ".join(f"{count:,} {name}" for name, count in copies.items())
        yield f"{listed} {'row repeats' if sum(copies.values()) == 1 else 'rows repeat'} an earlier row"
    for name in dict.fromkeys(overlap.benchmark for overlap in tags.overlaps):
        overlaps = [overlap for overlap in tags.overlaps if overlap.benchmark == name]
        rows, questions = len({overlap.row for overlap in overlaps}), len({overlap.question for overlap in overlaps})
        of = "held-out rows" if name == HELD_OUT else f"benchmark {name}"
        yield (
            f"{rows:,} {'row contains' if rows == 1 else 'rows contain'} {questions:,} "
            f"question{'' if questions == 1 else 's'} of {of}: what is measured there may be too good ({contamination})"
        )


def list_tagged(file: Path, tags: Tags) -> None:
    """List the rows that have a tag, a line {row, tags} each; no file where none has."""
    _list(file, [{"row": row, "tags": tags.of(row)} for row in tags.rows()])


def list_contamination(file: Path, tags: Tags) -> None:
    """List which rows hold which questions; no file where none does."""
    _list(file, [asdict(overlap) for overlap in tags.overlaps])


def _list(file: Path, lines: list[dict[str, Any]]) -> None:
    if lines:
        write_jsonl(file, lines)
    else:  # what was there is of questions that were asked before
        file.unlink(missing_ok=True)
