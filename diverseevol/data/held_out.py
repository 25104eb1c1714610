"""Held-out rows: never trained on, the same for every sampler and seed, so that a loss on them needs no judge."""

import zlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from diverseevol.data.conversation import Conversation
from diverseevol.data.row_numbers import read_row_numbers
from diverseevol.errors import InputError

NAMED, LONGEST = 8, 40  # fields or values in a message, and letters of each


def held_out_rows(
    rows: int, batches: Iterable[Sequence[Conversation]], held_out: int | str, seed: int
) -> Int[np.ndarray, " held_out"]:
    """Which rows are held out, ascending.

    Args:
        rows: how many there are.
        batches: all of them in order; read only where a field says which.
        held_out: how many, drawn at random (fewer are the start of more); or a file of row numbers; or the name of a
            field that is true in the rows that are held out, or NAME:VALUE for a field with this value.
        seed: of the drawing; not the evolution's, so that all seeds are measured on the same rows.

    Raises:
        InputError: there are fewer rows, or the file or field names none.
    """
    if isinstance(held_out, int):
        if not 0 <= held_out < rows:
            raise InputError(f"data.held_out is {held_out}, but there are {rows:,} rows; give 0 to {rows - 1:,}")
        rng = np.random.default_rng([seed, zlib.crc32(b"held out")])
        return np.sort(rng.permutation(rows)[:held_out]).astype(np.int64)
    if Path(held_out).suffix.lower() in (".json", ".jsonl"):
        if not (numbers := sorted(read_row_numbers("data.held_out", held_out, rows))):
            raise InputError(f"data.held_out={held_out}: names no row; give a file that names some, or data.held_out=0")
        return np.array(numbers, dtype=np.int64)
    name, _, value = held_out.partition(":")
    chosen, names, values = [], set[str](), set[str]()
    for row, conversation in enumerate(conversation for batch in batches for conversation in batch):
        names |= conversation.extra.keys()
        content = conversation.extra.get(name)
        if len(values) <= NAMED and content is not None:
            values.add(_as_written(content))
        if _says(content, value):
            chosen.append(row)
    if not chosen or len(chosen) == rows:
        raise InputError(f"data.held_out={held_out}: {_why(name, value, names, values, bool(chosen))}")
    return np.array(chosen, dtype=np.int64)


def _says(content: object, value: str) -> bool:
    if value:
        return content is not None and _as_written(content) == (value.lower() if isinstance(content, bool) else value)
    return content not in (None, False, 0, "") and str(content).lower() not in ("false", "no", "0")


def _as_written(content: object) -> str:
    return str(content).lower() if isinstance(content, bool) else str(content)


def _why(name: str, value: str, names: Collection[str], values: Collection[str], every: bool) -> str:
    """Why a field holds no row out, or all of them, and what to give."""
    if name not in names:
        choices = _list(names) if names else "there is none"
        return (
            f"no row has a field {name!r} besides those of its instruction, input and response; give one of its "
            f"other fields ({choices}), a number of rows, or a .json or .jsonl file of row numbers"
        )
    share = "every row" if every else "no row"
    return (
        f"{share} has {repr(value) if value else 'a true value'} in its field {name!r} (its values: {_list(values)}); "
        f"give NAME:VALUE with a value that some rows have, a number of rows, or a .json or .jsonl file of row numbers"
    )


def _list(words: Collection[str]) -> str:
    more = ", …" if len(words) > NAMED else ""
    return ", ".join(word if len(word) <= LONGEST else word[:LONGEST] + "…" for word in sorted(words)[:NAMED]) + more
