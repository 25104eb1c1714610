"""Whole files or no files: everything is written to a temporary name, flushed to disk and renamed."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock
from platformdirs import user_cache_dir

from diverseevol.errors import InputError
from diverseevol.reading import LARGEST_JSONL, lines, opened, parse_json, read_bytes, too_large

TEMPORARY = ".partial"  # the suffix of whatever is not yet whole; `sweep_temporary` removes what a crash left


def cache_folder(configured: str | None) -> Path:
    """Where parsed data, tokens, foundation embeddings and judges' replies are kept between runs."""
    return Path(configured or os.environ.get("DIVERSEEVOL_CACHE") or user_cache_dir("diverseevol")).expanduser()


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under its name only once it is whole and on disk.

    Raises:
        InputError: the folder cannot be written to, or the disk is full; what was there before stays.
    """
    partial = path.with_name(path.name + TEMPORARY)
    with writing(path, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = None if "b" in mode else "utf-8"
        with partial.open(mode, encoding=text, newline=None if text is None else "\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)


@contextmanager
def writing(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Whatever the block writes, a disk that will not take it is told in the one sentence.

    Args:
        path: the file or folder, by the name that a user knows.
        partial: what it is called until it is whole; gone when the block fails.

    Raises:
        InputError: the disk is full, read-only, over a quota or otherwise unwilling; what was there before stays.
    """
    try:
        yield
    except BaseException as error:
        if partial is not None:
            _remove(partial)
        if not _of_the_disk(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot be written ({reason}); nothing that was there is lost: make room or "
            f"give another folder, then run the same command again"
        ) from error


def _of_the_disk(error: BaseException) -> bool:
    # Libraries written in Rust have exceptions of their own, in tokenizers' case a bare Exception; what all of them
    # keep is the system's number: too large a file (27), no space (28), read-only (30), over the quota (122).
    rust = not isinstance(error, InputError) and re.search(r"\(os error (27|28|30|122)\)", str(error))
    return isinstance(error, OSError) or bool(rust)


def _remove(path: Path) -> None:
    with suppress(OSError):  # what cannot be removed is on a disk that takes nothing
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Make a file's content survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document.

    Raises:
        ValueError: it holds NaN or an infinity, which are not JSON.
    """
    with atomic_write(path) as file:
        json.dump(value, file, ensure_ascii=False, indent=1, allow_nan=False)
        file.write("\n")


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write one JSON record a line.

    Raises:
        ValueError: one holds NaN or an infinity, which are not JSON.
    """
    with atomic_write(path) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str = "restore it, or delete it to redo its step") -> Any:
    """Read one JSON document.

    Args:
        path: the file.
        remedy: what to do about one that is not JSON.

    Raises:
        InputError: the file cannot be read, or was cut off or edited into something that is not JSON.
    """
    content = read_bytes(path)
    try:
        return parse_json(content.decode())
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); {remedy}") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one JSON record a line.

    Raises:
        InputError: the file cannot be read, or a line is not a JSON record.
    """
    return [record for _, record in read_numbered(path)]


def read_numbered(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Read one JSON record a line, each with the number of its line.

    Raises:
        InputError: the file cannot be read or is too large, or a line is not a JSON record.
    """
    records = []
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_JSONL:
            raise too_large(path, LARGEST_JSONL)
        for number, line in lines(file, path):
            if not line.strip():
                continue
            try:
                record = parse_json(line.decode())
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, line {number}: not UTF-8 text ({error.reason} at byte {error.start} of the line); "
                    f"save the file as UTF-8"
                ) from error
            except ValueError as error:
                raise InputError(
                    f"{path}, line {number}: not valid JSON ({error}); correct or remove the line"
                ) from error
            if not isinstance(record, dict):
                raise InputError(
                    f"{path}, line {number}: expected a JSON object, got a {type(record).__name__}; correct the line"
                )
            records.append((number, record))
    return records


def content_digest(file: Path, cache: Path | None = None, large: int = 1 << 26) -> str:
    """The SHA-256 of a file's content.

    Args:
        file: the file.
        cache: where the digests of large files are remembered by path, size and time of change, or None.
        large: from how many bytes on a digest is worth remembering.
    """
    note: Path | None = None
    with opened(file) as stream:
        stat = os.fstat(stream.fileno())
        if cache is not None and stat.st_size >= large:
            key = f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
            note = cache / "digests" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
            if note.exists():
                return str(read_json(note))
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if note is not None:
        write_json(note, digest)
    return digest


def cached_folder(folder: Path, build: Callable[[Path], object]) -> Path:
    """The folder, built once: by whoever comes first, and visible under its name only when it is whole.

    Processes that ask for the same folder at the same time wait for the one that builds it. What a killed
    process left half-built is thrown away.
    """
    if folder.exists():
        return folder
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if not folder.exists():
                build_whole(folder, build)
    return folder


def build_whole(folder: Path, build: Callable[[Path], object]) -> None:
    """Build a folder that appears under its name only once it is whole and on disk.

    Args:
        folder: the folder; nobody else is building it.
        build: puts the files into the folder it is given, which has a temporary name.

    Raises:
        InputError: the disk will not take it.
    """
    partial = folder.with_name(folder.name + TEMPORARY)
    with writing(folder, partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        build(partial)
        for file in filter(Path.is_file, partial.rglob("*")):
            sync_file(file)
        partial.replace(folder)
        sync_folder(folder.parent)


def sweep_temporary(folder: Path) -> None:
    """Remove what a killed process left half-written below a folder that this process holds the lock of."""
    for partial in folder.rglob("*" + TEMPORARY):
        _remove(partial)
