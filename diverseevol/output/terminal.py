"""Terminal text: characters that would steer a terminal, or reorder what is read on it, are written out instead."""

import re
import sys

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
