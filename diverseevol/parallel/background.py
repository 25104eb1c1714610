"""Work in a library that ignores signals, on a thread of its own, while the main thread waits and handles them."""

import threading
from collections.abc import Callable
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.1  # how often the main thread handles signals
GRACE_SECONDS = 1.0  # for work that can stop
NAME = "diverseevol-background"


class _Outcome(Generic[T]):
    result: T
    error: BaseException | None = None


def interruptible(work: Callable[[Event], T]) -> T:
    """The result of some work that ignores signals; an interrupt stops the wait for it.

    Args:
        work: code that lets other threads run. Its event is set when the main thread was interrupted, and no result
            is needed any more. It must have no effect but its result.
    """
    outcome: _Outcome[T] = _Outcome()
    stopped, done = Event(), Event()

    def run() -> None:
        try:
            outcome.result = work(stopped)
        except BaseException as error:  # raised in the main thread
            outcome.error = error
        finally:
            done.set()

    Thread(target=run, name=NAME, daemon=True).start()
    try:
        while not done.wait(POLL_SECONDS):  # not `join`, which takes an interrupted thread for one that has ended
            pass
    except BaseException:
        stopped.set()
        done.wait(GRACE_SECONDS)
        raise
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


def left_at_work() -> bool:
    """Whether abandoned work still runs: ending the process in the usual way would wait for it, or crash."""
    return any(thread.name == NAME for thread in threading.enumerate())
