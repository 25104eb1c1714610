"""Rows that say nearly the same: MinHash finds candidates, and their texts decide.

A text is the set of its character 5-grams. 128 minima over hashes of them, in 32 bands of 4, make two texts candidates
where a band is equal: of pairs at a Jaccard similarity of 0.5 that is 87 %, at 0.7 all but one in 10,000 (A. Broder,
"On the resemblance and containment of documents", 1997; J. Leskovec, A. Rajaraman, J. Ullman, "Mining of Massive
Datasets", chapter 3). Candidates are then compared exactly.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt

GRAM, HASHES, BANDS = 5, 128, 32
JACCARD, CONTAINMENT = 0.6, 0.8  # from which on texts are nearly the same: of all that both say, or of the shorter one
DEVIATIONS = 0.12  # of the estimate of 128 hashes, about three standard deviations
# Texts that share a template are candidates by the thousand, and mostly in vain.
NEIGHBOURS = 16  # that a text has in a band of few equal ones; all are compared
FEW = 2  # that it is compared with where there are more
VAIN = 16  # comparisons after which a text has no further candidates, counted when a band is done
BLOCK = 1 << 16  # shingles whose hashes fit into a processor's cache
CHARACTERS = 1 << 22  # of the texts that are compared at once
BASE = np.uint64(0x9E3779B97F4A7C15)

Texts = Callable[[Sequence[int]], Sequence[tuple[str, str]]]


def shingles(texts: Sequence[str]) -> tuple[UInt[np.ndarray, " shingles"], Int[np.ndarray, " texts"]]:
    """The hashes of all character 5-grams of some texts, one text after the other, and where each text starts.

    A text that is shorter is one 5-gram, filled up with spaces.
    """
    filled = [text.ljust(GRAM) for text in texts]
    codes = np.frombuffer("".join(filled).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    ends = np.cumsum([len(text) for text in filled])
    grams = np.zeros(max(0, len(codes) - GRAM + 1), dtype=np.uint64)
    for k in range(GRAM):
        grams *= BASE
        grams += codes[k : k + len(grams)]
    inside = np.ones(len(grams), dtype=bool)  # of one text
    for k in range(1, GRAM):
        inside[ends[:-1] - k] = False
    return _mixed(grams[inside]), np.concatenate([[0], ends[:-1] - (GRAM - 1) * np.arange(1, len(ends))]).astype(
        np.int64
    )


def _mixed(values: UInt[np.ndarray, " n"]) -> UInt[np.ndarray, " n"]:
    """32 well-mixed bits of each number of 64 (the finaliser of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        values = values ^ (values >> np.uint64(33))
        values *= np.uint64(factor)
    return (values >> np.uint64(32)).astype(np.uint32)


class Sketches:
    """What is kept of each text: 32 bands to find candidates by, and a byte of each minimum to estimate with."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self._factors = rng.integers(0, 1 << 32, HASHES, dtype=np.uint32) | np.uint32(1)
        self._offsets = rng.integers(0, 1 << 32, HASHES, dtype=np.uint32)
        self._bands: list[np.ndarray] = []
        self._bytes: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []

    def add(self, texts: Sequence[str]) -> None:
        """Take in some more texts."""
        if not texts:
            return
        hashes, starts = shingles(texts)
        limits = np.append(starts, len(hashes))
        block, minima = 0, np.empty((len(texts), HASHES), dtype=np.uint32)
        while block < len(texts):
            end = max(block + 1, int(np.searchsorted(limits, limits[block] + BLOCK, side="right")) - 1)
            part, offsets = hashes[limits[block] : limits[end]], starts[block:end] - limits[block]
            hashed = np.empty_like(part)
            for k in range(HASHES):
                np.multiply(part, self._factors[k], out=hashed)
                hashed += self._offsets[k]
                minima[block:end, k] = np.minimum.reduceat(hashed, offsets)
            block = end
        bands = np.zeros((len(texts), BANDS), dtype=np.uint64)
        for k in range(HASHES // BANDS):
            bands = bands * BASE + minima[:, k :: HASHES // BANDS]
        self._bands.append(bands)
        self._bytes.append((minima >> np.uint32(24)).astype(np.uint8))
        self._sizes.append(np.diff(limits))

    def groups(self, content: UInt[np.ndarray, " texts"], texts: Texts) -> Int[np.ndarray, " texts"]:
        """For each text the smallest number of its group: texts that are nearly the same, directly or by way of others.

        Groups do not depend on the order in which texts were added.

        Args:
            content: [texts] a number for each text that follows from what it says; no two are equal.
            texts: gives the texts of these numbers again: each complete, and without the passages that it is about.
        """
        bands, sketches, sizes = (np.concatenate(parts) for parts in (self._bands, self._bytes, self._sizes))
        parents = list(range(len(sizes)))
        rejected, vain = np.empty(0, dtype=np.uint64), np.zeros(len(sizes), dtype=np.int64)
        for band in range(BANDS):
            roots = _roots(parents)
            pairs = _pairs(bands[:, band], content)
            pairs = pairs[roots[pairs[:, 0]] != roots[pairs[:, 1]]]
            pairs = pairs[(vain[pairs] < VAIN).all(axis=1)]
            pairs = pairs[_likely(pairs, sketches, sizes)]
            keys = pairs[:, 0].astype(np.uint64) << np.uint64(32) | pairs[:, 1].astype(np.uint64)
            pairs, keys = pairs[fresh := ~np.isin(keys, rejected)], keys[fresh]
            alike = np.array(list(_compared(pairs, sizes, texts)), dtype=bool)
            rejected = np.concatenate([rejected, keys[~alike]])
            vain += np.bincount(pairs[~alike].ravel(), minlength=len(vain))
            for a, b in pairs[alike].tolist():
                _join(parents, a, b)
        return _roots(parents)


def _pairs(band: UInt[np.ndarray, " texts"], content: UInt[np.ndarray, " texts"]) -> Int[np.ndarray, "pairs 2"]:
    """The texts of which a band is equal, smaller number first; in a large set each with its next ones by content."""
    order = np.lexsort((content, band))
    ordered, pairs = band[order], [np.empty((0, 2), dtype=np.int64)]
    _, counts = np.unique(ordered, return_counts=True)
    many = np.repeat(counts > NEIGHBOURS + 1, counts)
    for distance in range(1, NEIGHBOURS + 1):
        alike = ordered[distance:] == ordered[:-distance]
        equal = np.flatnonzero(alike if distance <= FEW else alike & ~many[distance:])
        pairs.append(np.sort(np.stack([order[equal], order[equal + distance]], axis=1), axis=1))
    return np.concatenate(pairs)


def _likely(
    pairs: Int[np.ndarray, "pairs 2"], sketches: UInt[np.ndarray, "texts hashes"], sizes: Int[np.ndarray, " texts"]
) -> Bool[np.ndarray, " pairs"]:
    """Whether texts may be nearly the same by what their sketches have in common."""
    likely = np.empty(len(pairs), dtype=bool)
    for start in range(0, len(pairs), BLOCK):
        block = pairs[start : start + BLOCK]
        a, b = block.T
        jaccard = (sketches[a] == sketches[b]).mean(axis=1) + DEVIATIONS
        shared = jaccard / (1 + jaccard) * (sizes[a] + sizes[b])
        likely[start : start + BLOCK] = (jaccard >= JACCARD) | (shared >= CONTAINMENT * np.minimum(sizes[a], sizes[b]))
    return likely


def _compared(pairs: Int[np.ndarray, "pairs 2"], sizes: Int[np.ndarray, " texts"], texts: Texts) -> Iterator[bool]:
    """Whether the texts of each pair are nearly the same; no more texts are in memory than a batch has."""
    pending: list[list[int]] = []
    size = 0
    for pair in pairs.tolist():
        pending.append(pair)
        size += int(sizes[pair].sum())
        if size > CHARACTERS:
            yield from _compare(pending, texts)
            pending, size = [], 0
    yield from _compare(pending, texts)


def _compare(pairs: Sequence[Sequence[int]], texts: Texts) -> Iterator[bool]:
    numbers = sorted({number for pair in pairs for number in pair})
    asked = texts(numbers) if numbers else []
    complete = dict(zip(numbers, _sets([text for text, _ in asked]), strict=True))
    about = [(number, own) for number, (text, own) in zip(numbers, asked, strict=True) if own != text]
    own = {**complete, **dict(zip((n for n, _ in about), _sets([text for _, text in about]), strict=True))}
    apart = {number for number, _ in about}
    for a, b in pairs:
        yield nearly_equal(complete[a], complete[b]) and (not {a, b} & apart or nearly_equal(own[a], own[b]))


def _sets(texts: Sequence[str]) -> list[UInt[np.ndarray, " shingles"]]:
    """Each text's shingles, ascending and each once."""
    if not texts:
        return []
    hashes, starts = shingles(texts)
    ordered = [np.sort(part) for part in np.split(hashes, starts[1:])]
    return [part[np.append(True, part[1:] != part[:-1])] for part in ordered]


def nearly_equal(a: UInt[np.ndarray, " a"], b: UInt[np.ndarray, " b"]) -> bool:
    """Whether two sets of shingles have enough in common, ascending and each once."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared >= JACCARD * (len(a) + len(b) - shared) or shared >= CONTAINMENT * min(len(a), len(b))


def _roots(parents: list[int]) -> Int[np.ndarray, " texts"]:
    roots = np.array(parents, dtype=np.int64)
    while not np.array_equal(above := roots[roots], roots):
        roots = above
    return roots


def _join(parents: list[int], a: int, b: int) -> None:
    """Put the groups of two texts together; the smallest number stays the root."""
    while parents[a] != a:
        a = parents[a]
    while parents[b] != b:
        b = parents[b]
    parents[max(a, b)] = min(a, b)
