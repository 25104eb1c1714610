"""`diverseevol status`: where sweeps and evolutions stand, and what runs again what failed; it only reads."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from diverseevol.cli.configuration import Configuration
from diverseevol.cli.sweep import Job, Ledger, read_ledger
from diverseevol.errors import InputError
from diverseevol.output.console import Console, results_console
from diverseevol.output.shell import command
from diverseevol.output.tables import Table, as_text
from diverseevol.output.terminal import one_line
from diverseevol.runs.standing import Standing, saved_command, saved_failure, standing

DONE, RUNNING, FAILED, STOPPED, MISSING = "done", "running", "failed", "stopped", "missing"
STATES = (RUNNING, FAILED, STOPPED, MISSING, DONE)
MANY = 20  # lines of a sweep, beyond which what is done or missing has one line for each arm
COMMANDS = 20  # that are listed
INSIDE = {"rounds", "questions", "figures", "wandb", "tables", "report", "jobs"}  # folders of runs and sweeps


@dataclass(frozen=True)
class Line:
    """A run, or a job of a sweep that has no run folder.

    Attributes:
        name: its run folder, or what tells the job from the others.
        arm: what it is grouped by where there are many.
        state: one of `STATES`.
        at: how far it has come, or None.
        again: the command that runs it again; None where it is not known.
        failure: why it failed.
    """

    name: str
    arm: str
    state: str
    at: Standing | None = None
    again: str | None = None
    failure: str | None = None


def run(settings: Configuration) -> None:
    """Look at everything below the folder, and print it."""
    folder = Path(settings.value("folder", str))
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "no such folder"
        raise InputError(
            f"{folder}: {problem}; give a run folder, or one with runs below it: diverseevol status FOLDER"
        )
    runs, ledgers = _below(folder)
    if not runs and not ledgers:
        raise InputError(f"{folder}: holds neither runs nor sweeps; give a folder that `diverseevol evolve` wrote into")
    console = results_console()
    again: list[Line] = []
    seen: set[Path] = set()
    typed = {path: saved_command(path) for path in runs}
    begun = {frozenset(words) for words in typed.values() if words is not None}
    for ledger in ledgers:
        lines = list(_of_sweep(ledger, folder, seen, begun))
        if lines:
            _show(console, f"sweep {_below_it(ledger.folder, folder)}", lines)
            again += lines
    rest = [
        _of_run(path, folder, None if words is None else command("diverseevol", "evolve", *words))
        for path, words in typed.items()
        if path.resolve() not in seen
    ]
    if rest:
        _show(console, "other runs" if ledgers else "runs", rest)
    _list_commands(console, [*again, *rest])


def _below(folder: Path) -> tuple[list[Path], list[Ledger]]:
    """The run folders, by path, and the ledgers of sweeps, the newest first."""
    runs, ledgers = [], []
    for parent, folders, files in os.walk(folder):
        path = Path(parent)
        if "fingerprint.json" in files or ("rounds" in folders and "config.yaml" in files):
            runs.append(path)
        if "jobs.json" in files and (ledger := read_ledger(path)) is not None:
            ledgers.append(ledger)
        folders[:] = sorted(name for name in folders if name not in INSIDE and not name.startswith("."))
    return runs, sorted(ledgers, key=lambda ledger: ledger.planned_at, reverse=True)


def _of_sweep(ledger: Ledger, folder: Path, seen: set[Path], begun: set[frozenset[str]]) -> Iterator[Line]:
    """What became of a sweep's jobs, but for those that a later sweep or a command of its own has taken up."""
    jobs = ledger.jobs()
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    for job in jobs:
        key = frozenset(job.overrides)
        path = None if job.folder is None else job.folder.resolve()
        if path in seen or (job.began is None and not job.ended and key in begun):
            continue
        begun.add(key)
        if path is not None and path.is_dir():
            seen.add(path)
            yield _of_run(path, folder.resolve(), job.command, job.failure)
        else:
            name = " ".join(word for word in job.overrides if word not in shared) or ledger.verb
            yield Line(name, ledger.verb, _state_of(job), None, job.command, job.failure)


def _state_of(job: Job) -> str:
    if job.ended:
        return FAILED if job.code else DONE
    return MISSING if job.began is None else STOPPED


def _of_run(path: Path, folder: Path, again: str | None, failure: str | None = None) -> Line:
    at = standing(path)
    failure = failure or saved_failure(path)
    name = _below_it(path, folder)
    if at.complete:
        state = DONE
    elif at.at_work:
        state = RUNNING
    else:
        state = STOPPED if failure is None else FAILED
    return Line(str(name), str(name.parent), state, at, again, failure if state == FAILED else None)


def _below_it(path: Path, folder: Path) -> Path:
    """A path as it is below a folder, where it is."""
    return path.relative_to(folder) if path.is_relative_to(folder) and path != folder else path


def _show(console: Console, title: str, lines: Sequence[Line]) -> None:
    counts = {state: sum(line.state == state for line in lines) for state in STATES}
    counted = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    rows = []
    for line in _grouped(lines):
        at = line.at
        rounds = "" if at is None else f"{at.rounds}/{'?' if at.planned is None else at.planned + 1}"
        left = "" if at is None or at.left is None else f"{span(at.left)}, as {_counted(at.rounds)} took"
        rows.append((line.name, line.state, rounds, _doing(line), left))
    console.print(as_text(Table(f"{title}: {counted}", ("run", "state", "rounds", "at", "left"), rows)))


def _doing(line: Line) -> str:
    at = line.at
    if at is None or line.state == DONE:
        return ""
    ago = span(max(0.0, time.time() - at.since))
    return f"{at.phase}, for {ago}" if line.state == RUNNING else f"{at.phase}, {ago} ago"


def _grouped(lines: Sequence[Line]) -> list[Line]:
    """The lines by state, and of many those that are done or missing as one for each arm."""
    ordered = sorted(lines, key=lambda line: STATES.index(line.state))
    if len(lines) <= MANY:
        return ordered
    shown: dict[object, list[Line]] = {}
    for line in ordered:
        key = (line.arm, line.state) if line.state in (DONE, MISSING) else line.name
        shown.setdefault(key, []).append(line)
    return [
        group[0] if len(group) == 1 else Line(f"{group[0].arm}: {len(group)} runs", group[0].arm, group[0].state)
        for group in shown.values()
    ]


def _list_commands(console: Console, lines: Sequence[Line]) -> None:
    """Say what runs again what has not come to its end."""
    open_lines = [line for line in lines if line.state in (FAILED, STOPPED, MISSING)]
    if not open_lines:
        return
    console.print("to run again what failed, stopped or is missing:", style="bold")
    for line in open_lines[:COMMANDS]:
        console.print(f"  {line.again or f'# {line.name}: the command that it was made with'}")
        if line.failure:
            console.print(f"      # {one_line(line.failure)}")
    if len(open_lines) > COMMANDS:
        console.print(f"  … and {len(open_lines) - COMMANDS} more; the same sweep again runs all that is missing")


def _counted(rounds: int) -> str:
    return "the first round" if rounds == 1 else f"{rounds} rounds"


def span(seconds: float) -> str:
    """A length of time, for people."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{0 if unit == 'min' else 1}f} {unit}"
    return f"{seconds:.0f} s"
