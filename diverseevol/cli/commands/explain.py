"""`diverseevol explain`: why a row was chosen, or was not, from what the run folder keeps.

For the rank of a row had the budget been larger, the run's sampler goes on from the final pool. The folder may be a
stranger's: a sampler of the user's own is named on the command line, and embeddings come from the user's cache.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from diverseevol.cli.checked_options import sampler_of
from diverseevol.cli.configuration import QUOTA_OPTIONS, Configuration
from diverseevol.cli.fingerprint import space_key
from diverseevol.cli.output_files import results_file
from diverseevol.errors import InputError
from diverseevol.output.console import Console, results_console
from diverseevol.progress import Shown
from diverseevol.report.collect import read_run
from diverseevol.report.reasons import Reason, Reasons
from diverseevol.report.tables import status
from diverseevol.runs.row_facts import FOLDER, read_beyond, write_beyond
from diverseevol.runs.run_folder import is_at_work
from diverseevol.runs.saved_config import SavedChoice, saved_choice
from diverseevol.samplers.base import Needs, Sampler, chooses_row_by_row
from diverseevol.storage.cache import cache_folder
from diverseevol.storage.files import read_json, refuse_links, write_json
from diverseevol.storage.links import refuse_files_from_outside
from diverseevol.storage.reading import load_array
from diverseevol.storage.sealed import damage

MOST_FOUND = 10  # rows that `find` explains


@dataclass(frozen=True)
class Options:
    """Which rows, and where the reasons go; conf/explain.yaml says more."""

    folder: str
    row: Any
    find: str | None
    beyond: int
    out: str | None

    def __post_init__(self) -> None:
        if (self.row is None) == (self.find is None):
            problem = "neither row nor find is" if self.row is None else "both row and find are"
            raise InputError(f"{problem} given; give row=123, row=[1,2] or find='words of the row'")
        numbers = self.row if isinstance(self.row, list) else [self.row]
        if self.row is not None and not (numbers and all(type(row) is int and row >= 0 for row in numbers)):
            raise InputError(
                f"row={self.row}: expected a row's number from 0 on, or a list of some; give row=123 or row=[1,2]"
            )
        if self.find is not None and not self.find.split():
            raise InputError("find is empty; give words of what the row asks")
        if self.beyond < 1:
            raise InputError(f"beyond is {self.beyond}; it must be at least 1")


@dataclass(frozen=True)
class Continued:
    """How the run's sampler went on from the final pool, or why it cannot.

    Attributes:
        name: what the sampler is called.
        ranks: by row, from 1; empty where it cannot go on.
        pool: rows of the final pool.
        count: rows that it was asked for.
        left: rows that it could have chosen.
        where: in whose space, for a sentence; "" for a sampler that needs none.
        why_not: why there are no ranks.
    """

    name: str = ""
    ranks: Mapping[int, int] = field(default_factory=dict)
    pool: int = 0
    count: int = 0
    left: int = 0
    where: str = ""
    why_not: str = ""


def run(settings: Configuration) -> None:
    """Say of each row why."""
    options = settings.options("", Options)
    folder = Path(options.folder)
    if not (folder / "config.yaml").is_file() or not (folder / "fingerprint.json").is_file():
        problem = "no such folder" if not folder.exists() else "holds no config.yaml and fingerprint.json"
        raise InputError(f"folder={folder}: {problem}; give a run folder, which `diverseevol evolve` wrote")
    out = None if options.out is None else results_file(options.out, folder, "why.json")
    refuse_files_from_outside(folder)
    reasons = Reasons(read_run(folder))
    if not reasons.run.rounds:
        raise InputError(f"folder={folder}: no round is complete yet; ask again when the first one is")
    console = results_console()
    rows = _rows(options, reasons)
    explained = [reasons.of(row) for row in (rows if options.find is None else rows[:MOST_FOUND])]
    saved = saved_choice(reasons.run.config, "sampler", folder / "config.yaml")
    name = reasons.run.line.sampler if saved is None else saved.choice
    behind = any(reason.nearest is not None for reason in explained)
    continued = _continued(settings, options.beyond, reasons, saved, name) if behind else Continued()
    for reason in explained:
        heading, *details = _sentences(reason, reasons, name, continued)
        console.print(heading, style="bold")
        for line in details:
            console.print(f"  {line}")
    if len(rows) > len(explained):
        console.print(f"{len(rows) - len(explained):,} more rows have these words; give more of them, or row=NUMBER")
    if out is not None:
        write_json(out, [_record(reason, continued) for reason in explained])
        console.print(f"writes {out}")


def _rows(options: Options, reasons: Reasons) -> Sequence[int]:
    """The rows that are asked for.

    Raises:
        InputError: there is no such row, or none has the words.
    """
    folder, facts = options.folder, reasons.facts
    if options.find is not None:
        if facts is None:
            raise InputError(f"find={options.find!r}: {_without_facts(reasons)}; or give row=NUMBER")
        if not (rows := reasons.find(options.find)):
            of = "all rows" if len(facts.texts) == len(facts.nearest) else "the pool, whose texts alone are kept"
            raise InputError(
                f"find={options.find!r}: no row has all of these words in the beginning of what it asks (of {of}); "
                f"give fewer words, or row=NUMBER"
            )
        return rows
    rows = options.row if isinstance(options.row, list) else [options.row]
    count = None if facts is None else len(facts.nearest)
    for row in rows:
        if count is not None and row >= count:
            raise InputError(
                f"row={row}: there is no such row, for {folder} chose from rows 0 to {count - 1:,}; give another "
                f"number, or find='words of the row'"
            )
    return rows


def _without_facts(reasons: Reasons) -> str:
    """Why the folder says nothing of rows that were not chosen, and what to do."""
    run = reasons.run
    if not run.complete:
        at_work = ", and an evolution is at work" if is_at_work(run.folder) else ""
        return f"nothing is known of rows not chosen before the evolution ends ({status(run)}{at_work})"
    return (
        f"{run.folder} keeps nothing of rows not chosen (it has no rows/ of its last pool); run the same `diverseevol "
        f"evolve` again, which writes it and trains nothing"
    )


def _continued(
    settings: Configuration, beyond: int, reasons: Reasons, saved: SavedChoice | None, name: str
) -> Continued:
    """Let a sampler go on from the final pool, where it can; what the run's own did is kept in the run folder."""
    facts, folder = reasons.facts, reasons.run.folder
    assert facts is not None
    pool, left = len(facts.pool), len(facts.candidates)
    count = min((beyond - 1) * pool, left)
    sampler, own = _sampler(settings, saved), settings.value("sampler") is None
    if isinstance(sampler, str):
        return Continued(why_not=sampler)
    if not own:
        name = type(sampler).__name__ if settings.choices["sampler"] == "null" else settings.choices["sampler"]
    if why_not := _cannot_go_on(sampler, name):
        return Continued(why_not=why_not)
    with_space = sampler.needs.space != "none"
    where = " in the foundation model's space" if with_space else ""
    order = read_beyond(folder, facts, count) if own else None
    if order is None:
        X = _foundation_embedding(settings, folder, len(facts.nearest)) if with_space else None
        if isinstance(X, str):
            return Continued(why_not=X)
        # Slow imports, after what can be refused without them.
        from diverseevol.evolution.left_behind import order_beyond

        with Shown(Console(stderr=True)).track(f"let {name} choose more rows", count) as advance:
            order = order_beyond(sampler, facts, X, count)
            advance(count)
        if own and count and os.access(folder / FOLDER, os.W_OK):
            refuse_links(folder)
            write_beyond(folder, order)
    ranks = {int(row): rank for rank, row in enumerate(order[:count], start=1)}
    return Continued(name, ranks, pool, count, left, where)


def _sampler(settings: Configuration, saved: SavedChoice | None) -> Sampler | str:
    """The run's sampler: the command line's, or one that ships and that the run names; or why there is none."""
    if settings.value("sampler") is not None:
        return sampler_of(settings)
    if saved is None:
        return "its config.yaml names no sampler; give sampler=… as the run had it"
    if saved.options.get("quota") is not None:
        return f"{saved.choice} chose within quotas, and a larger budget has other quotas"
    ignored = ("device", *QUOTA_OPTIONS)  # the same picks on any device
    options = {option: value for option, value in saved.options.items() if option not in ignored}
    try:
        shipped: Sampler = settings.shipped("sampler", replace(saved, options=options))
    except InputError as error:
        return str(error)
    return shipped


def _cannot_go_on(sampler: Sampler, name: str) -> str:
    """Why a sampler has no rank for a row that it did not choose; "" where it has."""
    if sampler.needs == Needs():
        return f"{name} leaves rows out by nothing but chance"
    if sampler.needs.statistics or sampler.needs.committee or sampler.needs.earlier:
        return f"{name} asks each round's model, and there is none after the last round"
    if sampler.needs.columns:
        return f"{name} chooses by fields of the rows, which the run folder does not keep"
    if not chooses_row_by_row(sampler):
        return f"{name} does not choose row by row, so that more rows would not be these and others"
    return ""


def _foundation_embedding(settings: Configuration, folder: Path, rows: int) -> Float[np.ndarray, "rows dim"] | str:
    """The foundation model's embedding of the rows, from the user's cache; or why there is none."""
    identity = read_json(folder / "fingerprint.json")
    cache = cache_folder(settings.value("cache", str | None))
    try:
        kept = cache / "foundation" / space_key(identity)
    except (KeyError, TypeError):
        return f"{folder / 'fingerprint.json'} does not say which embedding the rows had"
    if not kept.is_dir() or damage(kept) is not None:
        return (
            f"the foundation model's embedding of the rows is not in the cache {cache} (give cache=… where it is; an "
            f"evolution on the same rows and model writes it)"
        )
    X = load_array(kept / "embedding.npy")
    return X if X.ndim == 2 and len(X) == rows else f"{kept} is of {len(X):,} rows, and the run of {rows:,}"


def _sentences(reason: Reason, reasons: Reasons, name: str, continued: Continued) -> Iterator[str]:
    """What is said of a row, a line each; the first one is the heading."""
    row = f"row {reason.row:,}"
    if reason.joined is not None:
        yield f"{row}: {_chosen(reason, reasons, name)}"
        yield from _receipt(reason)
    elif reason.left_out is not None:
        yield f"{row}: could not be chosen"
        yield f"why: {reason.left_out}"
    elif reason.nearest is None:
        yield f"{row}: not chosen"
        yield _without_facts(reasons)
    else:
        yield f"{row}: not chosen, {_share(reason.nearer_than)}"
        joined = reasons.run.joined[reason.nearest]
        yield (
            f"nearest: row {reason.nearest:,} of the pool ({_when(joined)}), at distance {reason.distance:.4g} in the "
            f"foundation model's space{_quoted(reasons.of(reason.nearest).text)}"
        )
        yield f"had the budget been larger: {_rank(reason.row, continued)}"
    if reason.tags:
        yield f"tags: {', '.join(reason.tags)}"
    if reason.text is not None:
        yield f"text: {reason.text}"


def _when(joined: int) -> str:
    return "drawn for the initial pool" if joined == 0 else f"chosen for round {joined}"


def _chosen(reason: Reason, reasons: Reasons, name: str) -> str:
    assert reason.joined is not None
    if reason.receipt is None:
        return "drawn at random for the initial pool, which all samplers of a seed share"
    last = reasons.run.rounds[-1].index
    waits = ", which is not complete yet" if reason.joined > last else ""
    return f"chosen by {name} for round {reason.joined}{waits}, as pick {int(reason.receipt['rank']) + 1:,}"


def _receipt(reason: Reason) -> Iterator[str]:
    """Why a sampler chose it."""
    receipt = reason.receipt
    if receipt is None:
        return
    yield f"score: {_number(receipt.get('score'))}, {receipt.get('score_is', 'of a kind that is not recorded')}"
    if receipt.get("nearest") is not None:
        model = "the foundation model" if receipt.get("space") == "foundation" else "that round's model"
        yield (
            f"nearest: row {receipt['nearest']:,} of the pool of that round or picked before, at distance "
            f"{_number(receipt.get('distance'))} in the space of {model}{_quoted(receipt.get('nearest_instruction'))}"
        )


def _share(nearer_than: float | None) -> str:
    """How near the pool is, beside other rows that were not chosen."""
    assert nearer_than is not None
    if nearer_than < 0.5:
        return f"farther from the pool than {1 - nearer_than:.0%} of the rows not chosen"
    return f"nearer to the pool than {nearer_than:.0%} of the rows not chosen"


def _rank(row: int, continued: Continued) -> str:
    if continued.why_not:
        return f"no rank is known: {continued.why_not}"
    name, pool, count = continued.name, continued.pool, continued.count
    if count == 0:
        return "no rank is known: give beyond=10 for one among ten times the pool"
    if (rank := continued.ranks.get(row)) is not None:
        return (
            f"{name}, going on from the final pool of {pool:,}{continued.where}, chooses it as row {pool + rank:,}: "
            f"number {rank:,} of the {continued.left:,} rows left"
        )
    times = (pool + count) / pool
    return f"{name}, going on{continued.where}, does not choose it within {pool + count:,} rows, {times:.3g} × the pool"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "not known"


def _quoted(text: Any) -> str:
    return f": {text}" if text else ""


def _record(reason: Reason, continued: Continued) -> dict[str, Any]:
    """What `out` gets of a row."""
    receipt = reason.receipt or {}
    behind = reason.nearest is not None
    return {
        "row": reason.row, "chosen": reason.joined is not None, "joined": reason.joined, "left_out": reason.left_out,
        **{key: receipt.get(key) for key in ("rank", "score", "score_is")},
        "distance": reason.distance if behind else receipt.get("distance"),
        "nearest": reason.nearest if behind else receipt.get("nearest"),
        "space": "foundation" if behind else receipt.get("space"),
        "nearer_than": reason.nearer_than,
        "rank_beyond": continued.ranks.get(reason.row) if behind else None,
        "ranked_beyond": continued.count if behind and not continued.why_not else None,
        "no_rank": (continued.why_not or None) if behind else None,
        "tags": list(reason.tags), "text": reason.text,
    }  # fmt: skip
