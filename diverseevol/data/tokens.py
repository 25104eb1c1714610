"""All rows of a data set as token ids, and which stretches of each row are learned."""

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from diverseevol.data.dataset import Dataset
from diverseevol.data.prompt import Prompt, Row
from diverseevol.storage.cache import cached_folder
from diverseevol.storage.files import read_json, write_json

LAYOUT = 2  # of the files in the cache; part of their key, so that those of another layout are not read


@dataclass(frozen=True)
class Tokens:
    """Rows as token ids, in one flat memory-mapped array.

    Attributes:
        ids: [tokens] the rows' ids, one row after the other.
        offsets: [rows + 1] where each row starts in `ids`.
        spans: [spans, 2] the stretches [start, end) that are learned, counted from the start of their row; ascending
            and apart within a row. A row of one exchange has one, or none where nothing of its response is left.
        span_offsets: [rows + 1] where each row's spans start in `spans`.
        lost: [rows] tokens that the cut at `max_length` removed from each row.
        cut: [rows, 2] how many of each row's learned stretches that cut removed, and how many it shortened.
        changed: how many rows the chat template left part of a response out of.
        conversations_take: what rows that are not one exchange are written in, for messages.
        held_out: [held out] rows that are never trained on.
        copies: [copies] rows that are never trained on because they repeat another one.
    """

    ids: Int[np.ndarray, " tokens"]
    offsets: Int[np.ndarray, " rows_and_one"]
    spans: Int[np.ndarray, "spans 2"]
    span_offsets: Int[np.ndarray, " rows_and_one"]
    lost: Int[np.ndarray, " rows"]
    cut: Int[np.ndarray, "rows 2"]
    changed: int = 0
    conversations_take: str = ""
    held_out: Int[np.ndarray, " held_out"] | None = None
    copies: Int[np.ndarray, " copies"] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, row: int) -> Int[np.ndarray, " length"]:
        """The ids of one row."""
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    def spans_of(self, row: int) -> Int[np.ndarray, "some 2"]:
        """The learned stretches [start, end) of one row."""
        return self.spans[self.span_offsets[row] : self.span_offsets[row + 1]]

    @property
    def lengths(self) -> Int[np.ndarray, " rows"]:
        """Tokens of each row, learned or not."""
        return np.diff(self.offsets)

    @cached_property
    def response_tokens(self) -> Int[np.ndarray, " rows"]:
        """Learned tokens of each row, the end of a response included; 0 where the cut left none."""
        before = np.concatenate([[0], np.cumsum(self.spans[:, 1] - self.spans[:, 0])])
        return np.diff(before[self.span_offsets])

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max(initial=0))

    @cached_property
    def largest_id(self) -> int:
        """The largest token id; -1 where there are no tokens."""
        return int(self.ids.max(initial=-1))

    @property
    def eligible(self) -> Bool[np.ndarray, " rows"]:
        """Rows that can be trained on: those with a learned token that are neither held out nor copies."""
        eligible = self.response_tokens > 0
        for rows in (self.held_out, self.copies):
            if rows is not None:
                eligible[rows] = False
        return eligible


def tokens_of(rows: Sequence[Row]) -> Tokens:
    """Rows in memory; none makes the tokens of an empty data set."""
    return Tokens(
        ids=np.fromiter(chain.from_iterable(row.ids for row in rows), dtype=np.int32),
        offsets=np.cumsum([0, *(len(row.ids) for row in rows)]),
        spans=np.array([span for row in rows for span in row.spans], dtype=np.int64).reshape(-1, 2),
        span_offsets=np.cumsum([0, *(len(row.spans) for row in rows)]),
        lost=np.array([row.lost for row in rows], dtype=np.int64),
        cut=np.array([row.cut for row in rows], dtype=np.int64).reshape(-1, 2),
        changed=sum(not row.complete for row in rows),
    )


def encode(
    dataset: Dataset, prompt: Prompt, cache: Path, progress: Callable[[int], None] = lambda rows: None
) -> Tokens:
    """Tokenise the complete data set once; a second call with the same rows, tokeniser and options reads the files.

    `progress` is called with the number of rows done since the last call.
    """
    identity = prompt.identity_of_rows(dataset.conversations)
    key = hashlib.sha256(f"{LAYOUT} {dataset.fingerprint} {identity}".encode()).hexdigest()[:32]

    def build(folder: Path) -> None:
        offsets, spans, span_offsets, lost, changed = array("q", [0]), array("i"), array("q", [0]), array("q"), 0
        cut = array("i")
        with (folder / "ids.bin").open("wb") as file:
            for conversations in dataset.iterate():
                rows = prompt.rows(conversations, start=len(lost))
                np.fromiter(chain.from_iterable(row.ids for row in rows), dtype=np.int32).tofile(file)
                for row in rows:
                    offsets.append(offsets[-1] + len(row.ids))
                    spans.extend(chain.from_iterable(row.spans))
                    span_offsets.append(len(spans) // 2)
                    lost.append(row.lost)
                    cut.extend(row.cut)
                    changed += not row.complete
                progress(len(conversations))
        arrays = {"offsets": offsets, "span_offsets": span_offsets, "lost": lost}
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", np.asarray(values, dtype=np.int64))
        pairs = {"spans": spans, **({"cut": cut} if dataset.conversations else {})}
        for name, numbers in pairs.items():
            np.save(folder / f"{name}.npy", np.asarray(numbers, dtype=np.int64).reshape(-1, 2))
        write_json(folder / "changed.json", changed)

    folder = cached_folder(cache / "tokens" / key, build)
    names = ("offsets", "spans", "span_offsets", "lost")
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    return Tokens(
        ids=np.memmap(folder / "ids.bin", dtype=np.int32, mode="r"),
        **arrays,
        cut=np.load(folder / "cut.npy", mmap_mode="r") if dataset.conversations else _cut_of_exchanges(**arrays),
        conversations_take=prompt.conversations_take if dataset.conversations else "",
        changed=int(read_json(folder / "changed.json")),
        held_out=dataset.held_out,
        copies=dataset.copies.rows,
    )


def _cut_of_exchanges(
    lost: Int[np.ndarray, " rows"], span_offsets: Int[np.ndarray, " rows_and_one"], **rest: np.ndarray
) -> Int[np.ndarray, "rows 2"]:
    """What the cut did to rows that end with their only learned stretch."""
    left = np.diff(span_offsets) > 0
    return np.stack([~left, left & (np.asarray(lost) > 0)], axis=1).astype(np.int64)
