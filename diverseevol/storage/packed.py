"""Packed files, which libraries unpack whatever that takes: known by their bytes, as libraries know them."""

import zipfile
from pathlib import Path

from diverseevol.errors import InputError
from diverseevol.storage.reading import opened

STARTS = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"PK\x07\x08": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
}
TAR = (257, b"ustar")  # where a tar archive says that it is one


def refuse_packed(path: Path) -> None:
    """Refuse a packed file before a library unpacks it, for nothing would limit what comes out.

    Raises:
        InputError: it is one, or cannot be read.
    """
    if kind := packed(path):
        raise InputError(
            f"{path}: is packed ({kind}), expected a plain file of rows, for nothing limits what it unpacks to; unpack "
            f"it yourself if you trust it, or take it out of the data's folder"
        )


def packed(path: Path) -> str | None:
    """How a regular file is packed; None where it is not."""
    with opened(path) as file:
        start = file.read(TAR[0] + len(TAR[1]))
        if start[TAR[0] :] == TAR[1] or path.suffix.lower() == ".tar":
            return "tar"
        kind = next((kind for magic, kind in STARTS.items() if start.startswith(magic)), None)
        return kind or ("zip" if zipfile.is_zipfile(file) else None)  # its directory is at its end
