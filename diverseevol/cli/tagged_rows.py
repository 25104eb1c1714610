"""What is known of the rows beside what they say, told once before anything is done with them, and listed."""

from collections.abc import Iterator
from pathlib import Path

from diverseevol.data.tags import DUPLICATE, NEAR, Tags
from diverseevol.storage.files import write_jsonl

LIST = "tags.jsonl"


def tagged(tags: Tags) -> Iterator[str]:
    """A sentence for each kind of tag that a user may want to act on."""
    counts = tags.counts()
    copies = {name: counts[kind] for kind, name in ((DUPLICATE, "equal"), (NEAR, "nearly equal")) if kind in counts}
    if copies:
        listed = " and ".join(f"{count:,} {name}" for name, count in copies.items())
        rows = "row" if sum(copies.values()) == 1 else "rows"
        yield f"{listed} {rows} repeat{'s' if rows == 'row' else ''} an earlier row"


def list_tagged(file: Path, tags: Tags) -> None:
    """List the rows that have a tag, a line {row, tags} each; no file where none has."""
    if rows := tags.rows():
        write_jsonl(file, ({"row": row, "tags": tags.of(row)} for row in rows))
