"""Folders that list what is in them: the length and digest of each file, so that damage is noticed.

A seal is the file `.digests` in the folder, a JSON object: name -> {bytes, sha256, sampled}. When it is checked, a file
of up to `FULL_BYTES` is read in full, and of a larger one `BLOCKS` blocks from its first to its last byte, unless all
is asked for. A seal reveals damage, not malice: anyone who can write to the folder can write the seal.
"""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from diverseevol.errors import InputError
from diverseevol.storage.files import read_json, remove, sync_file, sync_folder, temporary, write_json, writing
from diverseevol.storage.reading import opened

SEAL = ".digests"
FULL_BYTES = 1 << 28
BLOCKS = 128
BLOCK_BYTES = 1 << 19
SETTLED_NANOSECONDS = 2 * 10**9  # a younger file may be written to again within what its time of change can tell

_sound: set[tuple[object, ...]] = set()  # files as this process has found them, so that it reads each of them once


def build_complete(folder: Path, build: Callable[[Path], object]) -> None:
    """Build a folder that appears under its name only once it is complete, sealed and on disk.

    It replaces what has the name.

    Args:
        folder: the folder; nobody else is building it.
        build: puts the files into the folder it is given, which has a temporary name.

    Raises:
        InputError: the disk will not take it.
    """
    partial = temporary(folder)
    with writing(folder, partial):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        build(partial)
        seal(partial)
        for file in filter(Path.is_file, partial.rglob("*")):
            sync_file(file)
        before = temporary(folder)
        if os.path.lexists(folder):
            folder.rename(before)
        partial.rename(folder)
        sync_folder(folder.parent)
        remove(before)


def seal(folder: Path, names: Iterable[str] | None = None) -> None:
    """Note the lengths and digests of files as they are now.

    Args:
        folder: the folder that holds them, whose seal keeps what it says of other files.
        names: the files; None: all of the folder that are not sealed yet.
    """
    known = _read(folder) or {}
    if names is None:
        names = [name for name in _files(folder) if name not in known]
    write_json(folder / SEAL, {**known, **{name: _digests(folder / name) for name in names}})


def damage(folder: Path, names: Iterable[str] | None = None, *, full: bool = False) -> str | None:
    """What is wrong with files, in a few words; None where they are as they were when they were sealed.

    Args:
        folder: the folder that holds them.
        names: the files; None: all of the folder, which then holds nothing else.
        full: read large files in full, too.
    """
    if folder.is_symlink() or not folder.is_dir():
        return "is not a folder"
    known = _read(folder)
    if known is None:
        return f"has no readable {SEAL}, which says what its files hold"
    if names is None:
        # Names with a point are what systems and editors leave: no reader of an entry looks for them.
        added = [name for name in _files(folder) if name not in known and not Path(name).name.startswith(".")]
        if added:
            return f"{added[0]} does not belong in it"
        names = known
    for name in names:
        if name not in known:
            return f"{SEAL} says nothing of {name}"
        if flaw := _flaw(folder / name, known[name], full):
            return f"{name} {flaw}"
    return None


def sealed_names(folder: Path) -> list[str] | None:
    """The names of the files that a folder's seal knows; None where there is no readable seal."""
    known = _read(folder)
    return None if known is None else list(known)


def sealed_digest(file: Path) -> str | None:
    """The SHA-256 of a file by its folder's seal, which must have been checked; None where that says nothing of it."""
    known = (_read(file.parent) or {}).get(file.name)
    return None if known is None else str(known["sha256"])


def _flaw(file: Path, expected: dict[str, Any], full: bool) -> str | None:
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            return "is not a regular file"
        if status.st_size != expected["bytes"]:
            return f"holds {status.st_size:,} bytes, expected {expected['bytes']:,}"
        sampled = status.st_size > FULL_BYTES and expected["sampled"] is not None and not full
        digest = expected["sampled" if sampled else "sha256"]
        known = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, digest)
        if known in _sound:
            return None
        with opened(file) as stream:
            actual = _sampled(stream, status.st_size) if sampled else hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError, InputError) as error:  # a ValueError: no system takes that for a name
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    if actual != digest:
        return "holds other bytes than were written"
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_NANOSECONDS:
        _sound.add(known)
    return None


def _read(folder: Path) -> dict[str, dict[str, Any]] | None:
    """What the seal says; None where there is none that says what a seal says."""
    try:
        known = read_json(folder / SEAL)
    except InputError:
        return None
    return known if isinstance(known, dict) and all(map(_is_complete, known.values())) else None


def _is_complete(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) == {"bytes", "sha256", "sampled"}
        and type(entry["bytes"]) is int
        and isinstance(entry["sha256"], str)
        and isinstance(entry["sampled"], str | None)
    )


def _files(folder: Path) -> list[str]:
    """The names of all files and links below a folder."""
    paths = [Path(place, name) for place, below, files in os.walk(folder) for name in (*files, *below)]
    names = [path.relative_to(folder).as_posix() for path in paths if path.is_symlink() or not path.is_dir()]
    return sorted(name for name in names if name != SEAL)


def _digests(file: Path) -> dict[str, Any]:
    with opened(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"bytes": size, "sha256": digest, "sampled": _sampled(stream, size) if size > FULL_BYTES else None}


def _sampled(stream: BinaryIO, size: int) -> str:
    """The digest of blocks at even distances, the first and the last ones of the file among them."""
    digest = hashlib.sha256()
    last = max(0, size - BLOCK_BYTES)
    for i in range(BLOCKS):
        stream.seek(last * i // (BLOCKS - 1))
        digest.update(stream.read(BLOCK_BYTES))
    return digest.hexdigest()
