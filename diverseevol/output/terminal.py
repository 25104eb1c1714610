"""Terminal text: characters that would steer a terminal, or reorder what is read on it, are written out instead."""

import json
import logging
import re
import sys
import threading
import traceback
import warnings

LONGEST = 2000  # characters of a message, after which its middle is left out

# C0 but for tab and newline, DEL and C1; line separators; marks, embeddings, overrides and isolates of direction;
# deprecated and annotating format characters; byte order marks; tags; halves of surrogate pairs, which no stream takes.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
    "\ud800-\udfff]"
)
_LINE_BREAK = re.compile("[ \t]*(?:\r?\n|\u2028|\u2029)\\s*")


def visible(text: str) -> str:
    r"""The text with each steering character as Python would write it, `\x1b`; tabs and line breaks stay."""
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def escaped(text: str) -> str:
    r"""The text with each steering character as JSON writes it, `\u001b`, which reads back as what it was."""
    return _STEERING.sub(lambda match: json.dumps(match[0])[1:-1], text)


def one_line(text: object, longest: int | None = None) -> str:
    """The text on one line, steering characters visible.

    Args:
        text: a string, or anything that is shown as one: a path, an exception.
        longest: characters, after which the middle is left out; None is any length.
    """
    line = visible(_LINE_BREAK.sub(" ", str(text).strip("\n")))
    if longest is None or len(line) <= longest:
        return line
    end = longest // 4
    return f"{line[: longest - end]} … [{len(line) - longest:,} characters left out] … {line[-end:]}"


def say(text: object, *, error: bool = False, longest: int | None = None) -> None:
    """Print one line.

    Args:
        text: what to say.
        error: whether it goes to standard error.
        longest: see `one_line`.
    """
    print(one_line(text, longest), file=sys.stderr if error else sys.stdout, flush=True)


def finish() -> None:
    """Let out what is still held back, before the process ends without Python's own end."""
    sys.stdout.flush()
    sys.stderr.flush()


def say_error(error: BaseException) -> None:
    """Print where in the code an exception came up, with its text, a line each."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        say(line, error=True)


def keep_plain() -> None:
    """Let what Python itself prints be plain, too: warnings, logs without a handler, exceptions of threads."""
    warnings.formatwarning = _warning
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Plain())
    threading.excepthook = lambda caught: None if caught.exc_value is None else say_error(caught.exc_value)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record), LONGEST)


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return one_line(f"{category.__name__}: {message}", LONGEST) + "\n"
