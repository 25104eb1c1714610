"""How far a run folder has come: read while an evolution may be writing there, so that any file may vanish."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diverseevol.errors import InputError
from diverseevol.runs.run_folder import is_at_work
from diverseevol.runs.saved_config import read_saved
from diverseevol.storage.files import read_json, write_json

CHECKPOINT = "checkpoint"  # how what a fit writes on its way begins
FAILURE = "failure.json"  # why the last run ended before its time; gone as soon as it is run again
NOT_REPEATED = ("fit", "foundation", "text")  # phases that do not take the same time in each round
COMMAND = "command.json"  # what was typed after `diverseevol evolve`; of a sweep's jobs the sweep's ledger knows it


@dataclass(frozen=True)
class Standing:
    """How far a run folder has come.

    Attributes:
        planned: the last round that is asked for; None where it is not known.
        rounds: how many rounds are complete, from the first one on.
        complete: whether all are.
        at_work: whether a process holds the folder.
        phase: what is going on, or was when it ended; "" where all rounds are complete.
        since: when that began, or, where all are complete, when they were; in seconds since 1970.
        left: the seconds that are left, by those that the complete rounds took; None where none is.
    """

    planned: int | None
    rounds: int
    complete: bool
    at_work: bool
    phase: str
    since: float
    left: float | None


def standing(path: Path) -> Standing:
    """Read how far a run folder has come; what cannot be read counts as not there."""
    at_work = is_at_work(path)  # first, for a run that ends now is complete in what is read after it
    schedule = _object(path / "config.yaml", read_saved).get("schedule")
    schedule = schedule if isinstance(schedule, dict) else {}
    planned = _count(schedule.get("rounds"))
    rounds = list(_complete_rounds(path))
    reached = planned is not None and len(rounds) > planned
    complete = reached or (bool(rounds) and _ended(rounds[-1], planned) and not at_work)
    current = path / "rounds" / f"{len(rounds):02d}"
    before = path / "rounds" / f"{len(rounds) - 1:02d}" / "round.json" if rounds else path / "fingerprint.json"
    if complete:
        phase = ""
    elif rounds or current.exists():
        phase = f"round {len(rounds)}: {_phase(current, len(rounds) == planned)}"
    else:
        phase = "prepare rows and model"
    left = None
    if rounds and planned is not None and not complete:
        spent = sum(_seconds(_object(current / "seconds.json", read_json)).values())
        left = max(0.0, _left(rounds, planned, _count(schedule.get("step_size"))) - spent)
    return Standing(planned, len(rounds), complete, at_work, phase, _latest(before, current), left)


def save_command(path: Path, overrides: Sequence[str]) -> None:
    """Save what was typed after `diverseevol evolve`."""
    write_json(path / COMMAND, list(overrides))


def saved_command(path: Path) -> list[str] | None:
    """What was typed after `diverseevol evolve`; None where it is not known."""
    with suppress(InputError):
        words = read_json(path / COMMAND)
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return None


@contextmanager
def failure_noted(path: Path, explained: Callable[[Exception], str]) -> Iterator[None]:
    """Note in a run folder why what is done here failed, for those who look at it later.

    Args:
        path: the run folder.
        explained: says it in a sentence.
    """
    (path / FAILURE).unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        with suppress(OSError, InputError):  # a full disk may be the reason
            write_json(path / FAILURE, explained(error))
        raise


def saved_failure(path: Path) -> str | None:
    """Why the last run of an evolution failed; None where it did not, or was killed."""
    with suppress(InputError):
        reason = read_json(path / FAILURE)
        return reason if isinstance(reason, str) else None
    return None


def _complete_rounds(path: Path) -> Iterator[Mapping[str, Any]]:
    for t in itertools.count():
        record = _object(path / "rounds" / f"{t:02d}" / "round.json", read_json)
        if not isinstance(record.get("trained_on"), list) or not isinstance(record.get("chosen"), list):
            return
        yield record


def _ended(last: Mapping[str, Any], planned: int | None) -> bool:
    """Whether an evolution ended before its schedule's last round, as it was asked then."""
    stopped = last.get("stopped")
    early = isinstance(stopped, dict) and (planned is None or planned == stopped.get("of"))
    return early or not last["chosen"]


def _left(rounds: Sequence[Mapping[str, Any]], planned: int, step: int | None) -> float:
    """The seconds of the missing rounds: fits grow with the pool, and the other phases stay as they were on average."""
    seconds = [_seconds(record.get("seconds")) for record in rounds]
    fits = sum(took.get("fit", 0.0) for took in seconds)
    besides = sum(sum(value for phase, value in took.items() if phase not in NOT_REPEATED) for took in seconds)
    last = rounds[-1]
    size = len(last["trained_on"]) + len(last["chosen"])
    pools = [size + i * (step or len(last["chosen"])) for i in range(planned + 1 - len(rounds))]
    rows = sum(len(record["trained_on"]) for record in rounds)
    return sum(pools) * fits / max(rows, 1) + len(pools) * besides / len(rounds)


def _phase(folder: Path, last: bool) -> str:
    """What a round is at, by the files that it has."""
    names: set[str] = set()
    with suppress(OSError):
        names = {file.name for file in folder.iterdir()}
    if not {"model", "adapter"} & names:
        return "fine-tune"
    if "chosen.jsonl" not in names and not last:
        return "embed and select"
    return "answer and judge" if "measures.json" in names else "measure"


def _latest(*paths: Path) -> float:
    """When any of some files, or of the files in some folders, was written last; a fit's checkpoint begins nothing."""
    times = [0.0]
    for path in paths:
        files: list[Path] = []
        with suppress(OSError):
            files = list(path.iterdir()) if path.is_dir() else [path]
        for file in files:
            if not file.name.startswith(CHECKPOINT):
                with suppress(OSError):  # unfinished files vanish meanwhile
                    times.append(file.lstat().st_mtime)
    return max(times)


def _object(file: Path, read: Callable[[Path], Any]) -> Mapping[str, Any]:
    with suppress(InputError):
        content = read(file)
        if isinstance(content, dict):
            return content
    return {}


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _seconds(phases: object) -> dict[str, float]:
    if not isinstance(phases, dict):
        return {}
    return {str(phase): float(took) for phase, took in phases.items() if isinstance(took, int | float)}
