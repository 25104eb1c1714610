"""Shell words: a command that a user may copy does what it says, whatever a path in it holds.

command("diverseevol", "judge", override("folder", path))
"""

import os
import re
import shlex
from itertools import groupby

from diverseevol.output.terminal import visible

_BARE = re.compile(r"[A-Za-z0-9_./-]+")  # means itself in Hydra's grammar, unless it is read as another type:
_OTHER_TYPE = re.compile(r"null|true|false|nan|[+-]?(inf|[0-9._]+(e[+-]?[0-9_]+)?)", re.IGNORECASE)


def override(key: str, value: object) -> str:
    """`key=value` in Hydra's grammar, where the value is a string or a path and arrives as it is; for `command`."""
    text = str(value)
    if _BARE.fullmatch(text) and not _OTHER_TYPE.fullmatch(text):
        return f"{key}={text}"
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # `${` would begin an interpolation
    return f"{key}={quoted(literal)}"


def quoted(text: str) -> str:
    """A string as Hydra's grammar reads it between double quotation marks."""
    return '"' + re.sub(r'(\\*)("|\Z)', lambda match: 2 * match[1] + ('\\"' if match[2] else ""), text) + '"'


def command(*words: str) -> str:
    """A command line for any POSIX shell, in which each word arrives as it is.

    Characters that would steer a terminal, and line breaks, are spelt in octal by `printf`: lines are copied from
    terminals, and of a line that breaks the first half is run as soon as it is pasted.
    """
    return " ".join(map(_word, words))


def _word(word: str) -> str:
    # $(…) drops the line breaks that it ends with, so the character behind one is spelt, too.
    spelt = [c in "\t\n" or visible(c) != c or word[:i].endswith("\n") for i, c in enumerate(word)]
    runs = groupby(zip(spelt, word, strict=True), key=lambda pair: pair[0])
    pieces = [(octal, "".join(c for _, c in run)) for octal, run in runs]
    return "".join(_octal(text) if octal else shlex.quote(text) for octal, text in pieces) or "''"


def _octal(text: str) -> str:
    body = text.rstrip("\n")
    codes = "".join(f"\\{byte:03o}" for byte in os.fsencode(body))
    end = text[len(body) :]  # of the word: nothing is behind it
    return (f"\"$(printf '{codes}')\"" if codes else "") + (shlex.quote(end) if end else "")
