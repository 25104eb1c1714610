"""The metrics of rounds on disk, as far as samplers are compared by them."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.read_judgements import PROVENANCE, initial_pool, named_run, recorded
from diverseevol.runs.metrics import MetricDescription, MetricKey, describe, read_descriptions


@dataclass(frozen=True)
class MeasuredRound:
    """One metric of one round; what is not said here is as in `ScoredRound`.

    Attributes:
        benchmark: the metric's logged name.
        description: how the metric is read.
        judge, prompt_version: "": nobody judged.
    """

    file: str
    source: str
    benchmark: str
    schedule: str
    seed: int | None
    round: int
    initial_pool: tuple[int, str] | None
    pool_size: int | None
    value: float
    description: MetricDescription
    judge: str = ""
    prompt_version: str = ""

    def beside(self, other: "MeasuredRound") -> tuple["MeasuredRound", "MeasuredRound"]:
        """Both as they are: a metric knows no questions."""
        return self, other


def measured_rounds(
    place: Path, metrics: Collection[str], known: Mapping[str, MetricDescription]
) -> tuple[MeasuredRound, ...]:
    """These metrics of all rounds below a folder.

    Args:
        place: the folder.
        metrics: by logged name.
        known: how metrics are read that a run folder does not describe, by name.

    Raises:
        InputError: there is no such folder, there are no rounds in it, no round has one of the metrics, or two folders
            are of the same run by their names.
    """
    if place.is_file():
        raise InputError(
            f"{place}: is no folder; metrics are read from run folders, and only judgements from archives, so unpack "
            f"it and give the folder"
        )
    if not place.is_dir():
        raise InputError(f"{place}: no such folder; give one with runs of diverseevol evolve below")
    measured: list[MeasuredRound] = []
    names_present: set[str] = set()
    of: dict[tuple[str, str, int | None, str], Path] = {}
    for file in sorted(place.resolve().rglob("rounds/*/round.json")):
        folder = file.parents[2]
        values: dict[str, Any] = recorded(folder, f"rounds/{file.parent.name}/round.json", "metrics", dict)
        names_present |= {name for name, value in values.items() if _number(value)}
        source, schedule, seed = named_run(folder)
        seed = recorded(folder, "fingerprint.json", "seed", int) if seed is None else seed
        if (first := of.setdefault((source, schedule, seed, file.parent.name), folder)) != folder:
            raise InputError(
                f"{folder}: is of the same data, model, schedule and seed as {first}, by its {PROVENANCE} or the end "
                f"of its path; compare one of the folders above them"
            )
        measured += [
            MeasuredRound(
                file=str(file),
                source=source,
                benchmark=metric,
                schedule=schedule,
                seed=seed,
                round=int(file.parent.name),
                initial_pool=initial_pool(folder),
                pool_size=len(recorded(folder, f"rounds/{file.parent.name}/round.json", "trained_on", list)),
                value=float(values[metric]),
                description=describe(MetricKey.parse(metric).name, {**read_descriptions(folder), **known}),
            )
            for metric in metrics
            if _number(values.get(metric))
        ]
    if not names_present:
        raise InputError(
            f"{place}: holds no rounds/NN/round.json with metrics, which are not read from archives; give a folder "
            f"with runs of diverseevol evolve below"
        )
    for metric in metrics:
        if metric not in names_present:
            close = difflib.get_close_matches(metric, names_present, 1)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(sorted(names_present))}"
            raise InputError(f"metric={metric}: no round below {place} has it; {hint}")
    return tuple(measured)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
