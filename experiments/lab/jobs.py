"""Many evolutions, several at a time: what is done is skipped, what fails leaves the others alone.

Hydra's own sweeps are products of choices; a study is a list of jobs with choices of their own, which one pool of
workers takes in turn. A job is a process of its own, single-threaded, and goes on where it was cut like any evolution.
"""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import diverseevol
from diverseevol.errors import InputError
from diverseevol.output.shell import command, override
from diverseevol.output.terminal import LONGEST, say
from diverseevol.storage.cache import content_digest
from diverseevol.storage.files import read_json, write_json

# What every evolution of a study is made of. Sizes are said in full: 40 rows and seven times 40 more, 8 % of 4,000.
LAB = ("data=lab", "model=lab", "benchmark=lab_both")
ITERATIVE = {"schedule": "iterative", "schedule.rounds": 7, "schedule.seed_size": 40, "schedule.step_size": 40}
ONE_TIME = {"schedule": "one_time", "schedule.rounds": 1, "schedule.seed_size": 40, "schedule.step_size": 280}
FULL = {"schedule": "full"}
CONDUCT = ("threads=1", "logger=none", "keep_models=none")

SHIPPED = Path(diverseevol.__file__).with_name("lab") / "foundation"
PACKED = 3  # times as many jobs as workers, the last ones, are taken with the longest first
WHOLE = "selected.jsonl"  # what an evolution writes last
STOPPED = 130  # the exit code of a command that was interrupted, and goes on when it is called again


@dataclass(frozen=True)
class Job:
    """One process.

    Attributes:
        name: of its notes; the folder that it writes, below the study's.
        command: the words after `python`.
        seconds: what it is expected to take on a quiet core.
        leaves: the file that it writes last: without it the job is not done, whatever its note says.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    leaves: Path | None = None


def evolution(
    out: Path, name: str, seed: int, options: Mapping[str, object], further: Sequence[str], cost: float
) -> Job:
    """An evolution on the lab.

    Args:
        out: the study's folder.
        name: `<group>/<what>/<sampler>-<schedule>`, which tables and figures are named by.
        seed: of P_0, selection and training, and of the rows: which skill is frequent differs from seed to seed.
            Whatever is compared is compared within a seed.
        options: what it differs by.
        further: overrides that all evolutions of the study share.
        cost: see `Job.seconds`.
    """
    folder = f"{name}/seed{seed}"
    given = (*LAB, *(f"{key}={value}" for key, value in options.items()), *CONDUCT, *further)
    command = (
        "-m",
        "diverseevol",
        "evolve",
        *given,
        f"seed={seed}",
        f"data.seed={seed}",
        override("folder", out / folder),
    )
    return Job(folder, command, cost, out / folder / WHOLE)


def made_with(job: Job) -> dict[str, str | None]:
    """What a job's result depends on beside its command, None where that is not known."""
    given = [word.removeprefix("model.path=") for word in job.command if word.startswith("model.path=")]
    folder = Path(given[-1]) if given else SHIPPED
    known = "evolve" in job.command and folder.is_dir()
    return {"version": diverseevol.__version__, "foundation": weights(folder) if known else None}


@cache
def weights(folder: Path) -> str:
    """A digest of a foundation model's configuration, tokeniser and weights."""
    files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors"))
    contents = [f"{file.name} {content_digest(file)}" for file in files]
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()


def packed(jobs: Sequence[Job], workers: int) -> list[Job]:
    """Jobs as listed, but for the last ones, of which the longest come first, so that no worker waits for another.

    So a study that is cut has whole seeds, and one that is not takes, by its jobs' expected seconds, at most 5 % longer
    than with the longest of all jobs first.
    """
    first = max(0, len(jobs) - PACKED * workers)
    return [*jobs[:first], *sorted(jobs[first:], key=lambda job: -job.seconds)]


@dataclass
class Progress:
    """What a reader is told as jobs end."""

    jobs: int
    seconds: float
    workers: int
    ended: int = 0
    expected: float = 0.0
    took: float = 0.0

    def tell(self, job: Job, took: float, code: int, log: Path) -> None:
        """Say that a job has ended, and how long the others will take at the pace so far."""
        self.ended, self.expected, self.took = self.ended + 1, self.expected + job.seconds, self.took + took
        left = (self.seconds - self.expected) * self.took / self.expected / self.workers / 60
        place = f"[{self.ended}/{self.jobs}] {job.name}"
        if code:
            said = (log.read_text(errors="replace").strip().splitlines() or ["said nothing"])[-1]
            say(f"{place} FAILED ({code}): {said}", longest=LONGEST)
            say(f"    {command('python', *job.command)}")
            say(f"    {log}")
        else:
            say(f"{place}: {took:.0f} s; about {left:.0f} minutes to go")


@dataclass
class Work:
    """Jobs on their way.

    Attributes:
        out: the study's folder; `logs/` has what jobs said, and `done/` that they are whole.
        workers: how many run at a time.
        minutes: after how many of them what still runs is interrupted; None: never.
    """

    out: Path
    workers: int
    minutes: float | None = None
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _began: float = field(default_factory=time.monotonic)

    def run(self, jobs: Sequence[Job]) -> list[Job]:
        """Run what is not done, about in this order (see `packed`); the jobs that are not done after it.

        Raises:
            InputError: what is there was made by another version or from another foundation model.
        """
        self.refuse_others(jobs)
        missing = packed([job for job in jobs if not self.done(job)], self.workers)
        seconds = sum(job.seconds for job in missing)
        if missing:
            say(
                f"{len(jobs)} jobs, {len(jobs) - len(missing)} of them done; the others take about {seconds / 60:.0f} "
                f"minutes of quiet cores, {seconds / 60 / self.workers:.0f} minutes with {self.workers} at a time"
            )
        progress = Progress(len(missing), seconds, self.workers)
        rest = None if self.minutes is None else max(0.0, 60 * self.minutes - (time.monotonic() - self._began))
        timer = threading.Timer(rest or 0, self.stop)
        if rest is not None:
            timer.start()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                list(pool.map(lambda job: self._run(job, progress), missing))
            except BaseException:
                self.stop()
                raise
            finally:
                timer.cancel()
        left = [job for job in jobs if not self.done(job)]
        if left and self._stop.is_set():
            say(f"time is up: {len(left)} jobs are left; the same command goes on with them")
        return left

    def stop(self) -> None:
        """Interrupt what runs, and start nothing more."""
        self._stop.set()
        with self._lock:
            for process in self._running:
                process.terminate()

    def done(self, job: Job) -> bool:
        """Whether this very job is whole, and what it made still there."""
        note = self._noted(job)
        return note is not None and not _differing(note, made_with(job))

    def refuse_others(self, jobs: Sequence[Job]) -> None:
        """Warn of notes that say nothing of version and foundation model, as they once did: they count as done.

        Raises:
            InputError: some were made otherwise. Their run folders would not go on, and none is to be compared.
        """
        notes = [(job, note) for job in jobs if (note := self._noted(job)) is not None]
        others = [(job, differing) for job, note in notes if (differing := _differing(note, made_with(job)))]
        if others:
            job, differing = others[0]
            raise InputError(
                f"{self.out}: {len(others)} of its jobs, {job.name} among them, were done with {differing}, whose runs "
                f"are not to be mixed with new ones; give --out another folder, or go on with what made them"
            )
        if unknown := sum("version" not in note for _, note in notes):
            say(f"warning: {unknown} jobs count as done, though {self.out}/done does not say by which version")

    def _noted(self, job: Job) -> dict[str, Any] | None:
        note = self._note(job)
        there = note.exists() and (job.leaves is None or job.leaves.exists())
        noted = dict(read_json(note)) if there else {}
        return noted if noted.get("command") == list(job.command) else None

    def _note(self, job: Job) -> Path:
        return self.out / "done" / f"{job.name}.json"

    def _run(self, job: Job, progress: Progress) -> None:
        if self._stop.is_set():
            return
        log = self.out / "logs" / f"{job.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with log.open("ab") as said:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen([sys.executable, *job.command], stdout=said, stderr=said, env=environment)
            with self._lock:
                self._running.add(process)
            if self._stop.is_set():
                process.terminate()
            code = process.wait()
        took = time.monotonic() - began
        with self._lock:
            self._running.discard(process)
            if code == 0:
                note = {"command": list(job.command), "seconds": round(took, 1), **made_with(job)}
                write_json(self._note(job), note)
            if not (self._stop.is_set() and code in (STOPPED, -signal.SIGTERM)):
                progress.tell(job, took, code, log)


def _differing(note: Mapping[str, Any], here: Mapping[str, str | None]) -> str:
    """What tells a note's job from this one's, as far as both are known; releases alike in two numbers pick alike."""
    there = {key: note.get(key) for key in here}
    if there["version"] and str(there["version"]).split(".")[:2] != str(here["version"]).split(".")[:2]:
        return f"diverseevol {there['version']} (this is {here['version']})"
    known = there["foundation"] and here["foundation"]
    return "another foundation model" if known and there["foundation"] != here["foundation"] else ""
