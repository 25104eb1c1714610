"""Archives from anywhere, read member by member in memory that has a limit; nothing is ever unpacked to disk."""

import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any

from diverseevol.errors import InputError
from diverseevol.storage.packed import STARTS, STREAMS, LimitError, Unpacked
from diverseevol.storage.reading import opened, size

MOST_MEMBERS = 100_000
LARGEST_MEMBER = 1 << 28  # bytes of a file that is read
LARGEST_HEADER = (
    1 << 20
)  # bytes of a member's name and further facts, which have a part of their own when they are long
LARGEST_ARCHIVE = 1 << 32  # bytes of all members together
HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Member(tarfile.TarInfo):
    """A member's header, refused where the library would read without an end because of it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0:
            raise LimitError(f"member {member.name[:100]!r} has the size {member.size}")
        if member.type in HEADERS and member.size > LARGEST_HEADER:
            raise LimitError(f"a member has a header of {size(member.size)}, the limit is {size(LARGEST_HEADER)}")
        return member


class _Unpacked(Unpacked):
    """What comes out of an archive, which has a largest size, too."""

    def readinto(self, buffer: Any) -> int:
        length = super().readinto(buffer)
        if self.count > LARGEST_ARCHIVE:
            raise LimitError(f"it unpacks to more than {size(LARGEST_ARCHIVE)}")
        return length


def read_members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files of a tar archive, packed or not, that are wanted.

    Args:
        archive: the file.
        wanted: whether a file is, by its name; a leading slash is dropped.

    Raises:
        InputError: the archive cannot be read, is cut off, goes beyond a limit, or has a link or a device in place of a
            file that is wanted, or one whose name leads out of the archive.
    """
    try:
        with opened(archive) as packed, ExitStack() as stack:
            stream = stack.enter_context(closing(_unpacked(packed)))
            reader = io.BufferedReader(_Unpacked(packed, stream), 1 << 16)
            tar = stack.enter_context(tarfile.open(fileobj=reader, mode="r|", tarinfo=_Member))
            for number, member in enumerate(tar, start=1):
                if number > MOST_MEMBERS:
                    raise LimitError(f"it has more than {MOST_MEMBERS:,} members")
                name = member.name.lstrip("/")
                if not wanted(name):
                    continue
                if ".." in PurePosixPath(name).parts:
                    raise LimitError(f"member {member.name[:200]!r} leads out of the archive by '..'")
                if member.isdir():
                    continue
                if not member.isreg():
                    raise LimitError(f"member {name[:200]!r} is a link or a device, expected a file")
                if member.size > LARGEST_MEMBER:
                    raise LimitError(
                        f"member {name[:200]!r} is longer than {size(LARGEST_MEMBER)}, the most that is read"
                    )
                content = tar.extractfile(member)
                yield name, content.read() if content is not None else b""
    except LimitError as error:
        raise InputError(f"{archive}: {error}; unpack it yourself if you trust it, and give the folder") from error
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{archive}: cannot be read to its end ({reason}); get the archive again") from error


def _unpacked(packed: BufferedReader) -> io.BufferedIOBase:
    """The stream of a tar file by its first bytes."""
    start = packed.peek(max(map(len, STARTS)))
    kind = next((kind for magic, kind in STARTS.items() if start.startswith(magic)), None)
    return STREAMS[kind](packed) if kind in STREAMS else packed
