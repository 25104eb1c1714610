"""Whether an evolution is to end before its last round: more rows have stopped paying (`stop=plateau`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diverseevol.errors import InputError, meant, shown
from diverseevol.evaluation.scores.plateau import Stop, latest, stop
from diverseevol.evolution.metrics import Metric
from diverseevol.evolution.metrics.base import description_of
from diverseevol.options import Plateau
from diverseevol.runs.metrics import SCORES, MetricDescription

RELATIVE_SCORE = SCORES[0].name


def curves_of(metrics: Sequence[Metric]) -> dict[str, MetricDescription]:
    """What says something about stopping, scores among it, by name."""
    described = (*SCORES, *map(description_of, metrics))
    return {description.name: description for description in described if description.pays_while}


def check_stop(rule: Plateau, metrics: Sequence[Metric], benchmarks: Sequence[str]) -> None:
    """Look whether what is to decide is measured.

    Raises:
        InputError: it is not, or says nothing about stopping.
    """
    if rule.metric is None:
        return
    names = [name for name in curves_of(metrics) if name != RELATIVE_SCORE]
    names += [f"{RELATIVE_SCORE}/{benchmark}" for benchmark in benchmarks]
    if rule.metric not in names and rule.metric.partition("/")[0] not in names:
        raise InputError(
            f"stop.metric is {shown(rule.metric)}, which no round measures, or which says nothing about more rows"
            f"{meant(rule.metric, names)}; choose from {', '.join(names)}, or leave it out"
        )


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
