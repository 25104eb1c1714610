"""Complete files or no files: everything is written to a temporary name, flushed to disk and renamed.

A temporary name is new and cannot be foreseen, and no write goes through a link: where a link has the name of a file
that is written, the file replaces the link, and what the link leads to stays as it is.
"""

import errno
import fcntl
import filecmp
import glob
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from diverseevol.errors import InputError
from diverseevol.storage.json_lines import json_records
from diverseevol.storage.reading import LARGEST_JSONL, opened, parse_json, read_bytes, too_large

TEMPORARY = ".partial"  # the suffix of whatever is not yet complete; `sweep_temporary` removes what a crash left
_TEMPORARY_NAME = re.compile(rf".*\.[0-9a-f]{{16}}{re.escape(TEMPORARY)}", re.DOTALL)
_STEM_BYTES = 200  # of a name that a temporary one repeats: file systems take 255 for a name
FULL = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT)  # too large a file, no space, over the quota: more room helps
_STALE_SECONDS = 3600  # an older file is not being written any more


def temporary(path: Path) -> Path:
    """A new name beside a file or folder, for what is not yet complete: it is free, and cannot be foreseen."""
    return path.with_name(f"{_stem(path)}.{secrets.token_hex(8)}{TEMPORARY}")


def _stem(path: Path) -> str:
    return os.fsencode(path.name)[:_STEM_BYTES].decode("utf-8", "ignore")


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that `temporary` named."""
    return _TEMPORARY_NAME.fullmatch(name) is not None


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under its name only once it is complete and on disk.

    Where a file with the same content has the name, that one stays.

    Raises:
        InputError: the folder cannot be written to, the disk is full, or the name is a device's; what was there before
            stays.
    """
    _refuse_device(path)
    partial = temporary(path)
    with writing(path, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_siblings(path, _STALE_SECONDS)
        # Half of a surrogate pair, which a reply may hold, is written as its escape: JSON reads it back as it was.
        text, newline, errors = (None, None, None) if "b" in mode else ("utf-8", "\n", "backslashreplace")
        with partial.open(mode.replace("w", "x"), encoding=text, newline=newline, errors=errors) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if _is_the_same(partial, path):
            partial.unlink()
        else:
            partial.replace(path)
        sync_folder(path.parent)


def _is_the_same(new: Path, old: Path) -> bool:
    """Whether an old file, not a link, holds what a new one holds."""
    try:
        status = old.lstat()
        regular = stat.S_ISREG(status.st_mode) and status.st_size == new.stat().st_size
        return regular and filecmp.cmp(new, old, shallow=False)
    except OSError:
        return False


def _refuse_device(path: Path) -> None:
    """A rename would put a file in the place of a device, a pipe, or a name such as /dev/stdout."""
    if not path.name:
        raise InputError(f"{path}: is a folder; name a file in it")
    mode = stat.S_IFREG
    with suppress(OSError):
        mode = path.stat().st_mode
    parent = os.path.realpath(path.parent)
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or parent == "/dev" or f"{parent}/".startswith("/proc/"):
        raise InputError(f"{path}: is a device or a pipe, expected a file or a free name; name a file")


@contextmanager
def writing(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Turn any error of the disk inside the block into one InputError.

    Args:
        path: the file or folder, by the name that a user knows.
        partial: its name until it is complete; removed when the block fails.

    Raises:
        InputError: the disk is full, read-only, over a quota or refuses otherwise; what was there before stays.
    """
    try:
        yield
    except BaseException as error:
        if partial is not None:
            remove(partial)
        if not _of_the_disk(error):
            raise
        reason = getattr(error, "strerror", None) or error
        number = getattr(error, "errno", None) or _rust_number(error)
        remedy = "make room or give another folder" if number in FULL else "give another folder"
        raise InputError(
            f"{path}: cannot be written ({reason}); nothing that was there is lost: {remedy}, then run the same "
            f"command again"
        ) from error


def _of_the_disk(error: BaseException) -> bool:
    unwilling = (*FULL, errno.EROFS)
    return isinstance(error, OSError) or (not isinstance(error, InputError) and _rust_number(error) in unwilling)


def _rust_number(error: BaseException) -> int | None:
    # Libraries written in Rust have exceptions of their own, in tokenizers' case a bare Exception; what all of them
    # keep is the system's number.
    match = re.search(r"\(os error (\d+)\)", str(error))
    return None if match is None else int(match[1])


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, and nothing that a link leads to; it stays if the disk accepts no changes."""
    with suppress(OSError):  # the disk accepts no changes
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


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
    write_lines(path, (json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text, each without its end."""
    with atomic_write(path) as file:
        file.writelines(line + "\n" for line in lines)


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


def read_jsonl(path: Path, remedy: str = "correct or remove the line") -> list[dict[str, Any]]:
    """Read one JSON record a line.

    Args:
        path: the file.
        remedy: what to do about a line that is not a JSON record.

    Raises:
        InputError: the file cannot be read, or a line is not a JSON record.
    """
    return [record for _, record in read_numbered(path, remedy)]


def read_numbered(path: Path, remedy: str = "correct or remove the line") -> list[tuple[int, dict[str, Any]]]:
    """Read one JSON record a line, each with the number of its line; arguments as `read_jsonl` has them.

    Raises:
        InputError: the file cannot be read or is too large, or a line is not a JSON record.
    """
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_JSONL:
            raise too_large(path, LARGEST_JSONL)
        return list(json_records(file, path, remedy))


def make_folder(folder: Path) -> list[Path]:
    """Make a folder with those above it that are missing.

    Returns:
        The folders that this call made, the outermost first: what the caller may remove again.

    Raises:
        InputError: something else has the name, or the folder cannot be written to.
    """
    folder = folder.absolute()
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    made: list[Path] = []
    try:
        with writing(folder):
            for path in reversed(missing):
                with suppress(FileExistsError):  # another process was faster, so it is not ours to remove
                    path.mkdir()
                    made.append(path)
    except BaseException:
        remove_empty(made)
        raise
    if not folder.is_dir():
        obstacle = "a link that leads nowhere" if folder.is_symlink() else "a file"
        raise InputError(f"{folder}: is {obstacle}, expected a folder or a free name; give another path")
    return made


def remove_empty(made: Sequence[Path]) -> None:
    """Remove the folders that `make_folder` made, as far as nothing is in them."""
    for folder in reversed(made):
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def locked(file: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock file; the lock of a process that died is free.

    Args:
        file: the lock file; it stays when the lock is released.
        timeout: for how many seconds to wait for another process; -1 for as long as it takes.

    Raises:
        InputError: it is a link, and opening it could empty what it leads to.
        filelock.Timeout: another process held it all the time.
    """
    if file.is_symlink():  # opening it could empty what it leads to
        raise InputError(f"{file}: is a link, expected a lock file or nothing; remove the link")
    with FileLock(file, timeout=timeout):
        yield


def is_locked(file: Path) -> bool:
    """Whether a process holds a lock file; nothing is made or changed, but a free lock is held for a moment."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def refuse_links(folder: Path) -> None:
    """Check that what is written below a folder stays below it.

    Raises:
        InputError: a link somewhere below leads to a folder outside.
    """
    inside = os.path.realpath(folder)
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(parent, name)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
                raise InputError(
                    f"{path}: is a link to a folder outside {folder}, expected a folder, for what is written below it "
                    f"would change files elsewhere; put a folder in its place"
                )


def sweep_temporary(folder: Path) -> None:
    """Remove what a killed process left half-written below a folder that this process holds the lock of.

    Only what has a name of `temporary` goes; links stay, and nothing behind them is touched.
    """
    for parent, folders, files in os.walk(folder):
        for name in filter(is_temporary, (*folders, *files)):
            path = Path(parent, name)
            if not path.is_symlink():
                remove(path)


def sweep_siblings(path: Path, older: float = 0) -> None:
    """Remove what killed processes left half-written of one file or folder.

    Args:
        path: the file or folder.
        older: for how many seconds it must not have changed, where no lock shows that it is not being written.
    """
    for left in path.parent.glob(f"{glob.escape(_stem(path))}.*{TEMPORARY}"):
        if len(left.name) == len(_stem(path)) + 17 + len(TEMPORARY) and is_temporary(left.name):
            with suppress(OSError):  # another process has removed or finished it
                if not left.is_symlink() and time.time() - left.stat().st_mtime >= older:
                    remove(left)
