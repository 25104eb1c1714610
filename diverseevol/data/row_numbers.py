"""Row numbers in a file: a JSON list, what `diverseevol select` wrote, or a run's rows or receipts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diverseevol.errors import InputError
from diverseevol.runs.subset import PICKS, RECEIPTS, SELECTED
from diverseevol.storage.files import read_json, read_numbered
from diverseevol.storage.reading import opened

EXPECTED = (
    "give a JSON list of row numbers such as [0, 17], the P.json that diverseevol select wrote, or the selected.jsonl "
    "or receipts.jsonl of a run"
)


def read_row_numbers(option: str, path: str, rows: int) -> list[int]:
    """The rows that a file lists, each once.

    Args:
        option: what names the file, for messages.
        path: the file, or the folder of a run or a choice, whose `picks.json` also has the rows taken before. Rows
            that have receipts beside them are those of the receipts, whatever fields they have themselves.
        rows: how many there are.

    Raises:
        InputError: the file cannot be read, or an entry is not a row or is a repetition.
    """
    path = _listing(path)
    seen: dict[int, None] = {}
    for position, row in _entries(option, path):
        problem = None
        if type(row) is not int:
            problem = f"expected a row number, got {row!r}; {EXPECTED}"
        elif not 0 <= row < rows:
            problem = f"expected a row from 0 to {rows - 1}, got {row}; give a file for these rows"
        elif row in seen:
            problem = f"row {row} is listed twice; remove one of them"
        if problem:
            raise InputError(f"{option}={path}, {position}: {problem}")
        seen[row] = None
    return list(seen)


def _listing(path: str) -> str:
    """The file that has the numbers of the rows in a folder, or in `selected.jsonl`."""
    file = Path(path).expanduser()
    if file.is_dir():
        return str(next((file / name for name in (PICKS, RECEIPTS, SELECTED) if (file / name).exists()), path))
    receipts = file.with_name(RECEIPTS)
    return str(receipts) if file.name == SELECTED and receipts.exists() else path


def _entries(option: str, path: str) -> Iterator[tuple[str, Any]]:
    """What should be row numbers, each with its position in the file.

    They are all of a list, all that was in by the end of `select`'s own output, and the fields `row` of JSONL.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise InputError(f"{option}={path}: is a folder without {RECEIPTS}; {EXPECTED}")
    with opened(file, f"{option}={path}") as stream:
        character = stream.read(1)
    if file.suffix == ".jsonl" and character == b"{":
        for number, record in read_numbered(file):
            if "row" not in record:
                raise InputError(f"{option}={path}, line {number}: has no field 'row'; {EXPECTED}")
            yield f"line {number}", record["row"]
        return
    content = read_json(file, f"as {option}=… {EXPECTED}")
    lists = {"": content}
    if isinstance(content, dict):
        lists = {f"{name}, ": content.get(name) for name in ("taken", "chosen")}
    if not all(isinstance(entries, list) for entries in lists.values()):
        kind = "a JSON object without the lists taken and chosen" if isinstance(content, dict) else f"{content!r:.40}"
        raise InputError(f"{option}={path}: expected row numbers, got {kind}; {EXPECTED}")
    for name, entries in lists.items():
        for number, row in enumerate(entries, start=1):
            yield f"{name}entry {number}", row
