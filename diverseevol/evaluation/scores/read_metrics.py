"""The metrics of rounds on disk, as far as samplers are compared by them."""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.frame import Frame, frame_of, is_number, measured_rows
from diverseevol.evaluation.scores.models import PROVENANCE, model_of, recorded
from diverseevol.runs.metrics import MetricDescription, read_descriptions
from diverseevol.storage.reading import files_below


def measured_rounds(path: Path, metrics: Collection[str], known: Mapping[str, MetricDescription]) -> Frame:
    """These metrics of all rounds below a folder, a row each.

    Args:
        path: the folder.
        metrics: by logged name.
        known: how metrics are read that a run folder does not describe, by name.

    Raises:
        InputError: there is no such folder, there are no rounds in it, no round has one of the metrics, or two folders
            are of the same run by their names.
    """
    if path.is_file():
        raise InputError(
            f"{path}: is no folder; metrics are read from run folders, and only judgements from archives, so unpack "
            f"it and give the folder"
        )
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; give one with runs of diverseevol evolve below")
    rows: list[dict[str, Any]] = []
    names_present: set[str] = set()
    folder_of: dict[tuple[str, str, int | None, str], Path] = {}
    for file in sorted(file for file in files_below(path.resolve()) if file.match("rounds/*/round.json")):
        folder, t = file.parents[2], file.parent.name
        values: dict[str, Any] = recorded(folder, f"rounds/{t}/round.json", "metrics", dict)
        names_present |= {name for name, value in values.items() if is_number(value)}
        model = model_of(folder, t)
        if (first := folder_of.setdefault((model.source, model.schedule, model.seed, t), folder)) != folder:
            raise InputError(
                f"{folder}: is of the same data, model, schedule and seed as {first}, by its {PROVENANCE} or the end "
                f"of its path; compare one of the folders above them"
            )
        described = {**read_descriptions(folder), **known}
        rows += measured_rows(model, {name: values.get(name) for name in metrics}, described, str(file))
    if not names_present:
        raise InputError(
            f"{path}: holds no rounds/NN/round.json with metrics, which are not read from archives; give a folder "
            f"with runs of diverseevol evolve below"
        )
    for metric in metrics:
        if metric not in names_present:
            close = difflib.get_close_matches(metric, names_present, 1)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(sorted(names_present))}"
            raise InputError(f"metric={metric}: no round below {path} has it; {hint}")
    return frame_of(rows)
