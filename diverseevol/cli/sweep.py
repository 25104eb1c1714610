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
from diverseevol.storage.files import TEMPORARY, atomic_write, is_temporary, read_json, write_json

STALE_SECONDS = 60  # a note is written in milliseconds


@dataclass(frozen=True)
class Job:
    """A job that has to be run again.

    Attributes:
        command: what runs it.
        failure: why it failed, in a sentence; None where it never ended.
        code: its exit code.
    """

    command: str
    failure: str | None
    code: int


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
        write_json(self.folder / "jobs.json", [list(overrides) for overrides in jobs])

    def end(self, number: int, overrides: Sequence[str], code: int = 0, failure: str | None = None) -> None:
        """Note how a job ended."""
        record = {"overrides": list(overrides), "code": code, "said": failure}
        write_json(self.folder / "jobs" / f"{number}.json", record)

    def ended(self) -> Mapping[int, Any]:
        """The jobs that ended, by number."""
        notes = {file: read_json(file) for file in (self.folder / "jobs").glob("*.json")}
        return {int(file.stem): note for file, note in notes.items() if _is_note(file.stem, note)}

    def planned(self) -> int:
        """How many jobs there are."""
        return len(self._jobs())

    def _jobs(self) -> list[list[str]]:
        file = self.folder / "jobs.json"
        jobs = read_json(file)
        if not isinstance(jobs, list) or not all(
            isinstance(job, list) and all(isinstance(word, str) for word in job) for job in jobs
        ):
            raise InputError(f"{file}: expected a list of lists of overrides, so it was edited; run the sweep again")
        return jobs

    def missing(self) -> list[Job]:
        """What failed or never ended, in the order of the sweep; the commands are kept in `rerun.sh`, too."""
        ended = self.ended()
        jobs = []
        for number, overrides in enumerate(self._jobs()):
            end = ended.get(number, {"code": 1, "said": None})
            if end["code"]:
                words = ["diverseevol", self.verb, *self.launcher, *overrides]
                jobs.append(Job(command(*words), end["said"], int(end["code"])))
        if jobs:
            with atomic_write(self.folder / "rerun.sh") as file:
                file.writelines(f"{job.command}\n" for job in jobs)
        return jobs


def _is_note(name: str, note: object) -> bool:
    """Whether a file is a job's note; any other file counts as a job that never ended."""
    if not re.fullmatch(r"[0-9]{1,9}", name) or not isinstance(note, dict):
        return False
    failure, code = note.get("said"), note.get("code")
    return type(code) is int and (failure is None or isinstance(failure, str))
