"""Where a data set is: a file, a folder or the hub; each yields records, to be checked."""

import glob
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diverseevol.data.delimited_reader import read_delimited
from diverseevol.data.file_names import DELIMITERS, READ, TABLES, form
from diverseevol.data.folder import check_folder, saved_files
from diverseevol.data.hub_names import may_be_data_on_hub
from diverseevol.data.json_reader import Located, read_records
from diverseevol.errors import InputError
from diverseevol.storage.cache import in_full, warn_of_damage
from diverseevol.storage.files import remove
from diverseevol.storage.packed import refuse_packed
from diverseevol.storage.reading import opened, refuse_special
from diverseevol.storage.sealed import SEAL, damage, seal, sealed_digest

if TYPE_CHECKING:  # imported where it is used, for that takes a second
    import datasets

log = logging.getLogger(__name__)

BATCH = 1000  # rows in memory at a time
BATCH_BYTES = 1 << 25  # fewer rows where they are as long as books


@dataclass(frozen=True)
class Origin:
    """Where records come from.

    Attributes:
        where: a path or a hub id.
        unit: what records are counted in.
        content: a digest of all bytes, with what is taken of them.
        total: bytes of a file of text, rows of a table.
        records: each record, its number, and how much of the total is done.
    """

    where: str
    unit: Literal["line", "row"]
    content: str
    total: int
    records: Callable[[], Iterator[Located]]


def find(where: str, split: str, subset: str | None, revision: str | None, cache: Path, *, on_hub: bool) -> Origin:
    """The records of a file, a folder or a hub data set; for the options see `diverseevol.data.load`.

    Raises:
        InputError: there is nothing to be read there, or an option means nothing for it.
    """
    path = Path(where).expanduser()
    # os.path raises nothing for folders without read permission; reading them gives the better message.
    folder = os.path.isdir(path)  # noqa: PTH112
    kind = "a folder" if folder else "on the hub" if on_hub or may_be_data_on_hub(where) else "a file"
    saved = saved_files(path) if folder else {}
    takes = {"a file": (), "a folder": () if saved else ("subset",), "on the hub": ("subset", "revision")}[kind]
    for option, value in {"subset": subset, "revision": revision}.items():
        if value is not None and option not in takes:
            raise InputError(f"data.{option} is {value}, which means nothing for {where}: it is {kind}; leave it out")
    options: dict[str, Any] = {"split": split, "cache_dir": str(cache / "datasets"), "keep_in_memory": False}
    if kind == "on the hub":
        return _table(where, where, on_hub=True, name=subset, revision=revision, **options)
    if folder:
        check_folder(path)
        if not saved:
            return _table(where, str(path.resolve()), name=subset, **options)
        if len(saved) > 1:
            log.warning("%s: holds the splits %s; data.split=%s is read", where, ", ".join(saved), split)
        return _table(where, "arrow", data_files=saved, **options)
    refuse_special(path)
    if (reader := TABLES.get(form(path))) is None:
        return _text(path, split, read_delimited if form(path) in DELIMITERS else read_records)
    if not os.path.lexists(path):
        raise InputError(f"{where}: no such file; check data.path")
    refuse_packed(path)
    return _table(where, reader, data_files=glob.escape(str(path)), **options)


def _text(path: Path, split: str, read: Callable[[Path], Iterator[Located]]) -> Origin:
    """A file that is read record by record, from its beginning."""
    content = _digest([path])
    before = path.stat()
    spans = _spans(path, split, read)

    def records() -> Iterator[Located]:
        for start, stop in spans:
            yield from islice(read(path), start, stop)
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise InputError(f"{path}: changed while it was being read; run the command again once it is complete")

    if split != "train":
        content = f"{split} {content}"
    if form(path) in DELIMITERS:
        content = f"{form(path)} {content}"  # the same bytes are other rows as JSON
    return Origin(str(path), "line", content, before.st_size, records)


def _spans(path: Path, split: str, read: Callable[[Path], Iterator[Located]]) -> list[tuple[int, int | None]]:
    """The stretches [start, stop) of records that a split takes of a file; only a slice has to count the records."""
    if split == "train":
        return [(0, None)]
    import datasets

    count = sum(1 for _ in read(path))
    try:
        parts = datasets.ReadInstruction.from_spec(split).to_absolute({"train": count})
    except ValueError as error:
        raise InputError(
            f"{path}: data.split is {split} ({str(error).rstrip('.')}), but a file's only split is train; leave it "
            f"out, or give a slice such as 'data.split=\"train[:1000]\"'"
        ) from error
    if count and all(part.from_ >= part.to for part in parts):
        raise InputError(f"{path}: data.split is {split}, which is none of its {count} records; give another slice")
    return [(part.from_, max(part.from_, part.to)) for part in parts]


def _table(where: str, source: str, *, on_hub: bool = False, **options: Any) -> Origin:
    """A parquet or Arrow file, a folder or a data set on the hub, through `datasets`."""
    import datasets

    from diverseevol.data.hub import out_of_reach, say_that_a_cache_is_used

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # the errors that it raises say enough
    unreachable = out_of_reach() if on_hub else None
    try:
        table = _loaded(source, **options)
    except ConnectionError as error:
        reason = unreachable or f"the hub does not give it ({' '.join(str(error).split())})"
        raise InputError(
            f"{where}: no such file or folder here, not downloaded before, and {reason}; connect to the network, or "
            f"give a file with data.path=…"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # of whichever reader the files there ask for
        expected = "" if on_hub else f"expected {READ} with the same fields throughout; "
        raise InputError(
            f"{where}: cannot be loaded ({_reason(error)}); {expected}check data.path, split and subset"
        ) from error
    if unreachable is not None:
        say_that_a_cache_is_used(where)

    return _of_table(where, table, options["split"])


def _of_table(where: str, table: "datasets.Dataset", split: str) -> Origin:
    """The rows of a table that lies on disk as Arrow files."""

    def records() -> Iterator[Located]:
        row = 0
        for batch in table.with_format("arrow").iter(BATCH):
            step = max(1, BATCH * BATCH_BYTES // max(BATCH_BYTES, batch.nbytes))
            for start in range(0, len(batch), step):
                for record in batch.slice(start, step).to_pylist():
                    row += 1
                    values = {key: None if value != value else value for key, value in record.items()}
                    yield Located(values, row - 1, row)

    files = [Path(file["filename"]) for file in table.cache_files]
    digests = [_digest([file]) if (kept := sealed_digest(file)) is None else kept for file in files]
    content = " ".join([split, str(len(table)), *digests])
    return Origin(where, "row", content, len(table), records)


def _reason(error: BaseException) -> str:
    """The library's own words, where it has any."""
    cause = error.__cause__ or error
    if isinstance(cause, StopIteration):
        return "there are no records in it"
    if isinstance(cause, FileNotFoundError) and "FilesIterable" in str(cause):
        return "there are no files of a format that is read"
    return " ".join(str(cause).split()) or type(cause).__name__


def _loaded(source: str, **options: Any) -> "datasets.Dataset":
    """A table by way of the files that `datasets` keeps in the cache, which are checked as any entry of it is."""
    import datasets

    began, kept = time.time(), Path(options["cache_dir"]).resolve()
    before = _tables(kept)
    try:
        table = datasets.load_dataset(source, **options)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        # Damaged files end in errors of many kinds; if none is damaged, the user made a mistake.
        if isinstance(error, ConnectionError) or not _discard_damaged(before):
            raise
        before = []  # their damage has been reported
        table = datasets.load_dataset(source, **options)
    folders = {Path(file["filename"]).parent.resolve() for file in table.cache_files}
    folders = {folder for folder in folders if folder.is_relative_to(kept)}
    fresh = {folder for folder in folders if _made_since(began, folder)}
    for folder in fresh.intersection(before):  # by the library itself, which saw that a file was missing
        warn_of_damage(folder, "a file of it was missing")
    if _discard_damaged(folders - fresh):
        table = datasets.load_dataset(source, **options)
    for folder in folders:
        if not (folder / SEAL).exists():
            seal(folder)
    return table


def _tables(kept: Path) -> list[Path]:
    """The folders in which `datasets` keeps tables."""
    return [Path(place) for place, _, files in os.walk(kept) if {"dataset_info.json", SEAL} & {*files}]


def _made_since(began: float, folder: Path) -> bool:
    """Whether the library has written an unsealed folder just now."""
    return not (folder / SEAL).exists() and all(file.stat().st_mtime >= began for file in folder.glob("*.arrow"))


def _discard_damaged(folders: Iterable[Path]) -> bool:
    """Remove damaged folders, with a warning, so that the library makes them again; whether there were any."""
    flaws = [(folder, flaw) for folder in sorted(folders) if (flaw := damage(folder, full=in_full()))]
    for folder, flaw in flaws:
        warn_of_damage(folder, flaw)
        remove(folder)
    return bool(flaws)


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with opened(path) as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
