"""The rows that were not chosen: how near the pool is to each, and in which order a larger budget would take them."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int

from diverseevol.data.dataset import Dataset
from diverseevol.evolution.receipts import excerpt
from diverseevol.geometry.distances import distance_to_pool
from diverseevol.runs.row_facts import MOST_TEXTS, RowFacts
from diverseevol.samplers.base import Sampler, choose
from diverseevol.samplers.features import Features

AT_ONCE = 4096  # rows between two steps of the progress


def row_facts(
    dataset: Dataset,
    response_tokens: Int[np.ndarray, " rows"],
    X: Float[np.ndarray, "rows dim"] | None,
    pool: Int[np.ndarray, " pool"],
    advance: Callable[[int], None] = lambda rows: None,
) -> RowFacts:
    """What is kept of every row.

    Args:
        dataset: the rows.
        response_tokens: of each; 0 for one that cannot be chosen.
        X: what they are compared in; None: they are not.
        pool: the rows that were chosen.
        advance: called with the number of rows done since the last call.
    """
    distance, nearest = np.full(len(dataset), np.nan), np.full(len(dataset), -1)
    for start in range(0, 0 if X is None else len(X), AT_ONCE):
        assert X is not None
        rows = np.arange(start, min(start + AT_ONCE, len(X)))
        distance[rows], nearest[rows] = distance_to_pool(X, rows, pool)
        advance(len(rows))
    distance[pool], nearest[pool] = 0, pool  # of equal rows of the pool, the lowest is the nearest
    return RowFacts(nearest, distance, response_tokens, dict(_texts(dataset, pool)))


def _texts(dataset: Dataset, pool: Int[np.ndarray, " pool"]) -> Iterator[tuple[int, str]]:
    if len(dataset) > MOST_TEXTS:
        yield from ((int(row), _text(dataset, int(row))) for row in np.sort(pool))
        return
    conversations = (conversation for batch in dataset.iterate() for conversation in batch)
    yield from ((row, excerpt(f"{c.instruction} {c.input}")) for row, c in enumerate(conversations))


def _text(dataset: Dataset, row: int) -> str:
    conversation = dataset[row]
    return excerpt(f"{conversation.instruction} {conversation.input}")


def order_beyond(
    sampler: Sampler, facts: RowFacts, X: Float[np.ndarray, "rows dim"] | None, count: int
) -> Int[np.ndarray, " more"]:
    """The rows that a sampler would choose next, in pick order, were the pool to grow.

    Args:
        sampler: chooses row by row (see `chooses_row_by_row`), by embeddings and lengths alone.
        facts: of all rows and the pool.
        X: what they are compared in; None for a sampler that needs no embedding.
        count: how many rows; at most all that are left.
    """
    taken = facts.response_tokens == 0
    taken[facts.pool] = True
    rng = np.random.default_rng(0)  # such a sampler draws nothing
    return choose(sampler, Features(facts.response_tokens, X), taken, count, rng).rows
