"""Work in a library that hears no signals, done in a thread of its own while the main thread waits and hears them."""

import threading
from collections.abc import Callable
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")
EVERY_SECONDS = 0.1  # how long the main thread waits before it looks for signals
GRACE_SECONDS = 1.0  # for work that can stop
NAME = "diverseevol-background"


class _Outcome(Generic[T]):
    result: T
    error: BaseException | None = None


def heard(work: Callable[[Event], T]) -> T:
    """Do something that is deaf to signals.

    Args:
        work: what is to be done, in code that lets other threads run. Its event is set when the main thread was
            interrupted: nobody waits for a result any more. It must leave nothing behind but its result.
    """
    outcome: _Outcome[T] = _Outcome()
    stopped, done = Event(), Event()

    def run() -> None:
        try:
            outcome.result = work(stopped)
        except BaseException as error:  # raised where it is waited for
            outcome.error = error
        finally:
            done.set()

    Thread(target=run, name=NAME, daemon=True).start()
    try:
        while not done.wait(EVERY_SECONDS):  # not `join`, which takes an interrupted thread for one that has ended
            pass
    except BaseException:
        stopped.set()
        done.wait(GRACE_SECONDS)
        raise
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


def left_at_work() -> bool:
    """Whether something goes on that nobody waits for: an end of the process by the usual way would wait, or crash."""
    return any(thread.name == NAME for thread in threading.enumerate())
