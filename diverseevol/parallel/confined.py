"""Untrusted programs, such as chat templates, run in a child process with limits that the system enforces.

The sandbox of templates keeps one away from files and from Python's internals, but not from running for ever or filling
memory. The child is forked, so that it has everything imported.
"""

import json
import os
import resource
import select
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from diverseevol.errors import InputError

T = TypeVar("T")
CPU_SECONDS = 10  # for a batch of rows; a usual template needs 0.1 for a thousand rows
WALL_SECONDS = 120  # on a busy machine
MEMORY = 1 << 30  # bytes on top of what the process has already
LARGEST_OUTCOME = 1 << 29  # bytes from the child; a character takes up to six


def confined(work: Callable[[], T], program: str, remedy: str) -> T:
    """The result of some work in a child process with limited time and memory.

    Args:
        work: returns what JSON can hold; its other effects are lost.
        program: whose program runs, for the message.
        remedy: what to do where it fails or exceeds a limit.

    Raises:
        InputError: `work` raised an error, or exceeded a limit.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on a fork in a process with threads warns; this child uses nothing that they hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _limit()
            content = json.dumps(_outcome(work)).encode()
            while content:
                content = content[os.write(writing, content) :]
        finally:
            os._exit(0)
    os.close(writing)
    try:
        content, late = _read(reading)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # not waited for yet, so the number is still its own
        _, status = os.waitpid(child, 0)
    if late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        raise InputError(f"{program} takes too long; {remedy}")
    try:
        outcome = json.loads(content)
    except ValueError:
        outcome = {"failure": "it takes too much memory"}
    if "refusal" in outcome:
        raise InputError(outcome["refusal"])
    if "failure" in outcome:
        raise InputError(f"{program} fails ({' '.join(outcome['failure'].split())[:200]}); {remedy}")
    result: T = outcome["result"]
    return result


def _limit() -> None:
    """Have the system limit the child."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    pages = Path("/proc/self/statm")
    if pages.exists():
        limit = int(pages.read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _outcome(work: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"result": work()}
    except InputError as error:
        return {"refusal": str(error)}
    except MemoryError:
        return {"failure": "it takes too much memory"}
    except Exception as error:  # a foreign program may fail in any way
        return {"failure": f"{type(error).__name__}: {error}"}


def _read(reading: int) -> tuple[bytes, bool]:
    """The child's output, and whether it took too long."""
    content, end = bytearray(), time.monotonic() + WALL_SECONDS
    while time.monotonic() < end and len(content) <= LARGEST_OUTCOME:
        if select.select([reading], [], [], 1.0)[0]:
            part = os.read(reading, 1 << 20)
            if not part:
                return bytes(content), False
            content += part
    return b"", len(content) <= LARGEST_OUTCOME
