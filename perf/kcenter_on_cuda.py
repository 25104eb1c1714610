"""K-Center where there is a GPU: the lazy traversal on the processor, or a running minimum on the device?

    python -m perf --only kcenter_on_cuda                 about 100 s
    python -m perf --only kcenter_on_cuda --size full     a million rows, too

Rows lie in the host's memory, as those of a file do, so a device has to fetch them first.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from diverseevol.geometry import farthest_first_cuda
from diverseevol.geometry.farthest_first import farthest_first
from perf.kcenter import full_matrix, running_minimum
from perf.kcenter_rows import Case, clustered, rows_of, scattered
from perf.turns import SLOW, Report, Taken, in_turns

OURS, DEVICE = "ours, lazy, processor", "ours, sampler.device=cuda, transfer included"
TRANSFER = "the transfer alone"
CASES = [
    Case("clustered", 5_000, 1_024, 100, full_matrix=True),
    Case("clustered", 15_015, 4_096, 100, full_matrix=True),
    Case("clustered", 15_015, 4_096, 1_100, full_matrix=True),
    Case("iid", 15_015, 4_096, 100),
    Case("clustered", 52_002, 4_096, 1_100, full_matrix=True, turns=3),
]


def run(size: str, report: Report) -> None:
    """All cases, then the table of who wins where."""
    if not torch.cuda.is_available():
        report.note("there is no CUDA device, so nothing is measured")
        return
    crossover = [compare(case, *rows_of(case), report) for case in CASES]
    if size == "full":
        for rows, picks in ((250_000, 1_000), (1_000_000, 1_000)):
            X = np.empty((rows, 1_024), dtype=np.float16)
            clustered(X)
            case = Case("clustered float16", rows, 1_024, picks, picks, turns=1)
            crossover.append(compare(case, X, scattered(rows, picks), report, plain=False))
    report.table("who wins: seconds", crossover)


def compare(case: Case, X: np.ndarray, taken: np.ndarray, report: Report, plain: bool = True) -> dict[str, Any]:
    """Run all candidates of a case in turns; its line of the last table."""
    X_on_device = torch.from_numpy(X).cuda()
    device = torch.device("cuda")
    candidates: dict[str, Callable[[], Any]] = {
        OURS: lambda: farthest_first(X, taken, case.picks)[0],
        DEVICE: lambda: farthest_first_cuda.running_minimum(X, taken, case.picks, None, device)[0],
        TRANSFER: functools.partial(transfer, X),
    }
    if plain:
        candidates["running minimum, float32, processor"] = lambda: running_minimum(X, taken, case.picks)
        candidates["running minimum, float32, CUDA, rows there"] = lambda: running_minimum(
            X_on_device, taken, case.picks
        )
    if case.full_matrix:
        candidates["rows × rows, CUDA, rows there"] = lambda: full_matrix(X_on_device, taken, case.picks)
    results, held = on_device(candidates, case.turns, slow=20 if plain else 0)  # the large ones: once
    picks = results[OURS].result
    lines = [
        {
            "": name,
            "turns": len(its.seconds),
            "seconds": its.typical,
            "its time / lazy": its.ratio(results[OURS]),
            "device MB": held[name],
            "picks as lazy": int(np.isin(its.result, picks).sum()) if its.result is not None else "",
            "in order": int((its.result == picks).cumprod().sum()) if its.result is not None else "",
        }
        for name, its in results.items()
    ]
    report.table(case.name, lines)
    return {"": case.name, **{name: its.typical for name, its in results.items() if name in (OURS, DEVICE, TRANSFER)}}


def transfer(X: np.ndarray) -> None:
    step = max(1, farthest_first_cuda.BLOCK_ELEMENTS // X.shape[1])
    kept = [torch.from_numpy(X[start : start + step]).cuda() for start in range(0, len(X), step)]
    del kept


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
            torch.cuda.synchronize()  # the clock stops when the device's work is done
            held[name] = (torch.cuda.max_memory_allocated() - before) / 2**20
            return result

        return run

    results = in_turns({name: watched(name, candidate) for name, candidate in candidates.items()}, turns, slow)
    return results, held
