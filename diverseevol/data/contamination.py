"""Rows that hold a question that models are asked afterwards: such an answer may have been learned by heart."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt

from diverseevol.data.dataset import Dataset
from diverseevol.data.row_text import normalised, questions_of, turns_of
from diverseevol.data.text_space import UNSPACED
from diverseevol.storage.cache import cached_folder
from diverseevol.storage.files import read_jsonl, write_jsonl

VERSION = 1  # of what counts as an overlap
GRAM = 13  # words in a row that are no accident (T. Brown et al., "Language models are few-shot learners", appendix C)
COMMON = 10  # rows: what more of them have is a template or a phrase (as there)
HELD_OUT = "held-out row"
# Words, each character of scripts without spaces, and signs that decide what is computed.
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[-+*/=<>^%]")
BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Overlap:
    """A row that holds a question, or part of it.

    Attributes:
        row: its number.
        benchmark: whose question it is; `HELD_OUT` for that of a held-out row.
        question: its id; the number of the held-out row.
        same: whether the row asks the question itself, and not only has words of it.
        words: the first 13 words in a row that both have, normalised; "" where the question is shorter.
    """

    row: int
    benchmark: str
    question: str
    same: bool
    words: str


def find_overlaps(
    dataset: Dataset,
    questions: Mapping[str, Sequence[tuple[str, str]]],
    cache: Path,
    progress: Callable[[int], None] = lambda rows: None,
) -> list[Overlap]:
    """Which rows hold a question of a benchmark or of a held-out row, ascending; computed once for the same of both.

    A row overlaps where one of its questions has the same words, or anything it says 13 words in a row of the
    question. Words in a row that more than 10 rows have do not count: they are a template or a common phrase.

    Args:
        dataset: the rows; those held out are no overlaps with held-out ones.
        questions: of each benchmark: id and text.
        cache: the project's cache folder.
        progress: called with the number of rows done since the last call.
    """
    identity = json.dumps([VERSION, dataset.fingerprint, {name: list(asked) for name, asked in questions.items()}])
    key = hashlib.sha256(identity.encode() + dataset.held_out.tobytes()).hexdigest()[:32]

    def build(folder: Path) -> None:
        held_out = [
            (str(row), questions_of(conversation)[:1])
            for row, conversation in zip(dataset.held_out.tolist(), dataset.take(dataset.held_out), strict=True)
        ]
        asked = {
            **{name: [(id, [normalised(text)]) for id, text in of_name] for name, of_name in questions.items()},
            HELD_OUT: held_out,
        }
        index = _Index([(name, id, text) for name, of_name in asked.items() for id, texts in of_name for text in texts])
        write_jsonl(folder / "overlaps.jsonl", map(asdict, index.overlaps(dataset, progress)))

    return [Overlap(**line) for line in read_jsonl(cached_folder(cache / "overlaps" / key, build) / "overlaps.jsonl")]


class _Index:
    """The words of all questions, to look up what rows say."""

    def __init__(self, questions: Sequence[tuple[str, str, str]]) -> None:
        """Index questions: benchmark, id and normalised text of each."""
        self.questions = questions
        self.numbers: dict[str, int] = {}  # of words
        self.same: dict[str, dict[tuple[str, ...], int]] = {}  # benchmark → words → the first question of these
        ids: list[int] = []
        owners: list[int] = []
        for owner, (name, _, text) in enumerate(questions):
            words = WORD.findall(text)
            if words:
                self.same.setdefault(name, {}).setdefault(tuple(words), owner)
            ids += [self.numbers.setdefault(word, len(self.numbers)) for word in words] + [-1]
            owners += [owner] * (len(words) + 1)
        self.ids = np.array(ids, dtype=np.int64)
        starts = _starts(self.ids)
        hashes = _hashes(self.ids, starts)
        order = np.argsort(hashes, kind="stable")
        self.grams, self.first = np.unique(hashes[order], return_index=True)
        self.starts = starts[order]
        self.owners = np.array(owners, dtype=np.int64)[self.starts]
        self.last = np.append(self.first[1:], len(order))

    def overlaps(self, dataset: Dataset, progress: Callable[[int], None]) -> Iterator[Overlap]:
        """What the rows of a data set hold of the questions."""
        held_out = set(dataset.held_out.tolist())
        same: set[tuple[int, int]] = set()
        rows_of: list[list[int]] = [[] for _ in self.grams]  # that hold each 13-gram, one more than may at most
        row = 0
        for conversations in dataset.iterate():
            for conversation in conversations:
                for question in questions_of(conversation):
                    words = tuple(WORD.findall(question))
                    same.update((row, asked[words]) for asked in self.same.values() if words in asked)
                for gram in self._grams_in(turns_of(conversation)):
                    if len(rows_of[gram]) <= COMMON:
                        rows_of[gram].append(row)
                row += 1
            progress(len(conversations))
        first_shared: dict[tuple[int, int], int] = {}
        for gram, rows in enumerate(rows_of):
            if len(rows) <= COMMON:
                for entry in range(self.first[gram], self.last[gram]):
                    for row in rows:
                        pair, start = (row, int(self.owners[entry])), int(self.starts[entry])
                        first_shared[pair] = min(start, first_shared.get(pair, start))
        names = list(self.numbers)
        for row, owner in sorted({*same, *first_shared}):
            name, id, _ = self.questions[owner]
            if name == HELD_OUT and row in held_out:
                continue
            shared: list[str] = []
            if (row, owner) in first_shared:
                start = first_shared[row, owner]
                shared = [names[number] for number in self.ids[start : start + GRAM]]
            yield Overlap(row, name, id, (row, owner) in same, " ".join(shared))

    def _grams_in(self, texts: Sequence[str]) -> list[int]:
        """The numbers of the questions' 13-grams that some texts hold."""
        if not len(self.grams):
            return []
        ids: list[int] = []
        for text in texts:
            ids += [self.numbers.get(word, -1) for word in WORD.findall(text)] + [-1]
        known = np.array(ids, dtype=np.int64)
        starts = _starts(known)
        if not len(starts):
            return []
        hashes = _hashes(known, starts)
        grams = np.minimum(np.searchsorted(self.grams, hashes), len(self.grams) - 1)
        hit = self.grams[grams] == hashes
        return sorted(set(grams[hit].tolist()))


def _starts(ids: Int[np.ndarray, " words"]) -> Int[np.ndarray, " grams"]:
    """Where 13 known words in a row begin."""
    unknown = np.concatenate([[0], np.cumsum(ids < 0)])
    return np.flatnonzero(unknown[GRAM:] == unknown[:-GRAM]) if len(ids) >= GRAM else np.empty(0, dtype=np.int64)


def _hashes(ids: Int[np.ndarray, " words"], starts: Int[np.ndarray, " grams"]) -> UInt[np.ndarray, " grams"]:
    """A number of 64 bits for each 13 words in a row."""
    hashes = np.zeros(len(starts), dtype=np.uint64)
    for offset in range(GRAM):
        hashes = (hashes ^ ids[starts + offset].astype(np.uint64)) * BASE
        hashes ^= hashes >> np.uint64(32)
    return hashes
