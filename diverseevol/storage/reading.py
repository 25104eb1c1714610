"""Files from other people: only regular ones are opened, and what is read has a limit.

Code that takes a path from the user or from a folder opens it here, so that a pipe does not block it and an endless
device does not fill memory. The limits:

    LONGEST_LINE    bytes of one line, or of one record of an array
    LARGEST_JSON    bytes of a file that is one JSON document
    LARGEST_JSONL   bytes of a file of records that are held together: questions, answers, judgements, picks
    DEEPEST         levels of nested lists and objects

Rows of a data set are read one by one, so that their files may be of any size.
"""

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from diverseevol.errors import InputError

LONGEST_LINE = 1 << 26
LARGEST_JSON = 1 << 28
LARGEST_JSONL = 1 << 30
DEEPEST = 100

KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Headers of arrays are Python literals: what their parser makes of odd ones is of many types.
ODD_HEADER = (
    ValueError,
    TypeError,
    SyntaxError,
    TokenError,
    OverflowError,
    MemoryError,
    RecursionError,
    EOFError,
)


class TooDeepError(ValueError):
    """JSON whose lists and objects are nested more than `DEEPEST` levels deep."""

    def __init__(self) -> None:
        super().__init__(f"lists and objects are nested more than {DEEPEST} levels deep")


def size(number: int) -> str:
    """A number of bytes, for people."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number} bytes"


def special(path: Path) -> str | None:
    """What kind of special file lies there, which is not opened; None for all others."""
    try:
        return KINDS.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):
        return None


def refuse_special(path: Path, label: str | None = None) -> None:
    """Refuse a pipe, a socket or a device; a missing file is left to the code that opens it.

    Raises:
        InputError: it is one.
    """
    if kind := special(path):
        raise InputError(f"{label or path}: is {kind}, expected a regular file; name a file, or save it as one first")


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, and links to files, in order.

    Nothing is said of folders that vanish meanwhile: another process may be writing there, and renames its unfinished
    folders (`Path.rglob` raises an error then).
    """
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names))


@contextmanager
def opened(path: Path, label: str | None = None) -> Iterator[BufferedReader]:
    """Open a regular file to read its bytes.

    Args:
        path: the file.
        label: what the user knows it by, such as `embeddings=PATH`; the path where None.

    Raises:
        InputError: it does not exist, is not a regular file, or it cannot be read.
    """
    label = label or str(path)
    refuse_special(path, label)
    try:
        # What was a file a moment ago may be a pipe now: opening one without O_NONBLOCK waits for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise IsADirectoryError
            yield file
    except OSError as error:
        raise cannot_read(label, error) from error
    except ValueError as error:
        if "embedded null" not in str(error):
            raise
        raise InputError(f"{label}: the path holds a NUL character; correct it") from error


def cannot_read(label: object, error: OSError) -> InputError:
    """The sentence for a file that the system does not hand out."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{label}: no such file; check the path")
    if isinstance(error, IsADirectoryError):
        return InputError(f"{label}: is a folder; name a file in it")
    return InputError(f"{label}: cannot be read ({error.strerror or error}); check the path and who may read it")


def read_bytes(path: Path, limit: int = LARGEST_JSON, label: str | None = None) -> bytes:
    """All of a regular file.

    Raises:
        InputError: it cannot be read, or holds more than the limit.
    """
    with opened(path, label) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise too_large(label or path, limit)
    return content


def read_text(path: Path, limit: int = LARGEST_JSON, label: str | None = None) -> str:
    """All of a regular file of UTF-8 text, lines ending in a line feed.

    Raises:
        InputError: it cannot be read, holds more bytes than the limit, or other bytes than UTF-8 text has.
    """
    content = read_bytes(path, limit, label)
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{label or path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


def too_large(label: object, limit: int) -> InputError:
    """The sentence for a file beyond a limit."""
    return InputError(
        f"{label}: is longer than {size(limit)}, the most that is read of such a file; give a smaller one"
    )


def integer(digits: str) -> int | float:
    """An integer of JSON as a number that arithmetic takes: one beyond all counts is the nearest float."""
    return int(digits) if len(digits) < 30 else float(digits)


def decoded(text: str | bytes) -> Any:
    """JSON as the standard library reads it, but for integers."""
    return json.loads(text, parse_int=integer)


def parse_json(text: str | bytes, decode: Callable[[Any], Any] = decoded) -> Any:
    """One JSON value that everything after can walk through.

    Raises:
        TooDeepError: it is nested too deeply.
        ValueError: it is not JSON.
    """
    try:
        value = decode(text)
    except RecursionError:
        raise TooDeepError from None
    refuse_deep(value)
    return value


def refuse_deep(value: Any) -> None:
    """Raise a TooDeepError for lists and objects nested more than `DEEPEST` levels deep."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise TooDeepError


def load_array(path: Path, label: str | None = None, remedy: str = "write it with numpy.save") -> np.ndarray:
    """One array of a `.npy` file, memory-mapped.

    Args:
        path: the file.
        label: what the user knows it by.
        remedy: what to do about one that is not such a file.

    Raises:
        InputError: it cannot be read, is not a `.npy` file of plain numbers, or ends before the array does.
    """
    label = label or str(path)
    with opened(path, label) as file:
        held = os.fstat(file.fileno()).st_size
        start = file.read(4)
        if start.startswith(b"PK"):
            raise InputError(f"{label}: is a zip archive (.npz), expected a single .npy array; {remedy}")
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            count = 1
            for length in shape:
                count *= int(length)
        except ODD_HEADER as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"{label}: is not a .npy array ({reason}); {remedy}") from error
        if dtype.hasobject:
            raise InputError(f"{label}: holds Python objects, expected plain numbers; {remedy}")
        promised = file.tell() + count * dtype.itemsize
    if any(isinstance(length, bool) or length < 0 for length in shape):
        raise InputError(f"{label}: its header gives the shape {shape}, which no array has; {remedy}")
    if promised > held:
        raise InputError(
            f"{label}: is cut off: its header promises {promised:,} bytes, and the file holds {held:,}; {remedy}"
        )
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, TypeError, OverflowError, EOFError) as error:
        raise InputError(f"{label}: is not a .npy array ({' '.join(str(error).split())}); {remedy}") from error
    return array
