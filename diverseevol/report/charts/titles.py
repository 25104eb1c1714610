"""The order of panels and columns, and what a relative score of 100 means."""

from diverseevol.evaluation.judges.without_model import capabilities_of
from diverseevol.evaluation.scores.scoreboard import PAPER_QUESTIONS
from diverseevol.evolution.metrics import KNOWN
from diverseevol.runs.metrics import MetricKey

WARNING_LIGHT = "held-out and references: lower is better; a warning light, not a judge"


def benchmark_order(name: str) -> tuple[int, str]:
    """Where a benchmark's panel stands in every figure: the paper's first, in its order, then by name."""
    known = list(PAPER_QUESTIONS)
    return known.index(name) if name in known else len(known), name


def metric_order(metric: str) -> tuple[int, tuple[int, str], str]:
    """Where a metric stands in tables and figures: in the order in which the project's own are listed, by benchmark."""
    key, known = MetricKey.parse(metric), list(KNOWN)
    return known.index(key.name) if key.name in known else len(known), benchmark_order(key.part), key.name


def score_label(judge: str) -> str:
    """The y axis of a judge's relative scores, with what 100 means."""
    return f"relative score\n{'(all right = 100, floor = 10)' if _is_gold(judge) else '(competitor = 100)'}"


def questions_of(benchmark: str, judge: str) -> str:
    """What a panel of relative scores shows: its questions, and the judge unless that one knows the right answers."""
    return benchmark if _is_gold(judge) else f"{benchmark}, judge {judge}"


def _is_gold(judge: str) -> bool:
    return capabilities_of(judge.partition(" ")[0]).gold  # also with the prompt's version behind it
