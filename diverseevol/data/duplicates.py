"""Rows that say what an earlier row says."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

from diverseevol.data.near_duplicates import Sketches
from diverseevol.data.row_text import questions_of, turns_of
from diverseevol.storage.cache import cached_folder

if TYPE_CHECKING:  # which leaves rows out by this module
    from diverseevol.data.dataset import Dataset

MANY_ROWS = 300_000  # beyond which nearly equal ones are looked for only where something is decided by them
VERSION = 4  # of what counts as a duplicate


@dataclass(frozen=True, eq=False)
class Duplicates:
    """For each row the smallest row that is like it; the row itself where no earlier one is.

    Attributes:
        same: [rows] with the same questions and answers.
        question: [rows] with the same questions, whatever the answers.
        group: [rows] of its group: rows that are the same or nearly so, directly or by way of others.
    """

    same: Int[np.ndarray, " rows"]
    question: Int[np.ndarray, " rows"]
    group: Int[np.ndarray, " rows"]

    def __len__(self) -> int:
        return len(self.same)


@dataclass(frozen=True, eq=False)
class Copies:
    """Rows that are never trained on because they say what another row says.

    Attributes:
        rows: [copies] ascending.
        of: [copies] the row that each repeats: of its group the first that is held out, or else the first.
        same: [copies] whether it is the same as that row; else nearly so.
        held_out: [copies] whether that row is held out.
    """

    rows: Int[np.ndarray, " copies"]
    of: Int[np.ndarray, " copies"]
    same: Bool[np.ndarray, " copies"]
    held_out: Bool[np.ndarray, " copies"]

    def __len__(self) -> int:
        return len(self.rows)

    def reasons(self) -> dict[int, str]:
        """Row → why it is left out, such as "near-duplicate of 12"."""
        parts = zip(self.rows.tolist(), self.of.tolist(), self.same.tolist(), self.held_out.tolist(), strict=True)
        return {
            row: f"{'duplicate' if same else 'near-duplicate'} of {'held-out row ' if held_out else ''}{of}"
            for row, of, same, held_out in parts
        }


NO_COPIES = Copies(*(np.empty(0, dtype=kind) for kind in (int, int, bool, bool)))


def copies_among(duplicates: Duplicates, held_out: Int[np.ndarray, " held_out"], deduplicate: bool) -> Copies:
    """The rows that repeat a held-out one and, if asked for, those that repeat an earlier one.

    Args:
        duplicates: which rows are alike.
        held_out: rows that are never trained on; they are no copies.
        deduplicate: whether of each group only the first row is kept, and none of a group with a held-out row.
    """
    numbers, group = np.arange(len(duplicates)), np.asarray(duplicates.group)
    of = (group if deduplicate else numbers).copy()
    kept_out = np.full(len(numbers), -1)
    kept_out[group[held_out[::-1]]] = held_out[::-1]  # the first one of each group is written last
    leaked = kept_out[group] >= 0
    of[leaked] = kept_out[group][leaked]
    of[held_out] = held_out
    rows = np.flatnonzero(of != numbers)
    same = np.asarray(duplicates.same)
    return Copies(rows, of[rows], same[rows] == same[of[rows]], leaked[rows])


def find_duplicates(
    dataset: "Dataset", cache: Path, progress: Callable[[int], None] = lambda rows: None, *, near: bool = True
) -> Duplicates:
    """Which rows say what an earlier one says; computed once for the same rows.

    Args:
        dataset: the rows.
        cache: the project's cache folder.
        progress: called with the number of rows done since the last call.
        near: whether rows that are nearly the same are looked for, too.
    """
    key = hashlib.sha256(f"{VERSION} {near} {dataset.fingerprint}".encode()).hexdigest()[:32]

    def build(folder: Path) -> None:
        duplicates = _compare(dataset, progress, near)
        for part in fields(duplicates):
            np.save(folder / f"{part.name}.npy", getattr(duplicates, part.name))

    folder = cached_folder(cache / "duplicates" / key, build)
    return Duplicates(
        **{field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r") for field in fields(Duplicates)}
    )


def _compare(dataset: "Dataset", progress: Callable[[int], None], near: bool) -> Duplicates:
    first_same: dict[bytes, int] = {}
    first_question: dict[bytes, int] = {}
    same = np.arange(len(dataset))
    question = np.arange(len(dataset))
    sketches, row = Sketches(), 0
    for conversations in dataset.iterate():
        texts = []
        for conversation in conversations:
            turns = turns_of(conversation)
            same[row] = first_same.setdefault(_digest(turns), row)
            question[row] = first_question.setdefault(_digest(questions_of(conversation)), row)
            if same[row] == row:
                texts.append(" ".join(turns))
            row += 1
        if near:
            sketches.add(texts)
        progress(len(conversations))
    if not near:
        return Duplicates(same, question, same)
    rows = np.array(list(first_same.values()))
    content = np.array([int.from_bytes(digest[:8]) for digest in first_same], dtype=np.uint64)

    def read(numbers: Sequence[int]) -> list[tuple[str, str]]:
        return [
            (" ".join(turns_of(conversation)), " ".join(turns_of(conversation, inputs=False)))
            for conversation in dataset.take(rows[numbers])
        ]

    group = np.arange(len(dataset))
    group[rows] = rows[sketches.groups(content, read)]
    return Duplicates(same, question, group[same])


def _digest(texts: Sequence[str]) -> bytes:
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).digest()
