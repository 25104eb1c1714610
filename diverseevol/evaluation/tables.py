"""Scores and comparisons for people (terminal tables) and for programs (CSV)."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from diverseevol.evaluation.comparison import AFTER_THE_FACT, MODELS, SAMPLERS, Comparison
from diverseevol.evaluation.scoreboard import Scoreboard, ScoredRound
from diverseevol.evaluation.scores import INTERVAL
from diverseevol.files import atomic_write

COLUMNS = (
    "source", "judge", "benchmark", "schedule", "seed", "round", "questions", "relative_score", "ci_low", "ci_high",
    "mean_ratio", "win", "tie", "lose", "order_changes", "order_flips",
)  # fmt: skip


def write_scores_csv(path: Path, rounds: Iterable[ScoredRound]) -> None:
    """Write a line a model and benchmark; what is not known is left empty."""
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for each in rounds:
            values = [getattr(each, c) if hasattr(each, c) else getattr(each.scores, c) for c in COLUMNS]
            writer.writerow([f"{value:.4f}" if isinstance(value, float) else value for value in values])


def scores_table(board: Scoreboard) -> Table:
    """Every score, with what to know of it in the caption."""
    labels = sorted({f"{e.judge}: {e.scores.label}" for e in board.rounds if e.scores.label})
    zeros = sum(each.scores.zeros for each in board.rounds)
    notes = [
        f"interval: {INTERVAL}",
        "relative score: Σ model / Σ competitor; mean ratio: mean over questions, another number",
        "changes/flips: questions whose verdict changes, or whose winner swaps, when the answers swap places",
        f"{zeros} scores of 0 are in the sums as recorded" if zeros else "",
        *labels,
        *(f"warning: {warning}" for warning in board.warnings),
    ]
    caption = escape("\n".join(filter(None, notes)))
    table = Table(title=" · ".join(["Scores", *labels]), caption=caption, caption_justify="left")
    for name in ("source", "judge", "benchmark", "schedule"):
        table.add_column(name, overflow="fold")
    for name in ("seed", "round", "questions", "relative score", "95 % interval", "mean ratio"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("win/tie/lose", justify="right", overflow="fold")
    table.add_column("changes/flips", justify="right", overflow="fold")
    for each in board.rounds:
        s = each.scores
        _add_row(
            table,
            each.source, each.judge, each.benchmark, each.schedule, _seed(each.seed), str(each.round),
            str(s.questions), f"{s.relative_score:.2f}", _interval(s.ci_low, s.ci_high),
            "" if s.mean_ratio is None else f"{s.mean_ratio:.2f}", f"{s.win}/{s.tie}/{s.lose}",
            "" if s.order_changes is None else f"{s.order_changes}/{s.order_flips}",
        )  # fmt: skip
    return table


def _add_row(table: Table, *cells: str) -> None:
    table.add_row(*map(escape, cells))  # a folder's name may hold the brackets that rich reads as markup


def _seed(seed: int | None) -> str:
    return "" if seed is None else str(seed)


def _interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    if low is None or high is None:
        return ""
    return f"{low:+.2f} … {high:+.2f}" if signed else f"{low:.2f} … {high:.2f}"


def comparison_tables(comparison: Comparison) -> list[Table]:
    """The two levels, a table each, and the best rounds under their warning."""
    return [_samplers(comparison), _models(comparison), _best(comparison)]


def _samplers(comparison: Comparison) -> Table:
    left_out = [f"{v.schedule}, {v.benchmark}: {reason}" for v in comparison.samplers for reason in v.left_out]
    caption = [SAMPLERS, *comparison.labels, *(f"left out: {reason}" for reason in left_out)]
    head = (
        "source",
        "judge",
        "benchmark",
        "sampler",
        "against",
        "rounds",
        "seeds",
        "difference",
        "95 % interval",
        "p",
        "p (Holm)",
        "verdict",
    )
    table = _table(f"These two samplers ({comparison.endpoint})", caption, head)
    for v in comparison.samplers:
        _add_row(
            table,
            v.source, v.judge, v.benchmark, v.schedule, v.baseline, f"{v.rounds[0]}, {v.rounds[1]}", str(len(v.seeds)),
            "" if v.mean_difference is None else f"{v.mean_difference:+.2f}",
            _interval(v.ci_low, v.ci_high, signed=True), _p(v.p), _p(v.p_holm), v.verdict,
        )  # fmt: skip
    return table


def _p(p: float | None) -> str:
    return "" if p is None else f"{p:.3f}"


def _models(comparison: Comparison) -> Table:
    head = (
        "source",
        "judge",
        "benchmark",
        "model",
        "against",
        "seed",
        "rounds",
        "difference",
        "95 % interval",
        "verdict",
    )
    table = _table(f"These two models ({comparison.endpoint})", [MODELS, *comparison.labels], head)
    for v in comparison.models:
        _add_row(
            table,
            v.source, v.judge, v.benchmark, v.schedule, v.baseline, _seed(v.seed), f"{v.round}, {v.baseline_round}",
            f"{v.difference:+.2f}", _interval(v.ci_low, v.ci_high, signed=True), v.verdict,
        )  # fmt: skip
    return table


def _best(comparison: Comparison) -> Table:
    head = ("source", "judge", "benchmark", "schedule", "seed", "round", "relative score")
    table = _table("Best rounds, picked after the fact", [AFTER_THE_FACT, *comparison.labels], head)
    for b in comparison.best_rounds:
        _add_row(
            table, b.source, b.judge, b.benchmark, b.schedule, _seed(b.seed), str(b.round), f"{b.relative_score:.2f}"
        )
    return table


def _table(title: str, caption: Sequence[str], head: Sequence[str]) -> Table:
    table = Table(title=title, caption=escape("\n".join(caption)), caption_justify="left")
    for name in head:
        table.add_column(name, overflow="fold")
    return table
