"""Held-out rows: never trained on, the same for every sampler and seed, so that a loss on them needs no judge."""

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from diverseevol.errors import InputError
from diverseevol.formats import Example
from diverseevol.row_numbers import read_row_numbers

INTERVAL = 1.959964  # standard errors on either side of a 95 % interval


class Loss(NamedTuple):
    """A mean loss with its 95 % interval over rows, in nats per response token."""

    mean: float
    low: float
    high: float


def held_out_rows(
    rows: int, batches: Iterable[Sequence[Example]], held_out: int | str, seed: int
) -> Int[np.ndarray, " held_out"]:
    """Which rows are held out, ascending.

    Args:
        rows: how many there are.
        batches: all of them in order; read only where a field says which.
        held_out: how many, drawn at random (fewer are the start of more); or a file of row numbers; or the name of a
            field that is true in the rows that are held out, or NAME:VALUE for a field with this value.
        seed: of the drawing; not the evolution's, so that all seeds are measured on the same rows.

    Raises:
        InputError: there are not so many rows, or the file or field names none.
    """
    if isinstance(held_out, int):
        if not 0 <= held_out < rows:
            raise InputError(f"data.held_out is {held_out}, but there are {rows:,} rows; give 0 to {rows - 1:,}")
        rng = np.random.default_rng([seed, zlib.crc32(b"held out")])
        return np.sort(rng.permutation(rows)[:held_out]).astype(np.int64)
    if Path(held_out).suffix.lower() in (".json", ".jsonl"):
        return np.array(sorted(read_row_numbers("data.held_out", held_out, rows)), dtype=np.int64)
    name, _, value = held_out.partition(":")
    examples = (example for batch in batches for example in batch)
    chosen = [row for row, example in enumerate(examples) if _says(example.extra.get(name), value)]
    if not chosen or len(chosen) == rows:
        share = "every row" if chosen else "no row"
        raise InputError(
            f"data.held_out={held_out}: {share} has such a field {name!r}; give a number of rows, a .json or .jsonl "
            f"file of row numbers, or a field that is true (or NAME:VALUE) in the rows that are held out"
        )
    return np.array(chosen, dtype=np.int64)


def _says(found: object, value: str) -> bool:
    if value:
        return str(found) == value
    return found not in (None, False, 0, "") and str(found).lower() not in ("false", "no", "0")


def mean_loss(losses: Float[np.ndarray, " rows"], tokens: Int[np.ndarray, " rows"]) -> Loss:
    """The mean loss of a response token over some rows; the rows are what was drawn, and what the interval is over.

    Args:
        losses: [rows] each row's mean loss, in nats per response token.
        tokens: [rows] each row's response tokens.

    A ratio of two means: its standard error is that of the residuals (Cochran 1977, section 6.4).
    """
    weights = np.asarray(tokens, dtype=np.float64)
    values = np.asarray(losses, dtype=np.float64)
    mean = float((weights * values).sum() / weights.sum())
    if len(values) < 2:
        return Loss(mean, mean, mean)
    residuals = weights * (values - mean) / weights.mean()
    error = float(residuals.std(ddof=1)) / math.sqrt(len(values))
    return Loss(mean, mean - INTERVAL * error, mean + INTERVAL * error)


def as_metrics(name: str, loss: Loss) -> Mapping[str, float]:
    """A loss and the ends of its interval, by logged name."""
    low, high = interval_of(name)
    return {name: loss.mean, low: loss.low, high: loss.high}


def interval_of(name: str) -> tuple[str, str]:
    """The logged names of the ends of a loss's interval, by that of the loss."""
    head, slash, benchmark = name.partition("/")
    return f"{head}_low{slash}{benchmark}", f"{head}_high{slash}{benchmark}"
