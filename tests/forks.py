"""The command in children of the test's process, which has everything imported already, and their sudden ends."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def fork(
    arguments: list[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    first: Callable[[], object] = lambda: None,
) -> int:
    """Start the command in a child.

    Args:
        arguments: verb and overrides.
        log: gets what it says.
        environment: variables of its own.
        first: called in the child before anything else.
    """
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        sys.stdout = sys.stderr = log.open("a", buffering=1)
        os.environ |= environment or {}
        first()
        # A forked child's first call makes torch's pool of threads anew, and two threads at once find it missing:
        # called here, before there is a second thread, it is there.
        torch.set_num_threads(torch.get_num_threads())
        from diverseevol import cli

        sys.argv = ["diverseevol", *arguments]
        cli.main()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait_until(reached: Callable[[], bool], child: int, seconds: float = 600) -> None:
    """Wait until a child at work has reached something; it is an error if it ends before."""
    late = after(seconds)
    while not _holds(reached):
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child ended before"
        assert not late(), "the child does not get there"
        time.sleep(0.005)


def _holds(question: Callable[[], bool]) -> bool:
    """The answer to a question about files that a child is writing: not yet, where one vanishes while it is asked."""
    try:
        return question()
    except FileNotFoundError:
        return False


def after(seconds: float) -> Callable[[], bool]:
    """The instant so many seconds from now."""
    instant = time.monotonic() + seconds
    return lambda: time.monotonic() > instant


def finish(child: int, doomed: Callable[[], bool] = lambda: False) -> int | None:
    """Wait for a child: its exit code, or None if it was killed because its instant had come."""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if _holds(doomed):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.005)
