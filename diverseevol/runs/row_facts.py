"""What a folder keeps of every row of its data set, in `rows/`: enough to say why a row was not chosen.

It is of one pool: in a run folder the last round's (where rounds are added, it is written anew), in the folder of a
choice the rows chosen and taken.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from diverseevol.errors import InputError
from diverseevol.storage.files import atomic_write, read_jsonl, write_jsonl
from diverseevol.storage.reading import load_array

FOLDER = "rows"
BEYOND = "beyond.npy"
MOST_TEXTS = 100_000  # rows of a data set, beyond which only the pool's texts are kept
REMEDY = "delete the folder and run the same command again, which writes it anew and trains nothing"


@dataclass(frozen=True, eq=False)
class RowFacts:
    """Facts about all rows, aligned with the data set.

    Attributes:
        nearest: [rows] the row of the pool that is nearest (in a run: in the foundation model's space); of a row of
            the pool, itself; −1 where rows were not compared.
        distance: [rows] how far that one is; NaN where rows were not compared.
        response_tokens: [rows] tokens of the response after truncation; 0 for a row that cannot be trained on.
        texts: the beginning of what is asked, by row; of the pool alone where there are more rows than `MOST_TEXTS`.
    """

    nearest: Int[np.ndarray, " rows"]
    distance: Float[np.ndarray, " rows"]
    response_tokens: Int[np.ndarray, " rows"]
    texts: Mapping[int, str]

    @property
    def pool(self) -> Int[np.ndarray, " pool"]:
        """The rows of the pool that the facts are of, ascending."""
        return np.flatnonzero(self.nearest == np.arange(len(self.nearest)))

    @property
    def candidates(self) -> Int[np.ndarray, " candidates"]:
        """The rows that might have been chosen and were not, ascending."""
        return np.flatnonzero((self.response_tokens > 0) & (self.nearest != np.arange(len(self.nearest))))


def write_row_facts(parent: Path, facts: RowFacts) -> None:
    """Write the facts; `nearest.npy`, which says of which pool they are, comes last."""
    folder = parent / FOLDER
    (folder / "nearest.npy").unlink(missing_ok=True)
    write_jsonl(folder / "texts.jsonl", ({"row": row, "text": text} for row, text in facts.texts.items()))
    for name in ("distance", "response_tokens", "nearest"):
        _write_array(folder / f"{name}.npy", getattr(facts, name))


def read_row_facts(parent: Path, pool: Iterable[int]) -> RowFacts | None:
    """The facts of a folder; None where it has none of this pool.

    Args:
        parent: the run folder, or that of a choice.
        pool: the rows of which the facts must be.

    Raises:
        InputError: a file is damaged.
    """
    folder = parent / FOLDER
    if not (folder / "nearest.npy").exists():
        return None
    nearest = _array(folder / "nearest.npy", "i", None)
    known = np.flatnonzero(nearest == np.arange(len(nearest)))
    if not np.array_equal(known, np.sort(np.fromiter(pool, dtype=np.int64))):
        return None
    if not np.isin(nearest, [*known, -1]).all():
        raise InputError(f"{folder / 'nearest.npy'}: names rows that are not in the pool; {REMEDY}")
    texts = {}
    for line in read_jsonl(folder / "texts.jsonl", REMEDY):
        if type(row := line.get("row")) is not int or not isinstance(text := line.get("text"), str):
            raise InputError(f"{folder / 'texts.jsonl'}: expected a row number and a text in each line; {REMEDY}")
        texts[row] = text
    distance = _array(folder / "distance.npy", "f", len(nearest))
    return RowFacts(nearest, distance, _array(folder / "response_tokens.npy", "i", len(nearest)), texts)


def write_beyond(parent: Path, order: Int[np.ndarray, " more"]) -> None:
    """Keep in which order a sampler went on from the pool."""
    _write_array(parent / FOLDER / BEYOND, order)


def read_beyond(parent: Path, facts: RowFacts, count: int) -> Int[np.ndarray, " more"] | None:
    """In which order a sampler went on from the pool; None where it is not known for so many rows.

    Args:
        parent: the run folder, or that of a choice.
        facts: of the same folder.
        count: how many rows it must at least have picked.

    Raises:
        InputError: the file is damaged.
    """
    file = parent / FOLDER / BEYOND
    if not file.exists():
        return None
    order = _array(file, "i", None)
    # Of an earlier pool, the first rows have joined.
    return order if len(order) >= count and np.isin(order, facts.candidates).all() else None


def _write_array(file: Path, values: np.ndarray) -> None:
    with atomic_write(file, "wb") as out:
        np.save(out, values)


def _array(file: Path, kind: str, rows: int | None) -> np.ndarray:
    values = load_array(file, remedy=REMEDY)
    if values.ndim != 1 or values.dtype.kind != kind or rows not in (None, len(values)):
        numbers = "whole numbers" if kind == "i" else "floats"
        raise InputError(
            f"{file}: expected an array [{'rows' if rows is None else rows}] of {numbers}, got "
            f"{values.dtype}{list(values.shape)}; {REMEDY}"
        )
    return np.asarray(values)
