"""K-Center beside the plain alternatives: the same picks, as ratios.

    python -m perf --only kcenter                 a few minutes
    python -m perf --only kcenter --size full     the paper's sizes, and a mapped file of a million rows

Other libraries join in where they are installed: pip install diverseevol[peers].
"""

import functools
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from diverseevol.geometry.farthest_first import farthest_first
from perf.kcenter_peers import Candidate, Picks, installed
from perf.kcenter_rows import CASES, Case, clustered, rows_of, scattered
from perf.turns import PrivateMemory, Report, in_turns


def run(size: str, report: Report) -> None:
    """All cases of a size."""
    for case in CASES[size]:
        compare(case, report)
    if size == "full":
        million(report)


def compare(case: Case, report: Report) -> None:
    """Run all candidates of a case in turns."""
    X, taken = rows_of(case)
    candidates: dict[str, Candidate] = {"ours": ours, "running minimum": running_minimum}
    if case.full_matrix:
        candidates["rows × rows"] = full_matrix
    absent: list[str] = []
    if case.peers:
        available, absent = installed()
        candidates |= available
    results = in_turns(
        {name: functools.partial(candidate, X, taken, case.picks) for name, candidate in candidates.items()},
        case.turns,
    )
    picks = results["ours"].result
    report.table(
        case.name,
        [
            {
                "": name,
                "turns": len(its.seconds),
                "seconds": its.typical,
                "its time / ours": its.ratio(results["ours"]),
                "extra MB": its.extra_mb,
                "picks as ours": int(np.isin(its.result, picks).sum()),
                "in order": int((its.result == picks).cumprod().sum()),
            }
            for name, its in results.items()
        ],
    )
    if absent:
        report.note(f"skipped, as not installed: {', '.join(absent)}")
    for name, least in case.goals.items():
        report.goal(f"{case.name}: its time / ours, {name}", results[name].ratio(results["ours"]), least)


def ours(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    return farthest_first(X, taken, n)[0]


def running_minimum(X: np.ndarray | torch.Tensor, taken: np.ndarray, n: int) -> Picks:
    """The usual way: a centred copy, and after each pick one pass over all of it."""
    A = torch.as_tensor(X)
    A = A - A.mean(dim=0)
    squares, centres = A.square().sum(dim=1), np.flatnonzero(taken)
    least = torch.cat(
        [
            (squares[centres] - 2 * A[start : start + 1024] @ A[centres].T).amin(dim=1)
            for start in range(0, len(A), 1024)
        ]
    )
    least += squares
    least[centres] = -1
    picks = []
    for _ in range(n):
        pick = int(least.argmax())
        picks.append(pick)
        torch.minimum(least, squares + squares[pick] - 2 * (A @ A[pick]), out=least)
        least[pick] = -1
    return np.array(picks)


def full_matrix(X: np.ndarray | torch.Tensor, taken: np.ndarray, n: int) -> Picks:
    """As the authors do it: all rows² distances by |x|² + |y|² − 2xy and a root, neither centred nor clamped.

    Near-duplicates give NaN, which the minimum keeps and the argmax prefers.
    """
    A = torch.as_tensor(X)
    squares = A.square().sum(dim=1)
    distance = (A @ A.T).mul_(-2).add_(squares).add_(squares[:, None]).sqrt_()
    least = distance[:, torch.from_numpy(np.flatnonzero(taken))].amin(dim=1)
    least[torch.from_numpy(taken)] = -1
    picks = []
    for _ in range(n):
        pick = int(least.argmax())
        picks.append(pick)
        torch.minimum(least, distance[:, pick], out=least)
        least[picks] = -1
    return np.array(picks)


def million(report: Report, rows: int = 1_000_000, dim: int = 1_024, picks: int = 1_000) -> None:
    """One selection over a mapped float16 file that is larger than what may be kept of it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "embeddings.npy"
        X = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=(rows, dim))
        clustered(X)
        X.flush()
        mapped = np.load(file, mmap_mode="r")
        with PrivateMemory() as watched:
            start = time.perf_counter()
            farthest_first(mapped, scattered(rows, picks), picks)
            seconds = time.perf_counter() - start
    line = {"seconds": seconds, "extra MB": watched.extra, "MB without the file": watched.peak / 2**20}
    title = f"{rows:,} × {dim:,} float16, mapped ({rows * dim * 2 / 2**30:.1f} GB), {picks:,} taken, {picks:,} picks"
    report.table(title, [line])
