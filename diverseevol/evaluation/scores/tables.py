"""Scores and comparisons for people (terminal tables) and for programs (CSV)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Group

from diverseevol.evaluation.scores.comparison import AFTER_THE_FACT, MODELS, SAMPLERS, Comparison
from diverseevol.evaluation.scores.frame import Frame
from diverseevol.evaluation.scores.pairing import spread
from diverseevol.evaluation.scores.scoreboard import Scoreboard
from diverseevol.evaluation.scores.scores import INTERVAL
from diverseevol.output.sheets import write_csv
from diverseevol.output.tables import Table, as_text, interval

COLUMNS = (
    "source", "judge", "benchmark", "schedule", "seed", "round", "questions", "relative_score", "ci_low", "ci_high",
    "mean_ratio", "win", "tie", "lose", "order_changes", "order_flips",
)  # fmt: skip


def write_scores_csv(path: Path, frame: Frame) -> None:
    """Write a line a model and benchmark; what is not known is left empty."""
    lines = []
    for row in frame.itertuples():
        facts = {**vars(row.scores), **row._asdict()}  # a judge of several prompts is named with the prompt
        if row.scores.questions == 1:  # from which no other can be drawn
            facts |= {"ci_low": "", "ci_high": ""}
        lines.append([f"{facts[c]:.4f}" if isinstance(facts[c], float) else facts[c] for c in COLUMNS])
    write_csv(path, COLUMNS, lines)


def scores_table(board: Scoreboard) -> Group:
    """Every score, with what to know of it in the caption."""
    rows = list(board.frame.itertuples())
    zeros = sum(row.scores.zeros for row in rows)
    meanings = {
        "relative score": "relative score: 100 · Σ model / Σ competitor",
        "95 % interval": f"interval: {INTERVAL}",
        "mean ratio": "mean ratio: 100 · mean over questions of model / competitor, not the relative score",
        "changes/flips": "changes/flips: questions whose verdict changes, or whose winner swaps, when the answers swap "
        "places",
    }
    notes = [
        f"{zeros} scores of 0 are in the sums as recorded" if zeros else "",
        *board.labels,
        *(f"warning: {warning}" for warning in board.warnings),
    ]
    head = (
        "source", "judge", "benchmark", "schedule", "seed", "round", "questions", "relative score", "95 % interval",
        "mean ratio", "win/tie/lose", "changes/flips",
    )  # fmt: skip
    cells = [
        (
            row.source, row.judge, row.benchmark, row.schedule, _seed(row.seed), str(row.round), str(s.questions),
            f"{s.relative_score:.2f}", interval(s.ci_low, s.ci_high) if s.questions > 1 else "",
            "" if s.mean_ratio is None else f"{s.mean_ratio:.2f}", f"{s.win}/{s.tie}/{s.lose}",
            "" if s.order_changes is None else f"{s.order_changes}/{s.order_flips}",
        )
        for row in rows
        for s in [row.scores]
    ]  # fmt: skip
    apart = spread(board.frame.rows.tolist(), board.frame["round"].tolist())
    title = " · ".join(filter(None, ["Scores", apart, *board.labels]))
    return as_text(Table(title, head, cells, notes, meanings))


def _seed(seed: int | None) -> str:
    return "" if seed is None else str(seed)


def comparison_tables(comparison: Comparison, names: Mapping[str, str] | None = None) -> list[Group]:
    """The two levels, a table each, and the best rounds under their warning.

    Args:
        comparison: what was compared.
        names: what schedules are called for readers, instead of by a hash.
    """
    listed = sorted(names or {}, key=len, reverse=True)
    schedules = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, listed))})(?![\w-])")

    def named(text: str) -> str:
        return schedules.sub(lambda match: names[match[0]], text) if names else text

    tables = [_samplers(comparison)]
    if len(comparison.best_rounds):
        tables += [_models(comparison), _best(comparison)]
    return [
        as_text(replace(table, rows=[list(map(named, row)) for row in table.rows], notes=list(map(named, table.notes))))
        for table in tables
    ]


def _samplers(comparison: Comparison) -> Table:
    rows = list(comparison.samplers.itertuples())
    seeds: dict[tuple[str, str, str], list[str]] = {}
    for v in rows:
        for reason in v.left_out:
            seed, _, why = reason.partition(": ")
            seeds.setdefault((v.schedule, v.benchmark, why), []).append(seed.removeprefix("seed "))
    left_out = [
        f"left out: {schedule}, {benchmark}: seed {', '.join(listed)}: {why}"
        for (schedule, benchmark, why), listed in seeds.items()
    ]
    measured = sorted({f"{v.benchmark}: {v.measured}" for v in rows if v.measured})
    notes = [SAMPLERS, *measured, *comparison.labels, *comparison.not_compared, *left_out]
    head = (
        "source", "judge", "benchmark", "sampler", "against", "rounds", "rows", "seeds", "difference", "95 % interval",
        "p", "p (Holm)", "verdict",
    )  # fmt: skip
    cells = [
        (
            v.source, v.judge, v.benchmark, v.schedule, v.baseline, f"{v.rounds[0]}, {v.rounds[1]}",
            _rows(v.rows), str(len(v.seeds)),
            "" if v.mean_difference is None else f"{v.mean_difference:+.2f}",
            interval(v.ci_low, v.ci_high, "+.2f"), _p(v.p), _p(v.p_holm), v.verdict,
        )
        for v in rows
    ]  # fmt: skip
    return Table(f"These two samplers ({comparison.endpoint})", head, cells, notes)


def _rows(sizes: tuple[int | None, int | None]) -> str:
    """Pool sizes of two models; "" where they are not known."""
    return "" if sizes == (None, None) else ", ".join("?" if size is None else f"{size:,}" for size in sizes)


def _p(p: float | None) -> str:
    return "" if p is None else f"{p:.3f}"


def _models(comparison: Comparison) -> Table:
    head = (
        "source", "judge", "benchmark", "model", "against", "seed", "rounds", "difference", "95 % interval", "verdict",
    )  # fmt: skip
    rows = [
        (
            v.source, v.judge, v.benchmark, v.schedule, v.baseline, _seed(v.seed), f"{v.round}, {v.baseline_round}",
            f"{v.difference:+.2f}", interval(v.ci_low, v.ci_high, "+.2f"), v.verdict,
        )
        for v in comparison.models.itertuples()
    ]  # fmt: skip
    return Table(f"These two models ({comparison.endpoint})", head, rows, [MODELS, *comparison.labels])


def _best(comparison: Comparison) -> Table:
    head = ("source", "judge", "benchmark", "schedule", "seed", "round", "relative score")
    best = comparison.best_rounds
    rows = [
        (b.source, b.judge, b.benchmark, b.schedule, _seed(b.seed), str(b.round), f"{b.relative_score:.2f}")
        for b in best.itertuples()
    ]
    apart = ", of pools of different sizes" if best["round"].nunique() > 1 else ""
    notes = [AFTER_THE_FACT, *comparison.labels]
    return Table(f"Best rounds, picked after the fact{apart}", head, rows, notes)


def agreement_table(agreements: Frame) -> Group:
    """How far two judges agree, a row a benchmark."""
    meanings = {
        "ranks": "ranks: Spearman over models by relative score",
        "final ranks": "final ranks: each schedule's last round only",
        "questions": "questions: correlation of the lead over the competitor",
        "verdicts": "verdicts: the same win, tie or lose",
        "flips": "flips: the winner swaps with the order",
        "recorded flips": "recorded flips: the same of the recorded judge",
        "favours": "favours: the place whose answer the judge scores higher, and by how many points, whichever answer "
        "is shown there",
        "recorded favours": "recorded favours: the same of the recorded judge",
        "shift": "shift: mean difference in relative score",
    }
    head = (
        "benchmark", "judge", "recorded", "models", "ranks", "final ranks", "questions", "verdicts", "flips",
        "recorded flips", "favours", "recorded favours", "shift", "left out",
    )  # fmt: skip
    rows = [
        (
            a.benchmark, a.judge, a.recorded_judge, str(a.models), _ratio(a.model_ranks), _ratio(a.final_ranks),
            _ratio(a.question_scores), _share(a.same_verdict), _share(a.order_flips), _share(a.recorded_order_flips),
            _favoured(a.first_place_lead), _favoured(a.recorded_first_place_lead),
            f"{a.relative_score_shift:+.2f}", str(a.left_out),
        )
        for a in agreements.itertuples()
    ]  # fmt: skip
    return as_text(Table("Agreement of two judges", head, rows, meanings=meanings))


def _favoured(lead: float | None) -> str:
    """The place that a judge favours, by the lead of the answer shown first."""
    if lead is None or round(lead, 2) == 0:
        return "" if lead is None else "neither"
    return f"{'first' if lead > 0 else 'second'} by {abs(lead):.2f}"


def judged_table(scores: Sequence[tuple[Path, str, Mapping[str, Any]]], label: str | None) -> Group:
    """What a judge has just said: for each model and benchmark, what `scores.json` holds.

    Args:
        scores: the round's folder, the benchmark, the scores.
        label: the judge's warning.
    """
    meanings = {
        "relative score": "relative score: 100 · Σ model / Σ competitor",
        "95 % interval": "interval: 95 % over questions",
        "flips": "flips: questions whose winner swaps with the order",
        "unparsed": "unparsed: judgements without scores",
        "length": "length: rank correlation, over questions, of the lead in score with the lead in words",
    }
    head = (
        "run",
        "round",
        "benchmark",
        "relative score",
        "95 % interval",
        "win/tie/lose",
        "flips",
        "unparsed",
        "length",
    )
    rows = [
        (
            "/".join(folder.parents[1].parts[-4:]), folder.name, benchmark, f"{s['relative_score']:.2f}",
            interval(s["ci_low"], s["ci_high"]) if s["questions"] > 1 else "", f"{s['win']}/{s['tie']}/{s['lose']}",
            "" if s["order_flips"] is None else str(s["order_flips"]), str(s["unparsed"]),
            _ratio(s["length"]["rank_correlation"]),
        )
        for folder, benchmark, s in scores
    ]  # fmt: skip
    rounds = [int(folder.name) for folder, *_ in scores if folder.name.isdecimal()]  # `answer` names a folder freely
    apart = spread([], rounds)
    return as_text(Table(" · ".join(filter(None, ["Scores", apart])), head, rows, [label or ""], meanings))


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
