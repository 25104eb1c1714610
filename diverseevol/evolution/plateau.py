"""Whether an evolution is to end before its last round: more rows have stopped paying (`stop=plateau`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diverseevol.errors import InputError, meant, shown
from diverseevol.evaluation.scores.plateau import MINIMUM_ROUNDS, Stop, latest, stop
from diverseevol.evolution.metrics import Metric
from diverseevol.evolution.metrics.base import description_of
from diverseevol.options import Plateau
from diverseevol.runs.metrics import SCORES, MetricDescription

RELATIVE_SCORE = SCORES[0].name


def curves_of(metrics: Sequence[Metric]) -> dict[str, MetricDescription]:
    """What says something about stopping, scores among it, by name."""
    described = (*SCORES, *map(description_of, metrics))
    return {description.name: description for description in described if description.pays_while}


def check_stop(rule: Plateau, metrics: Sequence[Metric], benchmarks: Sequence[str], judged: bool = True) -> None:
    """Look whether what is to decide is measured.

    Args:
        rule: the options.
        metrics: what is measured.
        benchmarks: what is asked, by name.
        judged: whether answers are.

    Raises:
        InputError: it is not, or says nothing about stopping.
    """
    names = [name for name in curves_of(metrics) if name != RELATIVE_SCORE]
    names += [f"{RELATIVE_SCORE}/{benchmark}" for benchmark in benchmarks if judged]
    if not names:
        raise InputError(
            "stop=plateau: no round measures anything that says whether more rows pay; give a benchmark and a judge, "
            "metric.vendi_score, or stop=null"
        )
    # Only a metric of the user's own may have parts, which it names as it measures.
    own = {description_of(metric).name for metric in metrics if not type(metric).__module__.startswith("diverseevol.")}
    if rule.metric is not None and rule.metric not in names and rule.metric.partition("/")[0] not in own & {*names}:
        raise InputError(
            f"stop.metric is {shown(rule.metric)}, which no round measures, or which says nothing about more rows"
            f"{meant(rule.metric, names)}; choose from {', '.join(names)}, or leave it out"
        )


def rounds_needed(rule: Plateau) -> int:
    """How many rounds there must be, round 0 among them, before the rule can end an evolution."""
    return max(MINIMUM_ROUNDS, rule.patience + 1)


def plateau(
    rule: Plateau, rows: Sequence[int], values: Sequence[Mapping[str, float]], metrics: Sequence[Metric], rounds: int
) -> dict[str, Any] | None:
    """Why an evolution ends after the last of its rounds so far; None where it goes on.

    Args:
        rule: the options.
        rows: training rows of each round so far.
        values: what was measured of each of them, scores among it, by logged name.
        metrics: what is measured.
        rounds: the last round that is asked for.
    """
    known = curves_of(metrics)
    curves = {
        name: known[name.partition("/")[0]]
        for name in values[-1]
        if name.partition("/")[0] in known and all(name in measured for measured in values)
    }
    if rule.metric is not None:
        curves = {name: description for name, description in curves.items() if name == rule.metric}
    elif scores := {name: description for name, description in curves.items() if description in SCORES}:
        curves = scores
    stops = {name: _stop(rule, rows, [each[name] for each in values], curves[name]) for name in curves}
    decides = latest(list(stops.values()))
    if decides is None:
        return None
    name = next(name for name, one in stops.items() if one is decides)
    return {
        "rule": "plateau", "metric": name, "round": decides.round, "rows": decides.rows, "patience": rule.patience,
        "least_gain": rule.least_gain, "metrics": sorted(curves), "of": rounds,
    }  # fmt: skip


def _stop(rule: Plateau, rows: Sequence[int], curve: Sequence[float], description: MetricDescription) -> Stop:
    sign = -1 if description.pays_while == "falling" else 1
    sizes, heights = np.asarray(rows, dtype=np.float64), sign * np.asarray([curve], dtype=np.float64)
    return stop(sizes, heights, rule.least_gain, rule.patience)
