"""The order of panels and columns, what they are called, and what a relative score of 100 means."""

import re

from diverseevol.evaluation.judges.without_model import capabilities_of
from diverseevol.evaluation.scores.scoreboard import PAPER_QUESTIONS
from diverseevol.evolution.metrics import KNOWN
from diverseevol.runs.metrics import MetricDescription, MetricKey

WARNING_LIGHT = "held-out and references: lower is better; a warning light, not a judge"
BY_PHASE = ("seconds", "peak_memory")  # metrics of which each phase has its own
# The phases of a round as the terminal calls them, by their names in files and in the order in which they run.
PHASES = {
    "all phases": "all phases", "foundation": "embed with the foundation model", "text": "compare words",
    "fit": "fine-tune", "probe": "embed", "disagreement": "committee", "select": "select", "measure": "measure",
    "answer": "answer", "judge": "judge",
}  # fmt: skip


def benchmark_order(name: str) -> tuple[int, str]:
    """Where a benchmark's panel stands in every figure: the paper's first, in its order, then by name."""
    known = list(PAPER_QUESTIONS)
    return known.index(name) if name in known else len(known), name


def metric_order(metric: str) -> tuple[int, tuple[int, str]]:
    """Where a metric stands in tables and figures: the project's own as listed, others as a round has them; by part."""
    (name, part), known = MetricKey.parse(metric), list(KNOWN)
    parts = _phase_order(part) if name in BY_PHASE else benchmark_order(part)
    return known.index(name) if name in known else len(known), parts


def _phase_order(phase: str) -> tuple[int, str]:
    kind, known = _kind_of_phase(phase), list(PHASES)
    return known.index(kind) if kind in known else len(known), phase


def _kind_of_phase(phase: str) -> str:
    """Its first word: "answer vicuna" and "answer koala" are of one kind, "fit/device" is the memory on a GPU."""
    return phase if phase in PHASES else re.split("[ /]", phase)[0]


def _phase_title(phase: str) -> str:
    kind = _kind_of_phase(phase)
    return f"{PHASES.get(kind, kind)}{phase[len(kind) :].replace('/', ', ')}"


def panel_texts(metric: str, judge: str, description: MetricDescription) -> tuple[str, str]:
    """The title and the y axis of a metric's panel."""
    name, part = MetricKey.parse(metric)
    if name == "relative_score":
        meaning = "all right = 100, floor = 10" if _is_gold(judge) else "competitor = 100"
        return questions_of(part, judge), f"relative score\n({meaning})"
    return description.titled(_phase_title(part) if name in BY_PHASE else part), description.axis


def questions_of(benchmark: str, judge: str) -> str:
    """What a panel of relative scores shows: its questions, and the judge unless that one knows the right answers."""
    return benchmark if _is_gold(judge) else f"{benchmark}, judge {judge}"


def _is_gold(judge: str) -> bool:
    return capabilities_of(judge.partition(" ")[0]).gold  # also with the prompt's version behind it
