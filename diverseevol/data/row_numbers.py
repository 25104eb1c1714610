"""Row numbers in a file: a JSON list, what `diverseevol select` wrote, or a run's `selected.jsonl`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diverseevol.errors import InputError
from diverseevol.storage.files import read_json, read_jsonl
from diverseevol.storage.reading import opened

EXPECTED = (
    "give a JSON list of row numbers such as [0, 17], the P.json that diverseevol select wrote, or the selected.jsonl "
    "of a run"
)


def read_row_numbers(option: str, path: str, rows: int) -> list[int]:
    """The rows that a file names, each once.

    Args:
        option: the option that names the file, for messages.
        path: the file.
        rows: how many rows there are.

    Raises:
        InputError: the file cannot be read, or what it names is not a row, or is one twice.
    """
    seen: dict[int, None] = {}
    for place, row in _entries(option, path):
        problem = None
        if not isinstance(row, int) or isinstance(row, bool):
            problem = f"is no whole number; {EXPECTED}"
        elif not 0 <= row < rows:
            problem = f"is not a row: there are {rows}, from 0 to {rows - 1}; give a file that belongs to these rows"
        elif row in seen:
            problem = "stands there twice; correct the file"
        if problem:
            raise InputError(f"{option}={path}, {place}: {row!r} {problem}")
        seen[row] = None
    return list(seen)


def _entries(option: str, path: str) -> Iterator[tuple[str, Any]]:
    """What should be row numbers, each with its place.

    Of a list all of it, of `select`'s own output all that was in by its end, of a run's JSONL what it calls row.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise InputError(f"{option}={path}: is a folder; {EXPECTED}")
    with opened(file, f"{option}={path}") as content:
        first = content.read(1)
    if file.suffix == ".jsonl" and first == b"{":
        for number, record in enumerate(read_jsonl(file), start=1):
            if "row" not in record:
                raise InputError(f"{option}={path}, record {number}: has no field 'row'; {EXPECTED}")
            yield f"record {number}", record["row"]
        return
    given = read_json(file, f"as {option}=… {EXPECTED}")
    lists = {"": given}
    if isinstance(given, dict):
        lists = {f"{name}, ": given.get(name) for name in ("taken", "chosen")}
    if not all(isinstance(each, list) for each in lists.values()):
        found = "a JSON object without the lists taken and chosen" if isinstance(given, dict) else f"{given!r:.40}"
        raise InputError(f"{option}={path}: {found} where row numbers belong; {EXPECTED}")
    for name, listed in lists.items():
        for number, row in enumerate(listed, start=1):
            yield f"{name}place {number}", row
