"""The rows that a command reads, loaded once: early where one process is at work, in turn where several are."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from diverseevol.cli.configuration import Configuration
from diverseevol.data.dataset import Dataset
from diverseevol.progress import Progress


def load_dataset(settings: Configuration, cache: Path, bad_rows: Path, progress: Progress) -> Dataset:
    """The rows, checked; the first time with progress."""

    def load() -> Dataset:
        with progress.track("check the data, %", 100) as advance:
            done = 0

            def report(position: int, total: int) -> None:
                nonlocal done
                percent = 100 * position // max(1, total)
                advance(percent - done)
                done = percent

            dataset: Dataset = settings.part("data", cache=cache, bad_rows_file=bad_rows, progress=report)
        return dataset

    return settings.once("data", load)


def bad_rows_file(folder: Path, cache: Path) -> Path:
    """Where the bad rows of a run or a choice are listed until its folder may be written to."""
    return cache / "bad_rows" / f"{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]}.jsonl"


def listed_sources(dataset: Dataset, eligible: Bool[np.ndarray, " rows"]) -> dict[str, Any]:
    """Where the rows come from, as the folder of a run or a choice says it; nothing where that is one source.

    Args:
        dataset: the rows.
        eligible: which of them can be chosen.
    """
    if len(dataset.sources) < 2:
        return {}
    listed = [
        {
            "name": source.name, "start": source.start, "stop": source.stop,
            "eligible": int(eligible[source.start : source.stop].sum()),
        }
        for source in dataset.sources
    ]  # fmt: skip
    return {"sources": listed}
