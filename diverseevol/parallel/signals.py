"""Signals that end the program, put off until a long piece of work can be left without loss."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Ctrl-C, what a batch system sends before it kills, and what it can be told to send some time before that.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Postponed:
    """Signals that were put off.

    Attributes:
        number: the signal that came; 0 while none has.
    """

    def __init__(self) -> None:
        self.number = 0
        self._handlers: dict[int, Any] = {}

    def deliver(self, number: int) -> None:
        """Do now what the signal would have done without delay: often, but not always, it ends the program."""
        self.number = 0
        handler = self._handlers.get(number)
        if callable(handler):
            handler(number, None)
        elif handler == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def take_over(self) -> None:
        """Have signals noted from here on."""
        self._handlers = {int(number): signal.signal(number, self._note) for number in ENDING}

    def give_back(self) -> None:
        """Have signals act at once, as before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number:  # a second one is meant
            self.deliver(number)
        else:
            self.number = number


@contextmanager
def postponed() -> Iterator[Postponed]:
    """Note signals instead of ending inside the block; a second one acts at once, the first at the end at the latest.

    On another thread than the main one, signals act at once as ever: Python gives them to the main thread.
    """
    signals = Postponed()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    signals.take_over()
    try:
        yield signals
    finally:
        signals.give_back()
    if signals.number:
        signals.deliver(signals.number)
