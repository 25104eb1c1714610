"""After which round more rows stopped paying: a rule on a curve, for reports and for evolutions that end by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

SHARE = 0.25  # of the curve's average gain a row: less than that does not pay
NOISES = 2.0  # standard errors of a difference: less than that cannot be told from noise
CONFIRMING = 2  # rounds that must follow without gain before a stop is called one
MINIMUM_ROUNDS = 5
RULE = (
    "The stopping round is the first round t after which no later round has a gain that counts. A gain over t counts "
    "where it is more than a quarter of what the curve gained a row on average (from round 0 to its best round, over "
    "all rows added), and more than two standard errors of noise. The noise is estimated from how much each seed's "
    "curve wobbles from round to round (median absolute second difference), and shrinks with the number of seeds. "
    "A stop needs two further rounds to confirm it; without them the curve counts as still paying. The rule is "
    "applied to the mean over seeds, and, for its uncertainty, to each seed alone."
)
Verdict = Literal["stopped paying", "still paying", "never paid", "cannot tell"]


@dataclass(frozen=True)
class Stop:
    """What the rule says of one curve.

    Attributes:
        verdict: "never paid" where no gain over round 0 counts.
        round: the stopping round; None unless the verdict is "stopped paying" or "never paid".
        rows: training rows of that round.
        alone: what each seed says by itself: its stopping round, or None where it sees none.
        noise: standard error of the mean curve's points, in the curve's own unit.
        reason: why it cannot be told; "" otherwise.
    """

    verdict: Verdict
    round: int | None
    rows: int | None
    alone: tuple[int | None, ...]
    noise: float
    reason: str = ""


def stop(
    rows: Float[np.ndarray, " rounds"],
    curves: Float[np.ndarray, "seeds rounds"],
    share: float = SHARE,
    confirming: int = CONFIRMING,
) -> Stop:
    """Apply `RULE`.

    Args:
        rows: training rows of each round, growing.
        curves: a curve a seed, turned so that more is better.
        share: of the average gain a row: less than that does not pay.
        confirming: rounds that must follow without gain.
    """
    if len(rows) < MINIMUM_ROUNDS:
        return Stop("cannot tell", None, None, (), float("nan"), f"{len(rows)} rounds; it takes {MINIMUM_ROUNDS}")
    wobbles = np.array([wobble(curve) for curve in curves], dtype=np.float64)
    alone = tuple(
        _confirmed(_first(rows, y, noise, share), len(rows), confirming)
        for y, noise in zip(curves, wobbles, strict=True)
    )
    noise = float(np.sqrt((wobbles**2).mean() / len(wobbles)))
    mean = curves.mean(axis=0)
    gain, blur = float(mean.max() - mean[0]), NOISES * np.sqrt(2) * noise
    if gain > blur > gain / 2:
        return Stop("cannot tell", None, None, alone, noise, "the noise is more than half of all that was gained")
    t = _confirmed(_first(rows, mean, noise, share), len(rows), confirming)
    if t is None:
        return Stop("still paying", None, None, alone, noise)
    return Stop("never paid" if t == 0 else "stopped paying", t, int(rows[t]), alone, noise)


def wobble(curve: Float[np.ndarray, " rounds"]) -> float:
    """Standard deviation of a curve's points about a smooth course: of noise alone, second differences have 6 σ²."""
    return float(np.median(np.abs(np.diff(curve, n=2))) / (0.6745 * np.sqrt(6)))


def _first(rows: Float[np.ndarray, " rounds"], y: Float[np.ndarray, " rounds"], noise: float, share: float) -> int:
    """The first round after which no later gain counts; the last round at the latest."""
    rate = share * (y.max() - y[0]) / (rows[-1] - rows[0])
    for t in range(len(y)):
        gains, added = y[t + 1 :] - y[t], rows[t + 1 :] - rows[t]
        if not ((gains > rate * added) & (gains > NOISES * np.sqrt(2) * noise)).any():
            return t
    raise AssertionError("after the last round there is nothing to gain")


def _confirmed(t: int, rounds: int, confirming: int) -> int | None:
    return t if t + confirming < rounds else None


def latest(stops: Sequence[Stop]) -> Stop | None:
    """Of the curves that say something, the one that paid longest decides; None where one still pays, or none says."""
    known = [stop for stop in stops if stop.verdict != "cannot tell"]
    if any(stop.verdict == "still paying" for stop in known):
        return None
    return max(known, key=lambda stop: stop.round or 0, default=None)
