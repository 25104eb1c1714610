"""Near-duplicates beside MinHash text by text, in plain Python with NumPy's minima, as libraries for it compute.

python -m perf --only near_duplicates --size full
"""

import functools
import tempfile
import zlib
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from diverseevol.data.dataset import Dataset, load
from diverseevol.data.duplicates import find_duplicates
from diverseevol.data.near_duplicates import BANDS, CONTAINMENT, GRAM, HASHES, JACCARD
from diverseevol.data.row_text import turns_of
from diverseevol.storage.files import write_jsonl
from perf.turns import Report, in_turns

ROWS = {"smoke": 300, "small": 5_000, "full": 20_000}
ALONE = {"full": 100_000}  # rows of which sets of texts would take gigabytes
TURNS = {"smoke": 1, "small": 3, "full": 3}
WORDS, PLANTED = 30_000, 12  # different words; every so many rows one is another row with a changed word


def run(size: str, report: Report) -> None:
    """Time and memory of both, and how many rows repeat an earlier one by each."""
    for count, ways in (
        (ROWS[size], {"ours": ours, "text by text": text_by_text}),
        (ALONE.get(size, 0), {"ours": ours}),
    ):
        if not count:
            continue
        with tempfile.TemporaryDirectory() as folder:
            dataset = rows(count, Path(folder))
            taken = in_turns({name: functools.partial(way, dataset) for name, way in ways.items()}, TURNS[size])
        lines: list[dict[str, Any]] = [
            {
                "way": name, "seconds": t.typical, "rows/s": count / t.typical, "× ours": t.ratio(taken["ours"]),
                "MB": t.extra_mb, "rows that repeat": t.result,
            }
            for name, t in taken.items()
        ]  # fmt: skip
        report.table(f"near-duplicates among {count:,} rows of about 470 characters", lines)


def rows(count: int, folder: Path) -> Dataset:
    """Rows of random words, some of them another row with a changed word."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(WORDS)])
    shares = 1 / np.arange(1, WORDS + 1)
    lengths = np.clip(rng.lognormal(4.1, 0.7, count).astype(int), 8, 2000)
    texts = np.split(rng.choice(words, lengths.sum(), p=shares / shares.sum()), np.cumsum(lengths)[:-1])
    for row in rng.choice(count, count // PLANTED, replace=False):
        texts[row] = texts[int(rng.integers(count))].copy()
        texts[row][int(rng.integers(len(texts[row])))] = "changed"
    records = ({"prompt": " ".join(text[:5]), "completion": " ".join(text[5:])} for text in texts)
    write_jsonl(folder / "rows.jsonl", records)
    return load(folder / "rows.jsonl", cache=folder)


def ours(dataset: Dataset) -> int:
    with tempfile.TemporaryDirectory() as cache:
        return in_groups(find_duplicates(dataset, Path(cache)).group)


def text_by_text(dataset: Dataset) -> int:
    rng = np.random.default_rng(1)
    factors, offsets = (rng.integers(1, 1 << 32, HASHES, dtype=np.uint64)[:, None] for _ in range(2))
    sets: list[set[str]] = []
    buckets: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in range(BANDS)]
    for batch in dataset.iterate():
        for conversation in batch:
            text = " ".join(turns_of(conversation))
            grams = {text[i : i + GRAM] for i in range(max(1, len(text) - GRAM + 1))}
            hashes = np.array([zlib.crc32(gram.encode()) for gram in grams], dtype=np.uint64)
            minima = ((factors * hashes + offsets) % np.uint64((1 << 61) - 1) & np.uint64(0xFFFFFFFF)).min(axis=1)
            for band, bucket in enumerate(buckets):
                bucket[minima[band::BANDS].tobytes()].append(len(sets))
            sets.append(grams)
    parents = list(range(len(sets)))

    def root(row: int) -> int:
        while parents[row] != row:
            row = parents[row]
        return row

    candidates = {pair for bucket in buckets for members in bucket.values() for pair in pairwise(members)}
    for a, b in sorted(candidates):
        shared = len(sets[a] & sets[b])
        if shared >= JACCARD * len(sets[a] | sets[b]) or shared >= CONTAINMENT * min(len(sets[a]), len(sets[b])):
            first, last = sorted((root(a), root(b)))
            parents[last] = first
    return in_groups(np.array([root(row) for row in range(len(sets))]))


def in_groups(group: np.ndarray) -> int:
    """How many rows repeat an earlier one."""
    return int((group != np.arange(len(group))).sum())
