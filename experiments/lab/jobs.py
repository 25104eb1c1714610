"""Many evolutions, several at a time: what is done is skipped, what fails leaves the others alone.

Hydra's own sweeps are products of choices; a study is a list of jobs with choices of their own, which one pool of
workers takes in turn. A job is a process of its own, single-threaded, and goes on where it was cut like any evolution.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from diverseevol.files import read_json, write_json

# What every evolution of a study is made of. Sizes are said in full: 40 rows and seven times 40 more, 8 % of 4,000.
LAB = ("data=lab", "model=lab", "benchmark=lab_both")
ITERATIVE = {"schedule": "iterative", "schedule.rounds": 7, "schedule.seed_size": 40, "schedule.step_size": 40}
ONE_TIME = {"schedule": "one_time", "schedule.rounds": 1, "schedule.seed_size": 40, "schedule.step_size": 280}
FULL = {"schedule": "full"}
CONDUCT = ("threads=1", "logger=none", "keep_models=none")

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
    command = ("-m", "diverseevol", "evolve", *given, f"seed={seed}", f"data.seed={seed}", f"folder={out / folder}")
    return Job(folder, command, cost, out / folder / "selected.jsonl")


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
            print(f"{place} FAILED ({code}): {said}\n    python {shlex.join(job.command)}\n    {log}", flush=True)
        else:
            print(f"{place}: {took:.0f} s; about {left:.0f} minutes to go", flush=True)


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
        """Run what is not done, in this order; the jobs that are not done after it."""
        missing = [job for job in jobs if not self.done(job)]
        seconds = sum(job.seconds for job in missing)
        if missing:
            print(
                f"{len(jobs)} jobs, {len(jobs) - len(missing)} of them done; the others take about {seconds / 60:.0f} "
                f"minutes of quiet cores, {seconds / 60 / self.workers:.0f} minutes with {self.workers} at a time",
                flush=True,
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
            print(f"time is up: {len(left)} jobs are left; the same command goes on with them", flush=True)
        return left

    def stop(self) -> None:
        """Interrupt what runs, and start nothing more."""
        self._stop.set()
        with self._lock:
            for process in self._running:
                process.terminate()

    def done(self, job: Job) -> bool:
        """Whether this very job is whole, and what it made still there."""
        note = self._note(job)
        there = job.leaves is None or job.leaves.exists()
        return there and note.exists() and bool(read_json(note)["command"] == list(job.command))

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
                write_json(self._note(job), {"command": list(job.command), "seconds": round(took, 1)})
            if not (self._stop.is_set() and code in (STOPPED, -signal.SIGTERM)):
                progress.tell(job, took, code, log)


def arguments(what: str | None, out: str, results: str) -> argparse.ArgumentParser:
    """What the command lines of all studies share; a study adds its own."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="evolutions at a time, a thread each")
    parser.add_argument("--minutes", type=float, help="interrupt what runs after so long; the same command goes on")
    parser.add_argument("--out", type=Path, default=Path(out), help="run folders, logs, what is done")
    parser.add_argument("--results", type=Path, default=Path(results), help="the small files to keep")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for every evolution")
    parser.add_argument("--dry", action="store_true", help="list the jobs that are left, and run nothing")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(STOPPED))
    return parser


def carried_out(jobs: Sequence[Job], options: argparse.Namespace, work: Work) -> bool:
    """Run the jobs, or list them; whether there is anything to look at."""
    if options.dry:
        for job in jobs:
            print(f"{job.seconds:6.0f} s  {'done' if work.done(job) else 'left'}  python {shlex.join(job.command)}")
        return False
    work.run(jobs)
    return any(work.done(job) for job in jobs)
