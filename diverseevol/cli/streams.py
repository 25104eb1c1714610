"""Standard output and error that never end the work: neither by who stops reading them, nor by what they can encode."""

import codecs
import io
import os
import select
import sys
from typing import Any

PLAIN = {"—": "-", "–": "-", "−": "-", "…": "...", "·": "*", "×": "x", "→": "->", "‘": "'", "’": "'"}
HANDLER = "diverseevol.plain"


def steady_streams() -> None:
    """Let this process print whatever happens: what cannot be shown or is not read is lost, and the work goes on.

    Characters that a stream cannot encode are written in plain ones, or as their escape. A stream whose reader has
    gone (`| head -1`), or whose disk is full, turns into the null device. One that was closed from the start is the
    null device as well, so that no file of ours is opened under its number.
    """
    codecs.register_error(HANDLER, _in_plain)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            _to_nowhere(number)
            setattr(sys, name, io.TextIOWrapper(_Buffered(_Lasting(number)), "utf-8", HANDLER, line_buffering=True))
        elif _number_of(stream) == number and not isinstance(getattr(stream, "buffer", None), _Buffered):
            stream.flush()
            steady = io.TextIOWrapper(
                _Buffered(_Lasting(number)), stream.encoding, HANDLER,
                line_buffering=stream.line_buffering, write_through=stream.write_through,
            )  # fmt: skip
            setattr(sys, name, steady)
        elif hasattr(stream, "reconfigure") and stream.errors == "strict":
            stream.reconfigure(errors=HANDLER)


class _Lasting(io.RawIOBase):
    """A file by its number, which becomes the null device once it takes no more."""

    def __init__(self, number: int) -> None:
        self.number = number

    def write(self, content: Any) -> int:
        """Write, and never fail."""
        while True:
            try:
                return os.write(self.number, content)
            except BlockingIOError:  # a slow reader of a file that does not wait for it
                select.select([], [self.number], [])
            except OSError:
                _to_nowhere(self.number)
                return len(content)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Its number."""
        return self.number

    def isatty(self) -> bool:
        """Whether someone watches."""
        return os.isatty(self.number)


class _Buffered(io.BufferedWriter):
    """Tells a stream that is steady already."""


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)


def _number_of(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None


def _in_plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    cut = error.object[error.start : error.end]
    text = "".join(PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode() for character in cut)
    return text, error.end
