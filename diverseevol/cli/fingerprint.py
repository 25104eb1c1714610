"""What a run must match to be resumed: the fingerprint, from the configuration, the rows and the model."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from diverseevol import __version__
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.naming import AS_BEFORE, MEMORY_ONLY, NOT_PICKS
from diverseevol.cli.own_code import locate
from diverseevol.data.columns import BY_SOURCE
from diverseevol.data.dataset import Dataset
from diverseevol.runs.round_folder import release
from diverseevol.runs.run_folder import SOURCE
from diverseevol.runs.saved_config import CHOICE
from diverseevol.storage.sources import sources

if TYPE_CHECKING:  # its module imports for seconds
    from diverseevol.engine.probing.prober import Prober

PROJECT = "diverseevol."  # how its own targets begin


def fingerprint(settings: Configuration, dataset: Dataset, prober: "Prober", cache: Path) -> dict[str, Any]:
    """What a resume must match: all that changes picks, key by key."""
    return {
        "release": release(__version__),  # rounds that are not complete do not say their version
        **space_identity(settings, dataset, prober, cache),
        "eligible": hashlib.sha256(np.packbits(prober.encoded.eligible).tobytes()).hexdigest(),
        **_held_out(settings, dataset),
        **copies_identity(settings, dataset),
        "seed": settings.value("seed"),
        "keep_dtype": settings.value("keep_dtype"),
        **{name: value for key in ("sampler", "tuning", "schedule") for name, value in _picks(settings, key).items()},
        **_sources(settings, dataset),
        **own_sources(settings, "sampler"),
    }


def own_sources(settings: Configuration, *keys: str) -> dict[str, dict[str, str]]:
    """The sources of the user's own classes in these nodes; none of the project's, whose releases say what they do."""

    def walk(node: Any, path: str) -> Iterator[tuple[str, dict[str, str]]]:
        if isinstance(node, dict):
            if not (target := str(node.get("_target_", PROJECT))).startswith(PROJECT):
                yield f"{path}.{SOURCE}", sources(locate(target))
            for name, value in node.items():
                yield from walk(value, f"{path}.{name}")

    return {path: files for key in keys for path, files in walk(settings.value(key), key)}


def _held_out(settings: Configuration, dataset: Dataset) -> dict[str, Any]:
    """Which rows are held out, by the options where a number says so; nothing where there are none.

    A file may be moved, and a field be given as a file: there the rows count.
    """
    if not len(dataset.held_out):
        return {}
    data = settings.value("data", dict)
    if isinstance(data.get("held_out"), int):
        return {"data.held_out": data["held_out"], "data.held_out_seed": data.get("held_out_seed", 0)}
    digest = hashlib.sha256(dataset.held_out.tobytes()).hexdigest()
    return {"data.held_out": f"{len(dataset.held_out)} rows {digest[:16]}"}


def copies_identity(settings: Configuration, dataset: Dataset) -> dict[str, Any]:
    """Whether later copies of rows are left out, and how many rows repeat a held-out one; nothing where none does."""
    data, of_held_out = settings.value("data", dict), int(dataset.copies.held_out.sum())
    return {
        **({"data.deduplicate": data["deduplicate"]} if data.get("deduplicate") is not None else {}),
        **({"data.held_out.copies": of_held_out} if of_held_out else {}),
    }


def _sources(settings: Configuration, dataset: Dataset) -> dict[str, Any]:
    """What the sources are called where quotas go by that; of other runs it decides no picks."""
    if len(dataset.sources) < 2 or settings.value("sampler.quota") != BY_SOURCE:
        return {}
    return {"data.sources": [source.name for source in dataset.sources]}


def space_identity(settings: Configuration, dataset: Dataset, prober: "Prober", cache: Path) -> dict[str, Any]:
    """What the foundation model's embedding of the rows depends on, and nothing else."""
    return {
        "data": dataset.fingerprint,
        "model": prober.foundation.identity(cache),
        "prompt": prober.prompt.identity_of_rows(dataset.conversations),
        "precision": str(settings.value("trainer", dict).get("precision")),
        **_picks(settings, "embedding"),
    }


def choice_identity(
    settings: Configuration,
    dataset: Dataset,
    prober: "Prober | None",
    cache: Path,
    space: str,
    taken: Bool[np.ndarray, " rows"],
) -> dict[str, Any]:
    """What decides a choice of `select` beside the number of rows, key by key."""
    return {
        "release": release(__version__),
        **({"data": dataset.fingerprint} if prober is None else space_identity(settings, dataset, prober, cache)),
        **_picks(settings, "embedding"),
        **_sources(settings, dataset),
        "seed": settings.value("seed"),
        "space": space,
        "taken": hashlib.sha256(np.packbits(taken).tobytes()).hexdigest()[:16],
        **_picks(settings, "sampler"),
        **own_sources(settings, "sampler"),
    }


def space_key(identity: Mapping[str, Any]) -> str:
    """What that embedding is called in the cache."""
    keys = ("data", "model", "prompt", "precision", "embedding.region", "embedding.dtype")
    return hashlib.sha256(json.dumps([identity[key] for key in keys]).encode()).hexdigest()[:32]


def _picks(settings: Configuration, key: str) -> dict[str, Any]:
    """The choice of a node and its options that change picks, by their path."""
    ignored = (*NOT_PICKS, *MEMORY_ONLY)
    options = settings.recorded(key)
    choice = {key: options.pop(CHOICE)} if CHOICE in options else {}
    if choice == {"tuning": "full"}:  # says nothing: evolutions from before there was another one are resumed
        choice = {}
    picks = {**choice, **{f"{key}.{name}": value for name, value in options.items()}}
    return {
        name: value for name, value in picks.items()
        if name not in ignored and not (name in AS_BEFORE and value == AS_BEFORE[name])
    }  # fmt: skip
