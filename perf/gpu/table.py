"""`python -m perf.gpu.table`: the tables of docs/performance.md, from what was measured on each card.

An evolution's time is projected from the measured rates; no evolution was run for it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.gpu.jobs import PLAIN, named
from perf.gpu.subjects import Subject, subjects

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "performance.md", ROOT / "experiments" / "results" / "gpu"
BEGIN, END = "<!-- made by `python -m perf.gpu.table` -->\n", "<!-- end -->\n"
UNMEASURED = "*not measured yet*"
HEAD = [
    "| model | job | tokens / s | of the matrix rate | plain, tokens / s | ours / plain | GB | GB, plain | goal |",
    "|---|---|---|---|---|---|---|---|---|",
]
# Eleven rounds on Dolly, 100 to 1,100 rows, three epochs: tokens of LLaMA's tokeniser, of random pools (the same count
# with SmolLM2's and `plan_steps` gives 3.45 and 28.6 million); Vicuna's 80 questions a round, at 300 tokens an answer
# as experiments/paper.yaml assumes (ChatGPT's have 249 with SmolLM2's tokeniser).
PROJECTED = [
    "| **projected**, not run: 11 rounds on Dolly | fit, minutes | embedding | answers | in all | goal |",
    "|---|---|---|---|---|---|",
]
EVOLUTION = {"fit": 3.75e6, "embedding": 31.3e6, "answers": 11 * 80 * 300.0}
GOAL_MINUTES = 60


def of_card(folder: Path, measured: Sequence[Subject]) -> str:
    """The tables of one card in Markdown; of a folder that is absent, what will be measured."""
    parts = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))}
    lines = [*_about(parts), *HEAD]
    for subject in measured:
        for job in subject.jobs:
            part = parts.get(f"{subject.name}-{job}")
            lines += [_line(subject, job, label, part) for label in subject.variants.get(job, [""])]
    lines += ["", *PROJECTED, *(_projected(subject, parts) for subject in measured if subject.projected)]
    return "\n".join(lines) + "\n"


def of_all_cards(results: Path = RESULTS) -> str:
    """All tables."""
    folders = [folder for folder in sorted(results.glob("*")) if folder.is_dir()] or [results / "none"]
    return "\n".join(of_card(folder, subjects("cpu", None)) for folder in folders)


def page() -> str:
    """The page with its tables made anew."""
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    return before + BEGIN + "\n" + of_all_cards() + "\n" + END + rest.split(END)[1]


def _about(parts: dict[str, Any]) -> list[str]:
    if not parts:
        return ["### No card yet", ""]
    some = list(parts.values())
    rates = [f"{part['matrix_rate'] / 1e12:,.3g}" for part in sorted(some, key=lambda part: part["matrix_rate"])]
    versions = some[-1]["versions"]
    return [
        f"### {some[0]['card']}", "",
        f"Matrix rate: {' to '.join(dict.fromkeys((rates[0], rates[-1])))} TFLOP/s. torch {versions['torch']}, "
        f"transformers {versions['transformers']}.", "",
    ]  # fmt: skip


def _line(subject: Subject, job: str, label: str, part: dict[str, Any] | None) -> str:
    goal = f"≥ {subject.goals[job]:.0%}" if job in subject.goals else "–"
    ways = {} if part is None else part["ways"]
    ours, plain = ways.get(named(label)), ways.get(PLAIN)
    cells = [UNMEASURED, *["–"] * 5]
    if ours is not None and plain is not None:
        both = "tokens_per_second" in ours and "tokens_per_second" in plain
        times = f"{ours['tokens_per_second'] / plain['tokens_per_second']:.2f}" if both else "–"
        cells = [_rate(ours), f"{ours['share']:.1%}" if "share" in ours else "–", _rate(plain), times]
        cells += [f"{way['peak_bytes'] / 1e9:,.1f}" if "peak_bytes" in way else "–" for way in (ours, plain)]
    return f"| {subject.title} | {', '.join(filter(None, (job, label)))} | {' | '.join(cells)} | {goal} |"


def _rate(way: dict[str, Any]) -> str:
    if "tokens_per_second" in way:
        return f"{way['tokens_per_second']:,.0f}"
    return "failed" if "failed" in way else "out of memory"


def _projected(subject: Subject, parts: dict[str, Any]) -> str:
    """The minutes of an evolution at the best rates, where a model's three jobs were measured."""
    best = {job: _best(parts.get(f"{subject.name}-{job}", {"ways": {}})["ways"]) for job in EVOLUTION}
    cells = [UNMEASURED, *["–"] * 3]
    if all(best.values()):
        minutes = [EVOLUTION[job] / rate / 60 for job, rate in best.items()]
        cells = [f"{value:,.1f}" for value in (*minutes, sum(minutes))]
    return f"| {subject.title} | {' | '.join(cells)} | < {GOAL_MINUTES} |"


def _best(ways: dict[str, dict[str, Any]]) -> float:
    """Tokens a second of our fastest way, 0 where there is none."""
    return max((way.get("tokens_per_second", 0.0) for name, way in ways.items() if name != PLAIN), default=0.0)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
