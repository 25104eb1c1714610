"""What is logged from a run folder: a round's end, a round that was judged later, and the complete evolution."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diverseevol.evaluation.judge_round import logged
from diverseevol.evaluation.scores.scores import read_scores
from diverseevol.runs.run_folder import RunFolder
from diverseevol.runs.tracking import RoundLog, RunName, Tracker, opened
from diverseevol.storage.files import read_json, read_jsonl


def log_round(log: RoundLog, t: int, metrics: Mapping[str, float], receipt: Path) -> None:
    """A round's metrics, and the rows that it chose, where it chose any.

    Args:
        log: the round's open run.
        t: the round.
        metrics: by logged name, scores among them.
        receipt: its `chosen.jsonl`.
    """
    log.metrics({"round": t, **metrics})
    if receipt.exists() and (lines := read_jsonl(receipt)):
        log.table("chosen", list(lines[0]), [list(line.values()) for line in lines])


def log_judged(folder: Path, called: RunFolder, t: int, tracker: Tracker, config: Mapping[str, Any]) -> None:
    """Log a round again whose scores are new, under its own id: all of its end, so that this alone is its summary.

    Args:
        folder: the run folder.
        called: the same under the name by which the evolution is logged, which a copy keeps.
        t: the round.
        tracker: where to log.
        config: the resolved configuration and provenance.
    """
    round_folder = folder / "rounds" / f"{t:02d}"
    file, scores = round_folder / "round.json", read_scores(round_folder)
    metrics = read_json(file).get("metrics", {}) if file.is_file() else {}
    name = RunName(called.name, f"round-{t:02d}", called.round_id(t), from_start=False)
    with opened(tracker, name, folder, config) as log:
        log_round(log, t, {**metrics, **logged(scores, sorted(scores))}, round_folder / "chosen.jsonl")


def log_overview(folder: Path, called: RunFolder, tracker: Tracker, config: Mapping[str, Any]) -> None:
    """Log an evolution as one run with a point a round over `pool_size`, so that it is one line in a dashboard.

    All rows that were chosen are its table, with the round that chose them. Arguments as `log_judged` has them.
    """
    points, chosen = {}, []
    for file in sorted(folder.glob("rounds/*/round.json")):
        done, scores = read_json(file), read_scores(file.parent)
        if "pool_size" in (metrics := dict(done.get("metrics", {}))):
            size = int(metrics.pop("pool_size"))
            cost = {"seconds": sum(done.get("seconds", {}).values())}
            if peaks := done.get("peak_memory"):
                cost["peak_memory_gb"] = max(peaks.values()) / 1e9
            points[size] = {"round": done["index"], **metrics, **cost, **logged(scores, sorted(scores))}
            receipt = file.with_name("chosen.jsonl")
            chosen += [{"round": done["index"], **line} for line in (read_jsonl(receipt) if receipt.exists() else [])]
    if points:
        name = RunName(called.name, called.name, called.overview_id, job_type="evolution", axis="pool_size")
        with opened(tracker, name, folder, config) as log:
            for size, values in points.items():
                log.curve(size, values)
            if chosen:
                log.table("chosen", list(chosen[0]), [list(line.values()) for line in chosen])
