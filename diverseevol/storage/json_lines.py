"""JSON lines, a value a line: one reader for all, with the number of each line and a limit to its length."""

import codecs
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any, NamedTuple

from diverseevol.errors import InputError
from diverseevol.storage.reading import LONGEST_LINE, decoded, parse_json, size

CHUNK = 1 << 20  # bytes that are read at a time of a line beyond the limit, which is only measured


@dataclass(frozen=True)
class Unreadable:
    """Why a line holds no JSON value that can be read."""

    problem: str


class JsonLine(NamedTuple):
    """A line that is not blank.

    Attributes:
        number: of the line, from 1.
        value: what it holds, or an `Unreadable`.
        done: bytes of the file up to its end.
        line: its bytes, without a byte order mark and the end of the line; only the beginning where it is too long.
    """

    number: int
    value: Any
    done: int
    line: bytes


def json_lines(file: BufferedIOBase, decode: Callable[[str], Any] = decoded) -> Iterator[JsonLine]:
    """The values of a file, one at a time; what is wrong with a line does not end the reading.

    Only a line feed ends a line: U+2028 and its like may be part of texts.

    Args:
        file: its bytes.
        decode: makes a value of a line's text, as `json.loads` does.
    """
    done = 0
    for number, (line, length) in enumerate(bounded_lines(file), start=1):
        done += length
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if length > LONGEST_LINE:
            problem = f"is {size(length)} long, expected at most {size(LONGEST_LINE)}"
            yield JsonLine(number, Unreadable(problem), done, line)
        elif line.strip():
            bare = line.removesuffix(b"\n").removesuffix(b"\r")
            yield JsonLine(number, decoded_line(bare, decode), done, bare)


def json_records(
    file: BufferedIOBase, label: object, remedy: str = "correct or remove the line"
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file with the numbers of their lines.

    Args:
        file: its bytes.
        label: what the user knows it by.
        remedy: what to do about a line that is not a JSON object.

    Raises:
        InputError: a line is none.
    """
    for number, value, *_ in json_lines(file):
        if isinstance(value, Unreadable):
            raise InputError(f"{label}, line {number}: {value.problem}; {remedy}")
        if not isinstance(value, dict):
            raise InputError(f"{label}, line {number}: expected a JSON object, got a {type(value).__name__}; {remedy}")
        yield number, value


def bounded_lines(file: BufferedIOBase) -> Iterator[tuple[bytes, int]]:
    """Each line and its length; of one that is longer than `LONGEST_LINE` only the beginning."""
    while line := file.readline(LONGEST_LINE + 1):
        length, last = len(line), line
        while length > LONGEST_LINE and not last.endswith(b"\n") and (last := file.readline(CHUNK)):
            length += len(last)
        yield line, length


def decoded_line(line: bytes, decode: Callable[[str], Any]) -> Any:
    """The value of one line, or an `Unreadable`."""
    try:
        text = line.decode().strip()
        return parse_json(text, decode)
    except UnicodeDecodeError as error:
        return Unreadable(f"byte 0x{line[error.start]:02X} (byte {error.start + 1} of the line) is not UTF-8 text")
    except json.JSONDecodeError as error:
        if ends_early(error):
            return Unreadable(f"not valid JSON (the line is cut off after character {len(text)})")
        return Unreadable(f"{syntax(error)} (character {error.pos + 1} of the line)")
    except ValueError as error:
        return Unreadable(f"holds what cannot be read ({error})")


def ends_early(error: json.JSONDecodeError, slack: int = 0) -> bool:
    """Whether the text ended too early, or may have: within `slack` of its end."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc) - slack


def syntax(error: json.JSONDecodeError) -> str:
    """What is wrong with a text that is not JSON."""
    if error.doc[error.pos : error.pos + 1] == "\0":
        return "not valid JSON: a NUL byte"
    return f"not valid JSON: {error.msg[0].lower()}{error.msg[1:].removesuffix(' at')}"
