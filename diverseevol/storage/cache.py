"""The cache: what can be made again from the user's data and model, kept between runs, and never trusted unchecked.

Every entry is a sealed folder (see `diverseevol.storage.sealed`). One that is damaged in any way, or was made before
there were seals, is made again with one warning.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from platformdirs import user_cache_dir

from diverseevol.errors import InputError
from diverseevol.storage.files import locked, read_json, sweep_siblings, write_json, writing
from diverseevol.storage.reading import opened
from diverseevol.storage.sealed import build_complete, damage

log = logging.getLogger(__name__)

LARGE = 1 << 26  # bytes from which on the digest of a file is worth remembering

_in_full: ContextVar[bool] = ContextVar("_in_full", default=False)


def cache_folder(configured: str | None) -> Path:
    """Where parsed data, tokens, foundation embeddings and judges' replies are kept between runs.

    Raises:
        InputError: a file lies there.
    """
    variable = os.environ.get("DIVERSEEVOL_CACHE")
    folder = Path(configured or variable or user_cache_dir("diverseevol")).expanduser()
    if folder.exists() and not folder.is_dir():
        name = "cache" if configured or not variable else "DIVERSEEVOL_CACHE"
        raise InputError(f"{name}={folder}: is a file, expected a folder; give a folder, which need not be there yet")
    return folder


@contextmanager
def checked_in_full(full: bool) -> Iterator[None]:
    """Whether the entries that the block uses are read to their last byte, however large, and no digest remembered."""
    before = _in_full.set(full)
    try:
        yield
    finally:
        _in_full.reset(before)


def in_full() -> bool:
    """Whether entries are checked to their last byte (see `checked_in_full`)."""
    return _in_full.get()


def cached_folder(folder: Path, build: Callable[[Path], object]) -> Path:
    """The folder, built once: by the first process that asks, and visible under its name only when it is complete.

    It is checked whenever it is asked for, and built again where something in it is damaged, missing or added.
    Processes that ask for the same folder at the same time wait for the one that builds it. What a killed process left
    half-built is thrown away.
    """
    if damage(folder, full=in_full()) is None:
        return folder
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(folder.name + ".lock")):
            flaw = damage(folder, full=in_full())  # another process may have built it meanwhile
            if flaw is not None:
                if os.path.lexists(folder):
                    warn_of_damage(folder, flaw)
                sweep_siblings(folder)
                build_complete(folder, build)
    return folder


def warn_of_damage(entry: Path, flaw: str) -> None:
    """Say once that an entry is not used."""
    log.warning("%s: damaged in the cache (%s); it is not used, and made again", entry, flaw)


def content_digest(file: Path, cache: Path | None = None, large: int = LARGE) -> str:
    """The SHA-256 of a file's content.

    Args:
        file: the file.
        cache: where the digests of large files are remembered by path, size and time of change, or None.
        large: from how many bytes on a digest is worth remembering.

    Raises:
        InputError: the file cannot be read, or is not a regular one.
    """
    with opened(file) as stream:
        status = os.fstat(stream.fileno())
        if cache is None or status.st_size < large or in_full():
            return hashlib.file_digest(stream, "sha256").hexdigest()

        def note(folder: Path) -> None:
            write_json(folder / "digest.json", hashlib.file_digest(stream, "sha256").hexdigest())

        key = f"{file.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
        folder = cached_folder(cache / "digests" / hashlib.sha256(key.encode()).hexdigest()[:32], note)
        return str(read_json(folder / "digest.json"))
