"""Candidates in turns: what each takes and holds, how it compares with ours, and a report of it all.

Candidates take turns in one process, so that what else the machine does falls on all of them. A ratio is the median
over turns of "its time / ours" and can be trusted where the seconds cannot. On a machine that is busy with other work
even ratios are noisy; `CLOCK` can count the processor's seconds instead, which others do not lengthen.
"""

import ctypes
import gc
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table

SLOW = 20.0  # seconds: what takes longer has one turn
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
CLOCK = "wall"


@dataclass(frozen=True)
class Taken:
    """What a candidate took.

    Attributes:
        seconds: of each turn.
        extra_mb: the most private memory that it held above what was held before.
        result: what it returned.
    """

    seconds: tuple[float, ...]
    extra_mb: float
    result: Any

    @property
    def typical(self) -> float:
        """Median seconds of a turn."""
        return median(self.seconds)

    def ratio(self, ours: "Taken") -> float:
        """How many times as long as ours: the median over turns, or of its only turn to our median."""
        if len(self.seconds) != len(ours.seconds):
            return self.typical / ours.typical
        return median(its / our for its, our in zip(self.seconds, ours.seconds, strict=True))


def in_turns(candidates: Mapping[str, Callable[[], Any]], turns: int, slow: float = SLOW) -> dict[str, Taken]:
    """Let candidates take turns.

    A first turn warms up and is watched for memory; who takes longer than `slow` in it has no other.
    """
    now = CLOCKS[CLOCK]
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    first: dict[str, float] = {}
    memory: dict[str, float] = {}
    results: dict[str, Any] = {}
    for turn in range(-1, turns):
        for name, candidate in candidates.items():
            if turn >= 0 and first[name] > slow:
                continue
            if turn < 0:
                with PrivateMemory() as watched:
                    start = now()
                    results[name] = candidate()
                    first[name] = now() - start
                memory[name] = watched.extra
                continue
            start = now()
            candidate()
            seconds[name].append(now() - start)
    return {name: Taken(tuple(seconds[name]) or (first[name],), memory[name], results[name]) for name in candidates}


class PrivateMemory:
    """The largest private memory of this process while the block runs, over that at its start, in megabytes.

    File-backed pages, which the system may drop at any time, are not counted.
    """

    def __enter__(self) -> "PrivateMemory":
        gc.collect()
        if platform.libc_ver()[0] == "glibc":  # what others have freed, or the block would hide in it
            ctypes.CDLL(None).malloc_trim(0)
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


class Report:
    """Tables and goals on the console, kept for a file."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.benchmark = ""
        self.results: list[dict[str, Any]] = []

    def table(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show rows of the same columns."""
        load = os.getloadavg()[0]
        table = Table(*rows[0], title=f"{title} (load {load:.1f})", title_justify="left")
        for row in rows:
            table.add_row(*map(_shown, row.values()))
        self.console.print(table)
        self.results.append(
            {"benchmark": self.benchmark, "title": title, "load": load, "rows": [dict(r) for r in rows]}
        )

    def goal(self, name: str, value: float, least: float) -> None:
        """Say whether a goal is reached."""
        verdict = "reached" if value >= least else "[bold]missed[/bold]"
        self.console.print(f"  goal: {name} ≥ {least:g}: {value:.2f}, {verdict}", highlight=False)
        self.results.append({"benchmark": self.benchmark, "goal": name, "found": float(value), "least": least})

    def note(self, text: str) -> None:
        """Say something that no table says."""
        self.console.print(f"  {text}", highlight=False)
        self.results.append({"benchmark": self.benchmark, "note": text})


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    return {
        "processor": next((x.split(":")[1].strip() for x in text.split("\n") if x.startswith("model name")), "?"),
        "cores": os.cpu_count(),
        "clock": CLOCK,
        "threads": torch.get_num_threads(),
        "bf16 matrix units": "amx_bf16" in text,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "load": round(os.getloadavg()[0], 1),
    }
