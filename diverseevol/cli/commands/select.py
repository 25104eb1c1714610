"""`diverseevol select`: one selection without any training, by embeddings of the user's or of the foundation model."""

import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from diverseevol.cli.checked_options import SelectOptions
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.output_files import choice_file
from diverseevol.cli.taken import taken_rows
from diverseevol.errors import InputError
from diverseevol.evolution.receipts import distances
from diverseevol.geometry.row_blocks import check_finite
from diverseevol.output.terminal import say
from diverseevol.samplers.base import Needs, Sampler, Selection, choose, pool_of
from diverseevol.samplers.features import Features
from diverseevol.storage.files import write_json
from diverseevol.storage.reading import load_array


@dataclass(frozen=True)
class Choice:
    """A selection, the rows that were in the pool before it, and how long it took."""

    selection: Selection
    pool: Int[np.ndarray, " pool"]
    seconds: float


def run(settings: Configuration) -> None:
    """Choose, and write what was chosen."""
    options = settings.options("", SelectOptions)
    out = choice_file(settings)
    sampler: Sampler = settings.part("sampler")
    name = settings.choices["sampler"]
    if sampler.needs.committee or sampler.needs.earlier:
        raise InputError(f"sampler={name} asks a committee of models that only diverseevol evolve trains; use that")
    given = settings.value("data") is not None
    if given == (options.embeddings is not None) and (given or options.lengths is None):
        both = "both data and embeddings are" if given else "neither data nor embeddings are"
        rows = "data=… and model=…" if sampler.needs != Needs(columns=sampler.needs.columns) else "data=…"
        raise InputError(f"{both} given; give embeddings=E.npy, or {rows} such as data=json data.path=rows.jsonl")
    if options.threads is not None:
        import torch

        torch.set_num_threads(options.threads)
    if given:
        # Here, for it imports for seconds what embeddings of the user's do not need.
        from diverseevol.cli.commands.subset import select_subset

        select_subset(settings, options, sampler, out)
        return
    features = _brought(options, sampler.needs, name)
    taken = taken_rows(options.taken, features.response_tokens, options.n)
    if sampler.needs.space != "none":  # what these compute with is imported for seconds: not on the sampler's clock
        for module in ("diverseevol.geometry.farthest_first", "sklearn.cluster"):
            importlib.import_module(module)
    choice = chosen(sampler, features, taken, options)
    report = described(settings, choice, features)
    write_json(out, report)
    took = f"{options.n:,} of {features.rows:,} rows by {name} in {choice.seconds:.1f} s"
    for line in (took, *fall(report["distance"]), f"writes {out}"):
        say(line, error=True)


def chosen(sampler: Sampler, features: Features, taken: Bool[np.ndarray, " rows"], options: SelectOptions) -> Choice:
    """Ask the sampler, with the rows taken as the pool; of these, rows without a response are not in it."""
    began = time.perf_counter()
    selection = choose(sampler, features, taken, options.n, np.random.default_rng(options.seed))
    return Choice(selection, pool_of(features, taken), time.perf_counter() - began)


def described(settings: Configuration, choice: Choice, features: Features) -> dict[str, Any]:
    """What `out` says of a choice, each list in pick order."""
    distance, nearest = distances(features.embedding, choice.selection.rows, choice.pool)
    given = settings.value("sampler")
    return {
        "chosen": choice.selection.rows.tolist(),
        "score": choice.selection.score.tolist(),
        "score_is": choice.selection.meaning,
        "distance": distance,
        "nearest": nearest,
        "taken": choice.pool.tolist(),
        "sampler": settings.choices["sampler"],
        "options": {key: value for key, value in given.items() if not key.startswith("_")},
        "seconds": round(choice.seconds, 6),
    }


def fall(distance: list[float | None]) -> list[str]:
    """Lines that say how far the picks were from what was in before each, and how many of them equal a row of that."""
    known = [each for each in distance if each is not None]
    if not known:
        return []
    alone = distance[0] is None  # nothing was in before the first pick
    before = "picked before" if alone else "taken or picked before"
    told = f"distance to the nearest row {before}: {known[0]:.4g}"
    if alone or len(known) > 1:
        told += " at the second" if alone else " at first"
    if len(known) > 1:
        told += f", {known[-1]:.4g} at the end"
    lines = [told]
    if alone:
        lines.append("(nothing was in before the first pick)")
    if copies := sum(each == 0 for each in known):
        lines.append(f"{copies:,} of them equal a row {before}")
    return lines


def _brought(options: SelectOptions, needs: Needs, name: str) -> Features:
    """What the user brings, as far as the sampler can do with it.

    Raises:
        InputError: the sampler needs more, or a file does not hold what it should.
    """
    if needs.columns:
        raise InputError(
            f"sampler={name} needs the rows' own fields ({', '.join(sorted(needs.columns))}), which embeddings do not "
            f"hold; give data=… and model=…, or a sampler of embeddings such as kcenter"
        )
    if needs.statistics:
        raise InputError(
            f"sampler={name} needs a model's predictions ({', '.join(sorted(needs.statistics))}), which embeddings do "
            f"not hold; give data=… and model=…, or a sampler of embeddings such as kcenter"
        )
    if needs.lengths and options.lengths is None:
        raise InputError(f"sampler={name} needs the lengths of the responses; give lengths=L.npy, whole numbers [rows]")
    if needs.space != "none" and options.embeddings is None:
        raise InputError(f"sampler={name} needs embeddings; give embeddings=E.npy, [rows, dim]")
    X = None if options.embeddings is None else _embeddings(options.embeddings)
    rows = None if X is None else len(X)
    tokens = np.ones(rows or 0, dtype=np.int64) if options.lengths is None else _lengths(options.lengths, rows)
    return Features(tokens, X)


def _embeddings(path: str) -> Float[np.ndarray, "rows dim"]:
    X = _array(path, "embeddings")
    if X.ndim != 2 or not X.shape[1] or X.dtype not in (np.float32, np.float16):
        raise InputError(
            f"embeddings={path}: an array {_shown(X)} where [rows, dim] of float16 or float32 belongs; "
            f"save it with numpy.save(path, array.astype('float32'))"
        )
    check_finite(X)
    return X


def _lengths(path: str, rows: int | None) -> Int[np.ndarray, " rows"]:
    """The lengths of so many responses; None: of however many there are."""
    tokens = _array(path, "lengths")
    fits = tokens.ndim == 1 and rows in (None, len(tokens))
    if not fits or tokens.dtype.kind not in "iu" or (tokens < 0).any():
        raise InputError(
            f"lengths={path}: an array {_shown(tokens)} where [{rows or 'rows'}] whole numbers from 0 on belong; "
            f"give the tokens of each row's response"
        )
    return tokens.astype(np.int64)


def _array(path: str, what: str) -> np.ndarray:
    return load_array(Path(path).expanduser(), f"{what}={path}")


def _shown(array: np.ndarray) -> str:
    return f"[{', '.join(map(str, array.shape))}] of {array.dtype}"
