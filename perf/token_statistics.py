"""Token statistics beside the authors' reductions, which sort the vocabulary at every position.

python -m perf --only token_statistics
"""

import functools
from collections.abc import Callable
from typing import Any

import torch

from diverseevol.engine.probing.token_statistics import token_statistics
from perf.turns import Report, in_turns

TOKENS, VOCABULARY = 110, 32_000  # a row of average length, LLaMA's vocabulary
TURNS = {"smoke": 1, "small": 5, "full": 15}


def least_confidence(z: torch.Tensor) -> torch.Tensor:
    return z.sort(dim=-1, descending=True).values[:, 0]


def margin(z: torch.Tensor) -> torch.Tensor:
    top = z.sort(dim=-1, descending=True).values
    return top[:, 0] - top[:, 1]


def softmax_entropy(z: torch.Tensor) -> torch.Tensor:
    p = z.softmax(dim=-1)
    return -(p.log() * p).sum(dim=-1)


def entropy(z: torch.Tensor) -> torch.Tensor:
    """With the sort that the authors' code takes here, too, and does not use."""
    z.sort(dim=-1, descending=True)
    return softmax_entropy(z)


THEIRS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "reference_confidence": least_confidence,
    "reference_margin": margin,
    "reference_entropy": entropy,
}


def run(size: str, report: Report) -> None:
    """Time, memory and error of each reduction, in float32."""
    z = 3 * torch.randn(TOKENS, VOCABULARY, generator=torch.Generator().manual_seed(0))
    next_ids = torch.zeros(TOKENS, dtype=torch.int64)
    exact = {name: theirs(z.double()) for name, theirs in THEIRS.items()}
    lines, ratios = [], {}
    for name, theirs in THEIRS.items():
        candidates: dict[str, Callable[[], Any]] = {
            "ours": functools.partial(ours, z, next_ids, [name]),
            "the authors'": functools.partial(plain, z, name, theirs),
        }
        if name == "reference_entropy":
            candidates["softmax · log, no sort"] = functools.partial(plain, z, name, softmax_entropy)
        taken = in_turns(candidates, TURNS[size])
        ratios[name] = taken["the authors'"].ratio(taken["ours"])
        for implementation, timing in taken.items():
            error = float((timing.result[name].double() - exact[name]).abs().max())
            lines.append(
                line(name, implementation, timing.typical, timing.ratio(taken["ours"]), timing.extra_mb, error)
            )
    taken = in_turns({"ours": functools.partial(ours, z, next_ids, list(THEIRS))}, TURNS[size])
    lines.append(line("all three at once", "ours", taken["ours"].typical, 1.0, taken["ours"].extra_mb, 0.0))
    report.table(f"{TOKENS} positions × {VOCABULARY:,} float32 logits", lines)
    for name, ratio in ratios.items():
        report.goal(f"the authors' time / ours, {name}", ratio, 25)


def ours(z: torch.Tensor, next_ids: torch.Tensor, names: list[str]) -> dict[str, torch.Tensor]:
    return token_statistics(z, next_ids, names)


def plain(z: torch.Tensor, name: str, reduction: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: reduction(z)}


def line(name: str, implementation: str, seconds: float, ratio: float, extra: float, error: float) -> dict[str, object]:
    return {
        "": name,
        "by": implementation,
        "ms": 1000 * seconds,
        "its time / ours": ratio,
        "extra MB": extra,
        "largest error": error,
    }
