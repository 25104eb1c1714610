"""K-Center beside the plain alternatives: the same picks, interleaved in one process, as ratios.

    python -m benchmarks.kcenter                 about a minute
    python -m benchmarks.kcenter --size full     the sizes of the paper's data sets and a mapped file of a million rows

Candidates take turns, so that what else the machine does falls on all of them; a ratio is the median over turns of
"its time / ours". Other libraries join in where they are installed (pip install scikit-activeml alipy faiss-cpu
small-text).
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table

from diverseevol.samplers.farthest_first import farthest_first

Picks = np.ndarray
Candidate = Callable[[np.ndarray, np.ndarray, int], Picks]


@dataclass(frozen=True)
class Case:
    """Rows of one kind and size, some taken, and how many to pick."""

    kind: str
    rows: int
    dim: int
    taken: int
    picks: int = 100
    full_matrix: bool = False  # rows² floats: not for every size
    peers: bool = False
    turns: int = 5

    @property
    def name(self) -> str:
        return f"{self.kind} {self.rows:,} × {self.dim:,}, {self.taken:,} taken, {self.picks:,} picks"


CASES = {
    "small": [
        Case("clustered", 5_000, 1_024, 100, full_matrix=True, peers=True),
        Case("clustered", 5_000, 1_024, 1_100),
        Case("iid", 5_000, 1_024, 1),
        Case("iid", 5_000, 1_024, 100),
        Case("iid", 5_000, 1_024, 1_100),
    ],
    "full": [
        Case("clustered", 15_015, 4_096, 100, full_matrix=True),
        Case("clustered", 15_015, 4_096, 1_100),
        Case("clustered", 52_002, 4_096, 100),
        Case("clustered", 52_002, 4_096, 1_100),
        Case("iid", 15_015, 4_096, 1),
        Case("iid", 15_015, 4_096, 100),
        Case("iid", 15_015, 4_096, 1_100),
        Case("clustered", 5_000, 1_024, 100, peers=True),
    ],
}


def ours(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    return farthest_first(X, taken, n)[0]


def running_minimum(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    """The usual way: a centred copy, and after each pick one pass over all of it."""
    A = torch.from_numpy(X)
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
        least[picks] = -1
    return np.array(picks)


def full_matrix(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    """As the authors do it: all rows² distances by |x|² + |y|² − 2xy and a root, neither centred nor clamped.

    Near-duplicates give NaN, which the minimum keeps and the argmax prefers.
    """
    A = torch.from_numpy(X)
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


def scikit_activeml(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    from skactiveml.pool import CoreSet

    y = np.where(taken, 0.0, np.nan)
    return np.asarray(CoreSet(random_state=0).query(X, y, batch_size=n))


def small_text(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    """With the rows taken last, where alone its indices mean the same rows throughout."""
    from small_text.query_strategies.coresets import greedy_coreset

    order = np.argsort(taken, kind="stable")
    free = int((~taken).sum())
    picks = greedy_coreset(X[order], np.arange(free), np.arange(free, len(X)), n, distance_metric="euclidean")
    return order[picks]


def alipy(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    from alipy.query_strategy import QueryInstanceCoresetGreedy

    strategy = QueryInstanceCoresetGreedy(X, np.zeros(len(X)), np.arange(len(X)))
    return np.asarray(strategy.select(np.flatnonzero(taken), np.flatnonzero(~taken), batch_size=n))


def faiss(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    import faiss as library

    index = library.IndexFlatL2(X.shape[1])
    index.add(X[taken])
    least = index.search(X, 1)[0][:, 0]
    least[taken] = -1
    picks: list[int] = []
    for _ in range(n):
        picks.append(int(least.argmax()))
        least = np.minimum(least, library.pairwise_distances(X[picks[-1:]], X)[0])
        least[picks] = -1
    return np.array(picks)


PEERS: dict[str, tuple[str, Candidate]] = {
    "scikit-activeml": ("skactiveml", scikit_activeml),
    "small-text": ("small_text", small_text),
    "ALiPy": ("alipy", alipy),
    "faiss": ("faiss", faiss),
}


def clustered(out: np.ndarray, seed: int = 0) -> None:
    """Fill with what embeddings of instructions look like.

    200 clusters of power-law sizes in a power-law spectrum of 512 directions, spread by 1 / √length of a text,
    a common mean several times the spread, four massive columns, 0.3 % duplicates.
    """
    rows, dim = out.shape
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    rank = min(512, dim)
    directions = torch.randn(rank, dim, generator=generator) * torch.arange(1, rank + 1)[:, None] ** -0.5 / rank**0.5
    centres = torch.randn(200, rank, generator=generator)
    share = 1 / np.arange(1, 201)
    cluster = torch.from_numpy(rng.choice(200, rows, p=share / share.sum()))
    spread = torch.from_numpy(6 / np.sqrt(np.exp(rng.normal(4.3, 0.9, rows)).clip(4, 512))).float()
    mean = torch.nn.functional.normalize(torch.randn(dim, generator=generator), dim=0) * 60
    mean[[1, dim // 3, dim // 2, dim - 5]] += 25
    for start in range(0, rows, 4096):
        part = slice(start, min(start + 4096, rows))
        size = part.stop - start
        inside = centres[cluster[part]] + spread[part, None] * torch.randn(size, rank, generator=generator)
        noise = 0.4 / dim**0.5 * torch.randn(size, dim, generator=generator)
        out[part] = (inside @ directions + noise + mean).numpy()
    copies, originals = rng.choice(rows, (2, rows * 3 // 1000), replace=False)
    out[copies] = out[originals]


def rows_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    X = np.empty((case.rows, case.dim), dtype=np.float32)
    if case.kind == "clustered":
        clustered(X)
    else:
        np.random.default_rng(0).standard_normal(out=X, dtype=np.float32)
    return X, scattered(case.rows, case.taken)


def scattered(rows: int, size: int) -> np.ndarray:
    taken = np.zeros(rows, dtype=bool)
    taken[np.random.default_rng(1).choice(rows, size, replace=False)] = True
    return taken


class PrivateMemory:
    """The largest private memory of this process while the block runs, over that at its start, in megabytes."""

    def __enter__(self) -> "PrivateMemory":
        self.start = self.peak = self._now()
        self.done = threading.Event()
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.watcher.join()

    @property
    def extra(self) -> float:
        return (self.peak - self.start) / 2**20

    def _watch(self) -> None:
        while not self.done.wait(0.002):
            self.peak = max(self.peak, self._now())

    @staticmethod
    def _now() -> int:
        memory = psutil.Process().memory_info()
        return int(memory.rss - memory.shared)


def compare(case: Case, console: Console) -> None:
    """Run all candidates of a case in turns and print their table."""
    X, taken = rows_of(case)
    candidates: dict[str, Candidate] = {"ours": ours, "running minimum": running_minimum}
    if case.full_matrix:
        candidates["rows × rows"] = full_matrix
    absent = []
    for name, (module, peer) in PEERS.items() if case.peers else ():
        if find_spec(module) is None:
            absent.append(f"{name} (not installed)")
        else:
            candidates[name] = peer
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    memory, picks = {}, {}
    for turn in range(-1, case.turns):  # the first turn warms up and is watched for memory
        for name, candidate in candidates.items():
            if turn < 0:
                with PrivateMemory() as watched:
                    picks[name] = candidate(X, taken, case.picks)
                memory[name] = watched.extra
                continue
            start = time.perf_counter()
            candidate(X, taken, case.picks)
            seconds[name].append(time.perf_counter() - start)
    table = Table("", "seconds", "its time / ours", "extra MB", "picks as ours", title=case.name)
    for name, times in seconds.items():
        ratio = median(its / our for its, our in zip(times, seconds["ours"], strict=True))
        same, order = np.isin(picks[name], picks["ours"]).sum(), (picks[name] == picks["ours"]).cumprod().sum()
        table.add_row(name, f"{median(times):.3f}", f"{ratio:.1f}", f"{memory[name]:.0f}", f"{same}, {order} in order")
    console.print(table)
    if absent:
        console.print("skipped: " + ", ".join(absent))


def million(console: Console, rows: int = 1_000_000, dim: int = 1_024, picks: int = 1_000) -> None:
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
    console.print(
        f"{rows:,} × {dim:,} float16, mapped ({rows * dim * 2 / 2**30:.1f} GB), {picks:,} taken, {picks:,} picks: "
        f"{seconds:.1f} s, {watched.extra:.0f} MB extra, resident without the file {watched.peak / 2**20:.0f} MB"
    )


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    model = next((line.split(":")[1].strip() for line in flags.split("\n") if line.startswith("model name")), "?")
    units = "yes" if "amx_bf16" in flags else "no"
    return (
        f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}, numpy {np.__version__}, "
        f"bf16 matrix units: {units}, load {psutil.getloadavg()[0]:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=CASES, default="small")
    size = parser.parse_args().size
    console = Console()
    console.print(machine())
    for case in CASES[size]:
        compare(case, console)
    if size == "full":
        million(console)
    console.print(machine())


if __name__ == "__main__":
    main()
