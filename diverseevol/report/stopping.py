"""After which round more rows stopped paying: a rule on a curve, and how far the seeds agree about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from diverseevol.evaluation.scores.frame import Frame
from diverseevol.report.charts.lines import Line
from diverseevol.runs.metrics import MetricDescription

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


def stop(rows: Float[np.ndarray, " rounds"], curves: Float[np.ndarray, "seeds rounds"]) -> Stop:
    """Apply `RULE`.

    Args:
        rows: training rows of each round, growing.
        curves: a curve a seed, turned so that more is better.
    """
    if len(rows) < MINIMUM_ROUNDS:
        return Stop("cannot tell", None, None, (), float("nan"), f"{len(rows)} rounds; it takes {MINIMUM_ROUNDS}")
    wobbles = np.array([wobble(curve) for curve in curves], dtype=np.float64)
    alone = tuple(_confirmed(_first(rows, y, noise), len(rows)) for y, noise in zip(curves, wobbles, strict=True))
    noise = float(np.sqrt((wobbles**2).mean() / len(wobbles)))
    mean = curves.mean(axis=0)
    gain, blur = float(mean.max() - mean[0]), NOISES * np.sqrt(2) * noise
    if gain > blur > gain / 2:
        return Stop("cannot tell", None, None, alone, noise, "the noise is more than half of all that was gained")
    t = _confirmed(_first(rows, mean, noise), len(rows))
    if t is None:
        return Stop("still paying", None, None, alone, noise)
    return Stop("never paid" if t == 0 else "stopped paying", t, int(rows[t]), alone, noise)


def wobble(curve: Float[np.ndarray, " rounds"]) -> float:
    """Standard deviation of a curve's points about a smooth course: of noise alone, second differences have 6 σ²."""
    return float(np.median(np.abs(np.diff(curve, n=2))) / (0.6745 * np.sqrt(6)))


def _first(rows: Float[np.ndarray, " rounds"], y: Float[np.ndarray, " rounds"], noise: float) -> int:
    """The first round after which no later gain counts; the last round at the latest."""
    rate = SHARE * (y.max() - y[0]) / (rows[-1] - rows[0])
    for t in range(len(y)):
        gains, added = y[t + 1 :] - y[t], rows[t + 1 :] - rows[t]
        if not ((gains > rate * added) & (gains > NOISES * np.sqrt(2) * noise)).any():
            return t
    raise AssertionError("after the last round there is nothing to gain")


def _confirmed(t: int, rounds: int) -> int | None:
    return t if t + CONFIRMING < rounds else None


def in_words(stop: Stop) -> str:
    """One clause about one curve, with the seeds' own say."""
    if stop.verdict == "cannot tell":
        return f"cannot tell: {stop.reason}"
    until = {
        "stopped paying": f"until round {stop.round}, {stop.rows or 0:,} rows",
        "never paid": "not beyond round 0",
        "still paying": "still paid at the last round",
    }
    return f"{until[stop.verdict]} ({_seeds(stop.alone)})"


def _seeds(alone: tuple[int | None, ...]) -> str:
    if len(alone) == 1:
        return "one seed"
    seen = sorted(t for t in alone if t is not None)
    if not seen:
        return f"so says each of {len(alone)} seeds alone"
    span = f"round {seen[0]}" if seen[0] == seen[-1] else f"rounds {seen[0]} to {seen[-1]}"
    open_ended = len(alone) - len(seen)
    return f"seeds alone: {span}" + (f", {open_ended} of {len(alone)} see no end" if open_ended else "")


def recommend(scores: Sequence[Stop], pool: Sequence[Stop]) -> str:
    """One sentence for one sampler.

    Args:
        scores: of its relative scores, a benchmark each.
        pool: of coverage radius and Vendi-Score, which decide only where no score was judged.
    """
    deciding, of = (scores, "relative score") if scores else (pool, "coverage and diversity alone, nothing was judged")
    known = [stop for stop in deciding if stop.verdict != "cannot tell"]
    if not known:
        return f"cannot tell: {deciding[0].reason}" if deciding else "cannot tell: nothing was measured"
    if any(stop.verdict == "still paying" for stop in known):
        return f"no stop in sight: still paid at the last round ({of})"
    latest = max(known, key=lambda stop: stop.round or 0)
    unsure = "one seed, so another may say otherwise" if len(latest.alone) == 1 else _seeds(latest.alone)
    if latest.round == 0:
        return f"stay with the first pool: more rows did not pay ({of}; {unsure})"
    return f"stop after round {latest.round}, at {latest.rows:,} rows ({of}; {unsure})"


@dataclass(frozen=True)
class StopOfCurve:
    """When one curve stopped paying; `metric`, `judge` and `description` as a point's."""

    line: Line
    metric: str
    judge: str
    description: MetricDescription
    seeds: int
    stop: Stop


def stops(frame: Frame) -> list[StopOfCurve]:
    """Every line that grew round by round, by the metrics that say something about it (see `RULE`).

    Only the seeds that came furthest are used, so that no step of the mean is one of who is in it.
    """
    pays = frame.description.map(lambda description: description.pays_while).astype(str)
    stopped = []
    for (line, metric, judge), curve in frame[~frame.full & frame.rows.notna() & (pays != "")].groupby(
        ["line", "metric", "judge"]
    ):
        by_seed = curve.groupby(["seed", "rows"], dropna=False).value.last().unstack()
        by_seed = by_seed[by_seed[by_seed.columns.max()].notna()].dropna(axis=1)
        if by_seed.shape[1] > 2:  # not a one-time schedule, which has no rounds to stop after
            description = curve.description.iloc[0]
            sign = -1 if description.pays_while == "falling" else 1
            verdict = stop(by_seed.columns.to_numpy(np.float64), sign * by_seed.to_numpy(np.float64))
            stopped.append(StopOfCurve(line, metric, judge, description, len(by_seed), verdict))
    return sorted(stopped, key=lambda curve: (curve.line, not curve.judge, curve.metric, curve.judge))
