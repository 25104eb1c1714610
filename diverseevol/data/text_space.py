"""A space of text alone: rows as vectors by the words that they share, without any model.

It is what a subset takes that has no model at hand, and the baseline that a model's space has to beat.
"""

import functools
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, UInt64

from diverseevol.data.conversation import Conversation, Turn
from diverseevol.data.dataset import Dataset
from diverseevol.storage.cache import cached_folder
from diverseevol.storage.reading import load_array

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Region = Literal["all", "response", "instruction"]

VERSION = 1  # of all that decides a vector; part of the key in the cache
FEATURES = 2**18  # columns that words and pairs of words are hashed to
DIMENSIONS = 256
POWER_ITERATIONS = 2  # of the randomised SVD; five take more than twice as long, and choose rows no better
LEARNED_FROM = 50_000  # rows that the SVD reads at most, which bounds its memory
# Scripts that write words without spaces: each character is a word there, as search engines have it.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)


def text_embedding(
    dataset: Dataset,
    region: Region,
    dtype: str,
    cache: Path,
    progress: Callable[[int], None] = lambda rows: None,
) -> Float[np.ndarray, "rows dim"]:
    """The rows of D as vectors of length 1, computed once; a second call reads the file.

    Which words, and which pairs of neighbouring words, occur in a row: hashed, weighted by how few rows have them
    (inverse document frequency), and projected by a truncated SVD (latent semantic analysis, Deerwester et al. 1990).
    Length 1 makes the Euclidean distance a distance of directions: 0 for the same words, √2 for none in common. A row
    without any text is the zero vector, at distance 1 from all others.

    The result depends neither on the order of the rows nor on the number of threads; a row with the same text has the
    same vector. Where there are more than `LEARNED_FROM` rows, the projection is learned from that many, drawn by a
    digest of their text.

    Args:
        dataset: the rows.
        region: the text that counts: all turns, those of the assistant ("response"), or all others ("instruction").
        dtype: how vectors are stored.
        cache: the project's cache folder.
        progress: called with the number of rows done since the last call.
    """

    def build(folder: Path) -> None:
        digests = np.concatenate([_digests(texts) for texts in _texts(dataset, region)])
        project = _projection(_sample(dataset, region, digests))
        shape = (len(dataset), min(DIMENSIONS, len(dataset)))
        X = np.lib.format.open_memmap(folder / "embedding.npy", mode="w+", dtype=dtype, shape=shape)
        start = 0
        for texts in _texts(dataset, region):
            X[start : start + len(texts)] = project(texts)
            start += len(texts)
            progress(len(texts))
        X.flush()

    folder = cached_folder(cache / "text" / text_space_key(dataset.fingerprint, region, dtype), build)
    return load_array(folder / "embedding.npy", remedy="remove it, and the same command makes it again")


def text_space_key(fingerprint: str, region: str, dtype: str) -> str:
    """What the vectors of a data set are called in the cache."""
    identity = json.dumps([VERSION, fingerprint, region, dtype])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def text_of(conversation: Conversation, region: Region) -> str:
    """What a row says, or one side of it."""
    kept = {"all": (True, False), "response": (True,), "instruction": (False,)}[region]
    return "\n".join(_turn_text(turn) for turn in conversation.turns if (turn.role == "assistant") in kept)


def _turn_text(turn: Turn) -> str:
    return f"{turn.message} {json.dumps(turn.more, ensure_ascii=False)}" if turn.more else turn.message


def _texts(dataset: Dataset, region: Region) -> Iterator[list[str]]:
    return ([text_of(conversation, region) for conversation in batch] for batch in dataset.iterate())


def _digests(texts: Sequence[str]) -> UInt64[np.ndarray, " some"]:
    encoded = (hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(encoded), dtype="<u8")


def _sample(dataset: Dataset, region: Region, digests: UInt64[np.ndarray, " rows"]) -> list[str]:
    """The texts that the projection is learned from, in the order of their digests, whatever that of the rows is."""
    rows = np.argsort(digests, kind="stable")[:LEARNED_FROM]
    position = {row: i for i, row in enumerate(rows.tolist())}
    sample, row = [""] * len(rows), 0
    for texts in _texts(dataset, region):
        for text in texts:
            if row in position:
                sample[position[row]] = text
            row += 1
    return sample


def _projection(sample: Sequence[str]) -> Callable[[Sequence[str]], Float[np.ndarray, "some dim"]]:
    """What makes vectors of texts, learned from a sample of them."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer  # here: it takes a second to import
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    hashing = HashingVectorizer(
        n_features=FEATURES, ngram_range=(1, 2), tokenizer=words, token_pattern=None, binary=True, norm=None,
        alternate_sign=False, dtype=np.float32,
    )  # fmt: skip
    occurs: csr_matrix = hashing.transform(sample)
    weights = TfidfTransformer().fit(occurs)
    with threadpool_limits(limits=1):  # so that sums, and with them the vectors, do not depend on how many there are
        _, _, directions = randomized_svd(
            weights.transform(occurs), min(DIMENSIONS, len(sample)), n_iter=POWER_ITERATIONS, random_state=0
        )
    weighted = np.ascontiguousarray((directions * weights.idf_).T, dtype=np.float32)  # each row of a product by itself

    def project(texts: Sequence[str]) -> Float[np.ndarray, "some dim"]:
        X = np.asarray(hashing.transform(texts) @ weighted, dtype=np.float64)
        length = np.linalg.norm(X, axis=1, keepdims=True)
        return X / np.where(length > 0, length, 1)

    return project


def words(text: str) -> list[str]:
    """The words of two letters and more, and each character of scripts without spaces; where there are none, all signs.

    Marks that belong to a letter, such as the vowel signs of Devanagari, do not end a word.
    """
    return _word().findall(text) or re.findall(r"\S", text)


@functools.cache
def _word() -> re.Pattern[str]:
    characters = map(chr, range(0x300, 0xFFFF))
    marks = "".join(c for c in characters if unicodedata.category(c)[0] == "M" and not re.match(f"[{UNSPACED}]", c))
    return re.compile(rf"[{UNSPACED}]|(?:[^\W{UNSPACED}]|[{marks}]){{2,}}")
