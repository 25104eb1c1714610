"""Turns on a device: the clock stops when its work is done, and its memory is watched, too."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from perf.turns import SLOW, Taken, in_turns


def on_device(
    candidates: Mapping[str, Callable[[], Any]], turns: int, slow: float = SLOW
) -> tuple[dict[str, Taken], dict[str, float]]:
    """What each candidate took, and the most device memory that it held above what was held before, in megabytes."""
    held: dict[str, float] = {}

    def watched(name: str, candidate: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            result = candidate()
            torch.cuda.synchronize()
            held[name] = (torch.cuda.max_memory_allocated() - before) / 2**20
            return result

        return run

    results = in_turns({name: watched(name, candidate) for name, candidate in candidates.items()}, turns, slow)
    return results, held
