"""Lazy greedy maximisation of a submodular function: the greedy algorithm's picks from a few of the gains."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

FIRST_BATCH = 16  # gains that are computed together at first, then twice as many each time


def lazy_greedy(
    bounds: Float[np.ndarray, " candidates"],
    gains: Callable[[Int[np.ndarray, " some"]], Float[np.ndarray, " some"]],
    add: Callable[[int], None],
    n: int,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Pick n candidates one after another, each the one that raises the function most (Minoux 1978).

    What a candidate adds never grows as others join (that is submodularity), so an old gain bounds the present one
    from above, and a candidate whose gain is up to date and above all other bounds is the greedy choice. Of equal
    candidates the lowest is picked.

    Args:
        bounds: [candidates] upper bounds of the first gains; the tighter, the less is computed.
        gains: returns the present gains of some candidates.
        add: adds a candidate, which changes what `gains` returns.
        n: how many to pick; at most the number of candidates.

    Returns:
        The picks in order, and the gain of each when it was picked.
    """
    value = bounds.astype(np.float64)
    picks, gained = np.empty(n, dtype=np.int64), np.empty(n)
    for turn in range(n):
        fresh = np.isneginf(value)  # already picked
        batch = FIRST_BATCH
        while not fresh[best := int(value.argmax())]:
            rivals = np.flatnonzero(~fresh & (value >= value[fresh].max(initial=-np.inf)))
            if len(rivals) > batch:
                rivals = rivals[np.argpartition(-value[rivals], batch)[:batch]]
            value[rivals] = gains(rivals)
            fresh[rivals] = True
            batch *= 2
        picks[turn], gained[turn] = best, value[best]
        value[best] = -np.inf
        add(best)
    return picks, gained
