"""A sweep's ledger: which jobs were planned and how each ended, on disk, because launchers put jobs anywhere.

One file for each job, written by the process that ran it: it needs only the file system of the run folders.
"""

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diverseevol.errors import InputError
from diverseevol.output.shell import command
from diverseevol.runs.run_folder import is_at_work
from diverseevol.storage.files import TEMPORARY, atomic_write, is_temporary, read_json, write_json

PLAN = "sweep.json"  # how the jobs are run
STALE_SECONDS = 60  # a note is written in milliseconds


@dataclass(frozen=True)
class Job:
    """A job of a sweep, and what became of it.

    Attributes:
        overrides: what tells it to be this job.
        command: what runs it.
        failure: why it failed, in a sentence; None where it has not ended, or did what it should.
        code: its exit code; 1 where it has not ended.
        folder: the run folder; None where it has not begun, or is no evolution.
        began: when it began, in seconds since 1970; None where it has not.
        ended: whether it has.
    """

    overrides: Sequence[str]
    command: str
    failure: str | None
    code: int
    folder: Path | None = None
    began: float | None = None
    ended: bool = False

    @property
    def at_work(self) -> bool:
        """Whether a process holds its run folder."""
        return not self.ended and self.folder is not None and is_at_work(self.folder)


@dataclass(frozen=True)
class Ledger:
    """The ledger in a sweep's folder.

    Attributes:
        folder: where Hydra notes the sweep's choices.
        verb: the command that is swept.
        launcher: arguments that send a single job to where this sweep's jobs go; none where they run right here.
    """

    folder: Path
    verb: str
    launcher: tuple[str, ...] = ()

    def plan(self, jobs: Sequence[Sequence[str]]) -> None:
        """Note the jobs that are to run, each by its overrides; half-written notes of killed sweeps go."""
        for partial in self.folder.parent.glob(f"*/jobs/*.json.*{TEMPORARY}"):
            with suppress(FileNotFoundError):  # a sweep beside this one has taken it away, or has just finished it
                if is_temporary(partial.name) and time.time() - partial.lstat().st_mtime > STALE_SECONDS:
                    partial.unlink()
        write_json(self.folder / PLAN, {"verb": self.verb, "launcher": list(self.launcher)})
        write_json(self.folder / "jobs.json", [list(overrides) for overrides in jobs])

    def begin(self, number: int, overrides: Sequence[str], folder: Path | None = None) -> None:
        """Note that a job has begun, for the first time or again, and its run folder."""
        where = None if folder is None else str(folder.absolute())
        record = {"overrides": list(overrides), "code": None, "said": None, "folder": where, "began": time.time()}
        write_json(self._file(number), record)

    def end(self, number: int, overrides: Sequence[str], code: int = 0, failure: str | None = None) -> None:
        """Note how a job ended; of several processes that failed, each in its own way, all say so."""
        note = self._notes().get(number, {})
        before = note.get("said")
        if failure is not None and before is not None and failure not in before:
            failure = f"{before}; {failure}"
        write_json(self._file(number), {**note, "overrides": list(overrides), "code": code, "said": failure})

    def ended(self) -> Mapping[int, Any]:
        """The jobs that ended, by number."""
        return {number: note for number, note in self._notes().items() if note["code"] is not None}

    @property
    def planned_at(self) -> float:
        """When the jobs were noted, in seconds since 1970."""
        with suppress(OSError):
            return (self.folder / "jobs.json").stat().st_mtime
        return 0.0

    def planned(self) -> int:
        """How many jobs there are."""
        return len(self._overrides())

    def jobs(self) -> list[Job]:
        """All jobs, in the order of the sweep."""
        notes, jobs = self._notes(), []
        for number, overrides in enumerate(self._overrides()):
            line = command("diverseevol", self.verb, *self.launcher, *overrides)
            note = notes.get(number, {"code": None, "said": None})
            folder = note.get("folder")
            ended = note["code"] is not None
            jobs.append(Job(
                overrides, line, note["said"], note["code"] if ended else 1, None if folder is None else Path(folder),
                note.get("began"), ended,
            ))  # fmt: skip
        return jobs

    def missing(self) -> list[Job]:
        """What failed or never ended, in the order of the sweep; the commands are kept in `rerun.sh`, too."""
        jobs = [job for job in self.jobs() if job.code and not job.at_work]
        if jobs:
            with atomic_write(self.folder / "rerun.sh") as file:
                file.writelines(f"{job.command}\n" for job in jobs)
        return jobs

    def _file(self, number: int) -> Path:
        return self.folder / "jobs" / f"{number}.json"

    def _notes(self) -> dict[int, Any]:
        notes = {file: read_json(file) for file in (self.folder / "jobs").glob("*.json")}
        return {int(file.stem): note for file, note in notes.items() if _is_note(file.stem, note)}

    def _overrides(self) -> list[list[str]]:
        file = self.folder / "jobs.json"
        jobs = read_json(file)
        if not isinstance(jobs, list) or not all(
            isinstance(job, list) and all(isinstance(word, str) for word in job) for job in jobs
        ):
            raise InputError(f"{file}: expected a list of lists of overrides, so it was edited; run the sweep again")
        return jobs


def read_ledger(folder: Path) -> Ledger | None:
    """The ledger in a sweep's folder; None where there is none that can be read."""
    try:
        plan = read_json(folder / PLAN) if (folder / PLAN).exists() else {}
        verb, launcher = plan.get("verb", "evolve"), tuple(plan.get("launcher", ()))
        ledger = Ledger(folder, verb, launcher)
        ledger.jobs()
    except (InputError, AttributeError, TypeError):
        return None
    return ledger if all(isinstance(word, str) for word in (verb, *launcher)) else None


def _is_note(name: str, note: object) -> bool:
    """Whether a file is a job's note; any other file counts as a job that has not begun."""
    kinds = {"code": int | None, "said": str | None, "folder": str | None, "began": float | int | None}
    if not re.fullmatch(r"[0-9]{1,9}", name) or not isinstance(note, dict) or "code" not in note:
        return False
    return all(isinstance(note.get(key), kind) and not isinstance(note.get(key), bool) for key, kind in kinds.items())
