"""What metrics are called in figures and tables, in which unit, and what a relative score of 100 means."""

from collections.abc import Iterable, Mapping

from diverseevol.evaluation.judges.without_model import recorded
from diverseevol.evaluation.scores.scoreboard import PAPER_QUESTIONS

LOSS = "nats per response token"
WARNING_LIGHT = "held-out and references: lower is better; a warning light, not a judge"
TITLES: Mapping[str, tuple[str, str]] = {  # what a metric is called, and its unit
    "vendi_score": ("as in the paper", "Vendi-Score (effective rows)"),
    "vendi_score_centred": ("centred by the mean over all rows", "Vendi-Score (effective rows)"),
    "vendi_score_current": ("in the round's own space", "Vendi-Score (effective rows)"),
    "coverage_radius": ("coverage radius", "largest distance to the pool"),
    "train_loss": ("training loss", LOSS),
    "held_out_loss": ("loss on held-out rows", LOSS),
    "reference_loss": ("loss on references", LOSS),
    "skills_covered": ("skills covered", "skills in the pool"),
    "noisy_share": ("noisy rows", "share of the pool"),
    "duplicate_share": ("duplicates", "share of the pool"),
}


def benchmark_order(name: str) -> tuple[int, str]:
    """Where a benchmark's panel stands in every figure: the paper's first, in its order, then by name."""
    known = list(PAPER_QUESTIONS)
    return known.index(name) if name in known else len(known), name


def loss_names(metrics: Iterable[str]) -> list[str]:
    """The losses among some metrics' names that were measured on rows that no pool holds, in the order of panels."""
    losses = [name.partition("/") for name in {*metrics}]
    losses = [parts for parts in losses if parts[0] in ("held_out_loss", "reference_loss")]
    return ["".join(parts) for parts in sorted(losses, key=lambda parts: (parts[0], benchmark_order(parts[2])))]


def score_label(judge: str) -> str:
    """The y axis of a judge's relative scores, with what 100 means."""
    return f"relative score\n{'(all right = 100, floor = 10)' if _is_gold(judge) else '(competitor = 100)'}"


def questions_of(benchmark: str, judge: str) -> str:
    """What a panel of relative scores shows: its questions, and the judge unless that one knows the right answers."""
    return benchmark if _is_gold(judge) else f"{benchmark}, judge {judge}"


def _is_gold(judge: str) -> bool:
    return recorded(judge.partition(" ")[0]).gold  # also with the prompt's version behind it
