"""How the sampler of a run or a choice goes on from the rows that it chose, for the rank of a row with a larger budget.

The folder may be a stranger's: a sampler of the user's own is named on the command line, and embeddings come from the
user's cache.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from diverseevol.cli.checked_options import sampler_of
from diverseevol.cli.configuration import QUOTA_OPTIONS, Configuration
from diverseevol.cli.fingerprint import space_key
from diverseevol.data.text_space import text_space_key
from diverseevol.errors import InputError
from diverseevol.output.console import Console
from diverseevol.progress import Shown
from diverseevol.report.reasons import ChoiceReasons, Kept
from diverseevol.runs.row_facts import FOLDER, read_beyond, write_beyond
from diverseevol.runs.saved_config import SavedChoice
from diverseevol.samplers.base import Needs, Sampler, chooses_row_by_row
from diverseevol.storage.cache import cache_folder
from diverseevol.storage.files import read_json, refuse_links
from diverseevol.storage.reading import load_array
from diverseevol.storage.sealed import damage

SPACES = {"foundation": "the foundation model's space", "text": "the space of their words"}


@dataclass(frozen=True)
class Continued:
    """How the sampler went on from the final pool of a run, or from the rows of a choice; or why it cannot.

    Attributes:
        name: what the sampler is called.
        ranks: by row, from 1; empty where it cannot go on.
        pool: rows that it went on from: the final pool, or the rows chosen.
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


def go_on(settings: Configuration, beyond: int, reasons: Kept, saved: SavedChoice | None, name: str) -> Continued:
    """Let a sampler go on, where it can; what the run's or the choice's own did is kept in the folder.

    Args:
        settings: the configuration, which may name another sampler.
        beyond: up to how many times the rows that were chosen.
        reasons: of the run or the choice.
        saved: the sampler that it names, None where it names none.
        name: of that sampler.
    """
    facts, folder = reasons.facts, reasons.folder
    assert facts is not None
    of_choice = isinstance(reasons, ChoiceReasons)
    pool, left = sum(t > 0 for t in reasons.joined.values()) if of_choice else len(facts.pool), len(facts.candidates)
    count = min((beyond - 1) * pool, left)
    sampler, own = _sampler(settings, saved), settings.value("sampler") is None
    if isinstance(sampler, str):
        return Continued(why_not=sampler)
    if not own:
        name = type(sampler).__name__ if settings.choices["sampler"] == "null" else settings.choices["sampler"]
    if why_not := _cannot_go_on(sampler, name, of_choice):
        return Continued(why_not=why_not)
    with_space = sampler.needs.space != "none"
    where = f" in {space_of(reasons)}" if with_space else ""
    order = read_beyond(folder, facts, count) if own else None
    if order is None:
        X = _embedding(settings, reasons, len(facts.nearest)) if with_space else None
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


def _cannot_go_on(sampler: Sampler, name: str, of_choice: bool) -> str:
    """Why a sampler has no rank for a row that it did not choose; "" where it has."""
    if sampler.needs == Needs():
        return f"{name} leaves rows out by nothing but chance"
    if sampler.needs.statistics or sampler.needs.committee or sampler.needs.earlier:
        if of_choice:
            return f"{name} asks the model about each row, and its answers are not kept"
        return f"{name} asks each round's model, and there is none after the last round"
    if sampler.needs.columns:
        return f"{name} chooses by fields of the rows, which the {'' if of_choice else 'run '}folder does not keep"
    if not chooses_row_by_row(sampler):
        return f"{name} does not choose row by row, so that more rows would not be these and others"
    return ""


def space_of(reasons: Kept) -> str:
    """The space in which the distances of the rows not chosen are, for a sentence."""
    return SPACES["foundation"] if not isinstance(reasons, ChoiceReasons) else SPACES.get(reasons.space, "no space")


def _embedding(settings: Configuration, reasons: Kept, rows: int) -> Float[np.ndarray, "rows dim"] | str:
    """What the rows are compared in, from the user's cache; or why there is nothing."""
    file = reasons.folder / "fingerprint.json"
    if isinstance(reasons, ChoiceReasons):
        file, identity = reasons.file, reasons.picks["request"]
        if reasons.space == "none":
            return "the choice compared no rows"
    else:
        identity = read_json(file)
    cache = cache_folder(settings.value("cache", str | None))
    try:
        if isinstance(reasons, ChoiceReasons) and reasons.space == "text":
            keys = ("data", "embedding.region", "embedding.dtype")
            kept = cache / "text" / text_space_key(*(identity[key] for key in keys))
            space, writes = "the space of the rows' words", "the same `diverseevol select` with replace=true writes it"
        else:
            kept = cache / "foundation" / space_key(identity)
            space = "the foundation model's embedding of the rows"
            writes = "an evolution on the same rows and model writes it"
    except (KeyError, TypeError):
        return f"{file} does not say which embedding the rows had"
    if not kept.is_dir() or damage(kept) is not None:
        return f"{space} is not in the cache {cache} (give cache=… where it is; {writes})"
    X = load_array(kept / "embedding.npy")
    of = "choice" if isinstance(reasons, ChoiceReasons) else "run"
    return X if X.ndim == 2 and len(X) == rows else f"{kept} is of {len(X):,} rows, and the {of} of {rows:,}"
