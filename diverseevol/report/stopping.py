"""After which round more rows stopped paying, by each line and metric, and how far the seeds agree about it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diverseevol.evaluation.scores.frame import Frame
from diverseevol.evaluation.scores.plateau import Stop, latest, stop
from diverseevol.report.charts.lines import Line
from diverseevol.runs.metrics import MetricDescription


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
    decides = latest(known)
    if decides is None:
        return f"no stop in sight: still paid at the last round ({of})"
    unsure = "one seed, so another may say otherwise" if len(decides.alone) == 1 else _seeds(decides.alone)
    if decides.round == 0:
        return f"stay with the first pool: more rows did not pay ({of}; {unsure})"
    return f"stop after round {decides.round}, at {decides.rows:,} rows ({of}; {unsure})"


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
