"""Where a command's results go: beside what they are of, or where `out=` says."""

import errno
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from diverseevol.cli.configuration import Configuration
from diverseevol.data.dataset_info import is_dataset_info, read_entry
from diverseevol.data.mixture import is_among, named_sources
from diverseevol.errors import InputError
from diverseevol.output.shell import command, override

TEMPORARY_BYTES = 24  # that a name may grow by while a file is being written


def results_file(out: str | None, of: Path, name: str) -> Path:
    """The file that gets a command's results, refused now rather than after the work.

    Args:
        out: the user's path; None is beside `of`: in a folder under this name, beside an archive with the archive's own
            name in front.
        of: the folder or archive that the results are of.
        name: what the file is called; a path of the user's has the same ending.

    Raises:
        InputError: the file cannot be written, has another ending, or is the one that is read.
    """
    if out is None:
        stem = of.name.partition(".tar")[0].removesuffix(".tgz")
        path = of / name if of.is_dir() else of.with_name(f"{stem}-{name}")
        if of.exists():  # else its reader says so
            check_writable(path, f"{path}: the results cannot be written beside what they are of", "a file")
        return path
    return _named_file(out, name)


def _named_file(out: str, name: str) -> Path:
    path, ending = Path(out), Path(name).suffix
    check_writable(path, f"out={out}: cannot be written", "another file")
    if path.is_dir():
        raise InputError(f"out={out}: is a folder; name a file in it, such as {command(override('out', path / name))}")
    if path.suffix != ending:
        raise InputError(
            f"out={out}: the name must end in {ending}; give for instance {command(override('out', f'{path}{ending}'))}"
        )
    return path


def check_writable(path: Path, problem: str, alternative: str) -> None:
    """Check that a path can be written to, leaving nothing behind.

    Args:
        path: a file or folder, which need not be there.
        problem: the beginning of the message.
        alternative: what `out=` should name instead, such as "another file".

    Raises:
        InputError: the path, or the folder that is to hold it, cannot be written to.
    """
    absolute = path.absolute()
    above = absolute
    try:
        with suppress(FileNotFoundError):
            absolute.lstat()  # whether the system takes it for a path
        above = absolute if absolute.is_dir() else next(folder for folder in absolute.parents if folder.exists())
        with tempfile.TemporaryFile(dir=above):
            pass
        longest = max(len(os.fsencode(part)) for part in absolute.parts)
        if longest > os.pathconf(above, "PC_NAME_MAX") - TEMPORARY_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{problem} ({above}: {reason}); say out=… with {alternative} where you may write") from error


def choice_file(settings: Configuration) -> Path:
    """The file that gets what `select` chose, refused now rather than after the work.

    Raises:
        InputError: it cannot be written, is read itself, lies in a folder that is read, or holds another choice.
    """
    out = settings.value("out", str)
    path = _named_file(out, "P.json")  # the rows of data go beside it, in .jsonl
    written = [path]
    if settings.value("data") is not None:
        written += [path.with_suffix(suffix) for suffix in (".jsonl", ".bad_rows.jsonl", ".contamination.jsonl")]
    refuse_read(settings, written, f"out={out}: ")
    for file in written[:2]:  # the list of bad rows is there early, also of a choice that was cut off
        if file.exists() and not settings.value("replace", bool):
            raise InputError(
                f"out={out}: {file} is there already; give out another name to keep it, or replace=true to have this "
                f"choice in its place"
            )
    return path


def refuse_read(settings: Configuration, written: Sequence[Path], beginning: str) -> None:
    """Refuse to write over what is read, or among the data.

    Args:
        settings: the configuration, which names what is read.
        written: the files that will be.
        beginning: of the sentence: the option that names them, "" where none does.

    Raises:
        InputError: a file would be written over one that is read, or lie among the data.
    """
    sources = [(name, settings.value(name)) for name in ("taken", "embeddings", "lengths")]
    data = settings.value("data")
    paths = data.get("path") if isinstance(data, dict) else None
    if is_dataset_info(paths):
        paths = read_entry(paths, data.get("name")).path
    sources += [("data.path", where) for where in (named_sources(paths).values() if paths else ())]
    for name, value in sources:
        for file in written if value is not None else ():
            read = Path(str(value)).expanduser()
            read = read / file.name if name == "taken" and read.is_dir() else read  # of which files are read
            if read.exists() and file.exists() and file.samefile(read):
                remedy = "give out another name" if beginning else "give out=P.json with a name of its own"
                raise InputError(f"{beginning}{file} would be written over {name}={value}; {remedy}")
            if name == "data.path" and is_among(file, value):
                remedy = "give another folder" if beginning else "give out=P.json in another folder"
                raise InputError(f"{beginning}{file} would lie among the data of {name}={value}; {remedy}")
