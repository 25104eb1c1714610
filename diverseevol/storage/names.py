"""Names that become names of files and folders, wherever they come from: a configuration, a data file, a model's id.

Names that a user chose are refused where they cannot be one; names that are made of something else, such as the name
of a file of rows, are changed until they can.
"""

import hashlib
import re
import unicodedata
from typing import Any

from diverseevol.errors import InputError

LONGEST_BYTES = 100  # in UTF-8: whatever is added to a name fits into the 255 bytes that file systems take
_NAME = re.compile(r"\w([\w .+-]*[\w+-])?")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # no names on Windows


def is_name(name: object) -> bool:
    """Whether a file or folder can have this name on any system, and stay where it is put."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or _DEVICES.fullmatch(name):
        return False
    return len(name.encode()) <= LONGEST_BYTES


def checked_name(option: str, name: Any) -> str:
    """A name that a user chose.

    Args:
        option: what the user sets it by, for the sentence.
        name: the name.

    Raises:
        InputError: no file can have it, or one would land elsewhere.
    """
    if not is_name(name):
        shown = repr(name) if len(repr(name)) <= 60 else f"{repr(name)[:57]}…"
        raise InputError(
            f"{option}={shown}: becomes the name of a file or folder, expected letters, digits, '.', '_', '-', '+' and "
            f"spaces between them, at most {LONGEST_BYTES} bytes; give another name"
        )
    return str(name)


def safe_name(text: str) -> str:
    """A name made of any text: the text itself where that is a name, else what is left of it and a hash of all."""
    text = unicodedata.normalize("NFC", text)
    if is_name(text):
        return text
    kept = re.sub(r"[^\w.+-]+", "-", text).strip(".-+").encode()[: LONGEST_BYTES - 9].decode("utf-8", "ignore")
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    name = f"{kept.rstrip('.-+')}-{digest}"
    return name if is_name(name) else digest
