"""The command line of a study: its options, its jobs, what a user is told."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs import STOPPED, Job, Work

from diverseevol.errors import InputError
from diverseevol.output.shell import command
from diverseevol.output.terminal import LONGEST, say


def arguments(what: str | None, out: str, name: str) -> argparse.ArgumentParser:
    """What the command lines of all studies share; a study adds its own.

    Args:
        what: it does.
        out: its folder, by default.
        name: what its results are called there.
    """
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="evolutions at a time, a thread each")
    parser.add_argument("--minutes", type=float, help="interrupt what runs after so long; the same command goes on")
    parser.add_argument("--out", type=Path, default=Path(out), help="run folders, logs, what is done")
    parser.add_argument("--results", type=Path, help=f"the small files to keep; by default OUT/results/{name}")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for every evolution")
    parser.add_argument("--dry", action="store_true", help="list the jobs that are left, and run nothing")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(STOPPED))
    return parser


def carried_out(jobs: Sequence[Job], options: argparse.Namespace, work: Work) -> bool:
    """Run the jobs, or list them; whether there is anything to look at."""
    if options.dry:
        work.refuse_others(jobs)
        for job in jobs:
            say(f"{job.seconds:6.0f} s  {'done' if work.done(job) else 'left'}  {command('python', *job.command)}")
        return False
    work.run(jobs)
    return any(work.done(job) for job in jobs)


def conducted(study: Callable[[], None]) -> None:
    """Carry out a study's command line; what the user must fix is one sentence, and exit code 2."""
    try:
        study()
    except InputError as error:
        say(f"{Path(sys.argv[0]).stem}: {error}", error=True, longest=LONGEST)
        sys.exit(2)
