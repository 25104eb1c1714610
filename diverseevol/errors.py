"""What a user should see as a sentence: the one exception that is no traceback, and warnings."""

import difflib
import functools
import logging
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """The user's input or configuration is at fault.

    The message is one clear sentence: what was found and where, which constraint it breaks, what to do.
    The command line prints it without a traceback and exits with code 2.
    """


class PeerError(Exception):
    """Another of several processes failed or was killed, for a reason that has been said.

    Attributes:
        code: the exit code of all processes.
    """

    explained = True

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def not_installed(use: str, extra: str, remedy: str = "") -> InputError:
    """What to say where a package is missing.

    Args:
        use: what needs it.
        extra: of this project, that brings it.
        remedy: what else helps.
    """
    otherwise = f", or {remedy}" if remedy else ""
    return InputError(f"{use} needs a package that is not installed: pip install 'diverseevol[{extra}]'{otherwise}")


def shown(value: Any) -> str:
    """A value for a sentence, cut to what one can hold."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}…"


def meant(name: str, names: Iterable[str], within: str = "") -> str:
    """What a misspelt name may have been, in brackets for a sentence; empty where nothing comes near.

    Args:
        name: what was given.
        names: what there is.
        within: prefix of each of them.
    """
    near = difflib.get_close_matches(name, list(names), 1)
    return f" (did you mean {within}{near[0]}?)" if near else ""


@functools.cache
def warn_once(log: logging.Logger, message: str, *values: object) -> None:
    """Warn of what holds in every round and batch; the same words come once in a process."""
    log.warning(message, *values)


def input_error(error: BaseException | None) -> InputError | None:
    """The InputError at the root of a chain of exceptions: Hydra wraps what its targets raise."""
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__
    return None
