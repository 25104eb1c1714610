"""Programs from anywhere, such as chat templates, run in a child process with limits that the system keeps.

The sandbox of templates keeps one from files and from Python's inside, but not from running for ever or filling memory.
The child is forked, for so it has everything imported.
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
CPU_SECONDS = 10  # for a batch of rows; a usual template needs a tenth of a second for a thousand
WALL_SECONDS = 120  # where the machine is busy
MEMORY = 1 << 30  # bytes beside what the process has already
LARGEST_OUTCOME = 1 << 29  # bytes from the child; it writes up to six a character


def confined(work: Callable[[], T], what: str, remedy: str) -> T:
    """Do something in a child process that may take so much time and memory, and no more.

    Args:
        work: gives what JSON can say; what it changes is lost.
        what: whose program runs, for the sentence.
        remedy: what to do about one that goes beyond its limits.

    Raises:
        InputError: work raised one, or went beyond a limit.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on a fork beside threads is warned of; this child touches nothing that they hold.
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
        raise InputError(f"{what} does not come to an end; {remedy}")
    try:
        outcome = json.loads(content)
    except ValueError:
        outcome = {"failure": "it takes too much memory"}
    if "refusal" in outcome:
        raise InputError(outcome["refusal"])
    if "failure" in outcome:
        raise InputError(f"{what} fails ({' '.join(outcome['failure'].split())[:200]}); {remedy}")
    result: T = outcome["result"]
    return result


def _limit() -> None:
    """What the system allows the child."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    pages = Path("/proc/self/statm")
    if pages.exists():
        most = int(pages.read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _outcome(work: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"result": work()}
    except InputError as error:
        return {"refusal": str(error)}
    except MemoryError:
        return {"failure": "it takes too much memory"}
    except Exception as error:  # somebody else's program: it may fail in any way
        return {"failure": f"{type(error).__name__}: {error}"}


def _read(reading: int) -> tuple[bytes, bool]:
    """What the child says, and whether it took too long."""
    content, end = bytearray(), time.monotonic() + WALL_SECONDS
    while time.monotonic() < end and len(content) <= LARGEST_OUTCOME:
        if select.select([reading], [], [], 1.0)[0]:
            part = os.read(reading, 1 << 20)
            if not part:
                return bytes(content), False
            content += part
    return b"", len(content) <= LARGEST_OUTCOME
