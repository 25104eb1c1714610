"""Packed files, known by their bytes, as libraries know them: unpacked within limits, or refused."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any, cast

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
# What is packed well shrinks to a hundredth; what shrinks to less was made to fill a disk or memory.
FREE, RATIO = 1 << 26, 200


class LimitError(Exception):
    """What is packed goes beyond a limit."""


class Unpacked(io.RawIOBase):
    """What comes out of a packed file, counted against what went in.

    Reading raises `LimitError` where too much comes out, and whatever the library raises where the file is damaged.
    """

    def __init__(self, packed: BufferedReader, stream: BufferedIOBase) -> None:
        self.packed, self.stream, self.count = packed, stream, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next; how many bytes."""
        part = self.stream.read(len(buffer))
        buffer[: len(part)] = part
        self.count += len(part)
        if self.count > FREE + RATIO * self.packed.tell():
            raise LimitError(f"it unpacks to more than {RATIO} times its size")
        return len(part)


def _zstandard(packed: BufferedReader) -> BufferedIOBase:
    import pyarrow as pa  # which has a codec that Python 3.11 lacks

    stream: BufferedIOBase = pa.input_stream(packed, compression="zstd")
    return stream


STREAMS: dict[str, Callable[[BufferedReader], BufferedIOBase]] = {
    "gzip": lambda packed: gzip.GzipFile(fileobj=packed),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstandard": _zstandard,
}


@contextmanager
def opened_unpacked(path: Path) -> Iterator[tuple[BufferedReader, BufferedReader]]:
    """Open a file of text, which is unpacked while it is read where it is packed.

    Yields:
        The bytes of the text, and the file itself, whose position says how much of it has been read.

    Raises:
        InputError: it cannot be read, is an archive of files, is damaged, or unpacks to more than 200 times its size.
    """
    kind = packed(path)
    if kind is not None and kind not in STREAMS:
        raise InputError(
            f"{path}: is packed ({kind}), expected a plain file of rows or one packed by {', '.join(STREAMS)}; unpack "
            f"it, and give the file with the rows"
        )
    with opened(path) as file:
        if kind is None:
            yield file, file
            return
        with closing(STREAMS[kind](file)) as stream:
            reader = cast(BufferedReader, BufferedReader(_Rows(path, file, stream), 1 << 16))
            if reader.peek(TAR[0] + len(TAR[1]))[TAR[0] :].startswith(TAR[1]):
                raise InputError(f"{path}: holds a tar archive, expected rows; unpack it, and give the file with them")
            yield reader, file


class _Rows(Unpacked):
    """The same, and whatever is wrong is a sentence."""

    def __init__(self, path: Path, packed: BufferedReader, stream: BufferedIOBase) -> None:
        super().__init__(packed, stream)
        self.path = path

    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer)
        except LimitError as error:
            raise InputError(f"{self.path}: {error}; unpack it yourself if you trust it, and give the file") from error
        except (lzma.LZMAError, zlib.error, EOFError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{self.path}: cannot be unpacked to its end ({reason}); get the file again") from error


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
