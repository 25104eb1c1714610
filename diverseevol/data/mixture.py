"""What `data.path` names: one file, folder, glob or hub id, or several, whose rows become one data set in order."""

import glob
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from diverseevol.data.file_names import title
from diverseevol.data.folder import packed_rows
from diverseevol.data.hub_names import may_be_data_on_hub
from diverseevol.errors import InputError
from diverseevol.storage.files import read_jsonl

Progress = Callable[[int, int], None]
WILDCARDS = re.compile(r"[*?\[\]!]+")
NAMED = 3  # sources that the name of a mixture lists


def named_sources(path: Any) -> dict[str, str]:
    """What each source is called, and where it is, in order; no file is read.

    Args:
        path: a path, a list of paths, which get their files' names, or a mapping of names to paths; not yet checked.

    Raises:
        InputError: it names no source, or a name or path is empty.
    """
    if not isinstance(path, Mapping | list | tuple):
        return {_title(str(path)): str(path)}
    paths = [str(where) for where in (path.values() if isinstance(path, Mapping) else path)]
    names = list(map(str, path)) if isinstance(path, Mapping) else _distinct(list(map(_title, paths)))
    if not names or not all(text.strip() for text in (*names, *paths)):
        raise InputError(
            "data.path is empty, or one of its names or paths is; give a file, a list of files, or {NAME: FILE, …}"
        )
    return dict(zip(names, paths, strict=True))


def data_name(path: Any) -> str:
    """What a data set is called unless the user names it: like its sources."""
    names = list(named_sources(path))
    rest = [f"{len(names) - NAMED}-more"] if len(names) > NAMED else []
    return "+".join([*names[:NAMED], *rest])


def all_here(path: Any) -> bool:
    """Whether no source has to be fetched from the hub."""
    return not any(may_be_data_on_hub(where) for where in named_sources(path).values())


def files_of(where: str, split: str) -> list[str]:
    """What is read of one source, file after file: itself, unless it is a glob, or a folder with packed files.

    Args:
        where: a path or a hub id.
        split: of a folder, which files belong to it.

    Raises:
        InputError: a glob fits no file.
    """
    if not _is_glob(where):
        folder = Path(where).expanduser()
        return [str(file) for file in packed_rows(folder, split)] or [where]
    paths = sorted(glob.glob(str(Path(where).expanduser()), recursive=True))  # noqa: PTH207 - Path.glob takes no path from the root
    files = [path for path in paths if not Path(path).is_dir()]
    if not files:
        folders = f" (folders alone, such as {paths[0]})" if paths else ""
        raise InputError(
            f"data.path={where}: no file has such a name{folders}; correct the pattern, or give the paths as a list, "
            f"data.path=[A,B]"
        )
    return files


def is_among(file: Path, where: str) -> bool:
    """Whether a file that is to be written would be part of a source: lies in its folder, or fits its glob."""
    path = Path(where).expanduser()
    if not _is_glob(where):
        return path.is_dir() and path.resolve() in file.resolve().parents
    return fnmatch(str(file.resolve()), str(path.absolute()))


def refuse_repeated(files: Iterable[str]) -> None:
    """Refuse a file that several sources hold, whose rows would be there twice.

    Raises:
        InputError: there is one.
    """
    known: dict[str, str] = {}
    for file in files:
        resolved = file if may_be_data_on_hub(file) else os.path.realpath(Path(file).expanduser())
        if (before := known.get(resolved)) is not None:
            also = "" if before == file else f" (as {before}, too)"
            raise InputError(f"data.path gives {file} twice{also}; leave one of the two out")
        known[resolved] = file


def joint_fingerprint(sources: Sequence[Sequence[str]]) -> str:
    """The fingerprint of a data set from those of its files, source by source; that of the only file where it is one.

    The rows in their order count, and which of them are one source; names and paths do not.
    """
    files = [fingerprint for source in sources for fingerprint in source]
    return files[0] if len(files) == 1 else hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def bad_rows(lists: Iterable[tuple[str, str, Path]]) -> Iterator[dict[str, Any]]:
    """The records of several files that were left out.

    Args:
        lists: of each file the source, the file, and the list that was made as it was read.
    """
    for source, file, path in lists:
        for line in read_jsonl(path):
            yield {"source": source, "file": file, **line}


def part_of(progress: Progress | None, number: int, count: int) -> Progress:
    """What is told of one of several files that are read one after another, as if each were as long."""
    if progress is None:
        return lambda done, total: None
    return (
        progress
        if count == 1
        else lambda done, total: progress(100 * number + 100 * done // max(1, total), 100 * count)
    )


def _title(where: str) -> str:
    """What one source is called: the file's name, or of a glob the last part of it that says more than wildcards."""
    if not _is_glob(where):
        return title(Path(where).expanduser())
    *folders, pattern = Path(where).parts
    names = (WILDCARDS.sub("", part).strip(" .-_/") for part in (pattern.partition(".")[0], *reversed(folders)))
    return next(filter(None, names), "rows")


def _is_glob(where: str) -> bool:
    return glob.has_magic(where) and not os.path.lexists(Path(where).expanduser())


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that were there before."""
    distinct: dict[str, None] = {}
    for name in names:
        candidates = (name if number == 1 else f"{name}-{number}" for number in range(1, len(names) + 2))
        distinct[next(candidate for candidate in candidates if candidate not in distinct)] = None
    return list(distinct)
