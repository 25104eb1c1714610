"""Which rows `diverseevol select` may not choose: those that are in already, and those without a response."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from diverseevol.errors import InputError
from diverseevol.files import read_json, read_jsonl
from diverseevol.reading import opened

EXPECTED = (
    "give a JSON list of row numbers such as [0, 17], the P.json that diverseevol select wrote, or the selected.jsonl "
    "of a run"
)


def taken_rows(path: str | None, response_tokens: Int[np.ndarray, " rows"], n: int) -> Bool[np.ndarray, " rows"]:
    """True for the rows that a file names, and for those without a response token.

    Raises:
        InputError: the file does not name rows, or fewer than n are left.
    """
    rows = len(response_tokens)
    named = _named(path, rows)
    taken: Bool[np.ndarray, " rows"] = response_tokens == 0
    empty = int(taken.sum())
    taken[named] = True
    left = int((~taken).sum())
    if n > left:
        parts = [f"taken={path} names {len(named):,}"] if named else []
        parts += [f"{empty:,} {'has' if empty == 1 else 'have'} no response token"] if empty else []
        why = f", for {' and '.join(parts)}" if parts else ""
        remedies = [*(["lower n"] if left else []), *(["take fewer"] if named else []), "bring more rows"]
        raise InputError(
            f"n={n}: {left:,} of {rows:,} rows {'is' if left == 1 else 'are'} left to choose from{why}; "
            f"{', '.join(remedies[:-1])}{' or ' * (len(remedies) > 1)}{remedies[-1]}"
        )
    return taken


def _named(path: str | None, rows: int) -> list[int]:
    """The rows that a file names, each once."""
    seen: dict[int, None] = {}
    for place, row in _entries(path) if path is not None else ():
        problem = None
        if not isinstance(row, int) or isinstance(row, bool):
            problem = f"is no whole number; {EXPECTED}"
        elif not 0 <= row < rows:
            problem = f"is not a row: there are {rows}, from 0 to {rows - 1}; give a file that belongs to these rows"
        elif row in seen:
            problem = "stands there twice; correct the file"
        if problem:
            raise InputError(f"taken={path}, {place}: {row!r} {problem}")
        seen[row] = None
    return list(seen)


def _entries(path: str) -> Iterator[tuple[str, Any]]:
    """What should be row numbers, each with its place.

    Of a list all of it, of `select`'s own output all that was in by its end, of a run's JSONL what it calls row.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise InputError(f"taken={path}: is a folder; {EXPECTED}")
    with opened(file, f"taken={path}") as content:
        first = content.read(1)
    if file.suffix == ".jsonl" and first == b"{":
        for number, record in enumerate(read_jsonl(file), start=1):
            if "row" not in record:
                raise InputError(f"taken={path}, record {number}: has no field 'row'; {EXPECTED}")
            yield f"record {number}", record["row"]
        return
    given = read_json(file, f"as taken=… {EXPECTED}")
    lists = {"": given}
    if isinstance(given, dict):
        lists = {f"{name}, ": given.get(name) for name in ("taken", "chosen")}
    if not all(isinstance(each, list) for each in lists.values()):
        found = "a JSON object without the lists taken and chosen" if isinstance(given, dict) else f"{given!r:.40}"
        raise InputError(f"taken={path}: {found} where row numbers belong; {EXPECTED}")
    for name, listed in lists.items():
        for number, row in enumerate(listed, start=1):
            yield f"{name}place {number}", row
