"""`data=lab`: the rows as a data set like any other, and what is known of each row."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from diverseevol.cli.binding import check
from diverseevol.data import dataset
from diverseevol.data.conversation import Conversation
from diverseevol.data.dataset import Dataset
from diverseevol.errors import InputError
from diverseevol.lab.rows import Mix, make_rows
from diverseevol.lab.skill import WORLD, find_world
from diverseevol.storage.cache import cached_folder
from diverseevol.storage.files import write_jsonl

KEYS = {"skill", "noisy", "duplicate"}


def load(
    name: str = "lab",
    size: int = 4000,
    skew: float = 1.1,
    noise: float = 0.01,
    duplicates: float = 0.1,
    seed: int = 0,
    world: str = WORLD,
    *,
    cache: Path,
    **reading: object,
) -> Dataset:
    """Make the rows, write them as JSONL into the cache, and load that file like any other.

    Args:
        name: what the data set is called.
        size: rows in all.
        skew: the i-th most frequent skill has a share proportional to i**-skew.
        noise: share of the rows that are spoiled.
        duplicates: share of the rows that are near-duplicates.
        seed: of the rows, and of which skill is frequent.
        world: "lab", or the dotted name of a tuple of skills (see `diverseevol.lab.skill`).
        cache: the project's cache folder.
        reading: passed on to `diverseevol.data.load`.

    Raises:
        InputError: an option is none of either, or there can be no such rows.
    """
    check(dataset.load, reading, "data")
    mix, skills = Mix(size, skew, noise, duplicates, seed), find_world(world)
    made = make_rows(skills, mix)  # a second or less; only its content can say whether the cache holds it
    key = hashlib.sha256(repr(made).encode()).hexdigest()[:32]
    folder = cached_folder(cache / "lab" / key, lambda folder: write_jsonl(folder / "lab.jsonl", made))
    return dataset.load(folder / "lab.jsonl", name=name, cache=cache, **reading)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Labels:
    """What the lab knows of each row and no sampler sees.

    Attributes:
        skill: [rows] the name of the row's skill.
        noisy: [rows] whether the row is spoiled.
        duplicate: [rows] whether it asks what another row asks.
    """

    skill: tuple[str, ...]
    noisy: Bool[np.ndarray, " rows"]
    duplicate: Bool[np.ndarray, " rows"]


def labels(dataset: Dataset) -> Labels:
    """The labels of all rows of a lab data set.

    Raises:
        InputError: the rows carry no such labels: they are not the lab's.
    """
    return labels_of([row for batch in dataset.iterate() for row in batch])


def labels_of(rows: Sequence[Conversation]) -> Labels:
    """The labels of some rows; see `labels`."""
    if any(not set(row.extra) >= KEYS for row in rows):
        raise InputError("these rows do not say their skill, noisy and duplicate; only data=lab does")
    extra = [row.extra for row in rows]
    return Labels(
        tuple(str(each["skill"]) for each in extra),
        np.array([bool(each["noisy"]) for each in extra]),
        np.array([bool(each["duplicate"]) for each in extra]),
    )
