"""The data set D, which never changes: checked once, kept on disk, and read by row number."""

import hashlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from diverseevol.data.canonical_json import read_turns
from diverseevol.data.conversation import Conversation, exchange
from diverseevol.data.dataset_info import is_dataset_info, read_entry
from diverseevol.data.duplicates import NO_COPIES, Copies, copies_among, find_duplicates
from diverseevol.data.formats.base import Format
from diverseevol.data.formats.recognise import Known, by_names, restored, saved
from diverseevol.data.held_out import held_out_rows
from diverseevol.data.ingest import BATCH_CHARACTERS, TEXTS, Ingest, Progress
from diverseevol.data.locate import BATCH, Origin, find
from diverseevol.data.mixture import (
    bad_rows,
    data_name,
    files_of,
    joint_fingerprint,
    named_sources,
    part_of,
    refuse_repeated,
)
from diverseevol.errors import InputError
from diverseevol.storage.cache import cached_folder
from diverseevol.storage.files import atomic_write, read_json, write_jsonl
from diverseevol.storage.sources import sources

T = TypeVar("T")
VERSION = 3  # of the checks and of what they leave on disk


@dataclass(frozen=True)
class Source:
    """Consecutive rows of D that come from one place.

    Attributes:
        name: what receipts and reports call it.
        where: a path or a hub id.
        start, stop: its rows, [start, stop).
    """

    name: str
    where: str
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """The rows of D, memory-mapped: row i is the i-th record that passed the checks, and i is its only name.

    Attributes:
        name: what folders and figures call it.
        fingerprint: SHA-256 over the rows in order: what they say, however it was written down.
        format: how records say a conversation.
        bad: how many records were left out, by what is wrong with them (none unless the user asked for that).
        unused: how many rows have a field that is part of what the model reads in other data sets, and unused here.
        held_out: [held out] rows that are never trained on, ascending.
        copies: rows that are never trained on either, because they repeat a held-out or, if asked for, an earlier row.
        table: [rows] columns instruction, input and response of one exchange, or turns of any other conversation (JSON
            text); extra (JSON text); and record, the line of JSON that the row came in as.
        sources: where the rows come from, in order; one unless the data are a mixture.
    """

    name: str
    fingerprint: str
    format: Format
    bad: Mapping[str, int]
    unused: Mapping[str, int]
    table: pa.Table = field(repr=False)
    held_out: Int[np.ndarray, " held_out"] = field(repr=False, default_factory=lambda: np.empty(0, dtype=np.int64))
    copies: Copies = field(repr=False, default=NO_COPIES)
    sources: tuple[Source, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def conversations(self) -> int:
        """How many rows are not one exchange."""
        return int(pc.sum(pc.not_equal(self.table["turns"], "")).as_py() or 0)

    @property
    def bad_rows(self) -> int:
        """How many records were left out."""
        return sum(self.bad.values())

    def __getitem__(self, row: int) -> Conversation:
        return self.take([row])[0]

    def take(self, rows: Sequence[int] | Int[np.ndarray, " n"]) -> list[Conversation]:
        """The rows of these numbers, in this order.

        Raises:
            IndexError: there is no such row; numbers below 0 do not count from the end.
        """
        numbers = [int(row) for row in rows]
        if numbers and not 0 <= min(numbers) <= max(numbers) < len(self):
            raise IndexError(f"expected rows from 0 to {len(self) - 1}, got {min(numbers)} to {max(numbers)}")
        texts = self.table.select(TEXTS)
        return _conversations(pa.concat_tables(texts.slice(number, 1) for number in numbers)) if numbers else []

    def iterate(self, batch: int = BATCH) -> Iterator[list[Conversation]]:
        """All rows in order, a batch at a time: fewer rows where they are as long as books."""
        for start in range(0, len(self), batch):
            stop = min(start + batch, len(self))
            for rows in in_batches(range(start, stop), BATCH_CHARACTERS, self._sizes(start, stop)):
                yield _conversations(self.table.select(TEXTS).slice(rows[0], len(rows)))

    def _sizes(self, start: int, stop: int) -> list[int]:
        """Bytes of the rows' texts."""
        columns = self.table.select(TEXTS).slice(start, stop - start).columns
        return list(np.sum([pc.binary_length(column).to_numpy() for column in columns], axis=0).tolist())

    def record(self, row: int) -> dict[str, Any]:
        """One row as it came in, whatever of it is read."""
        record: dict[str, Any] = json.loads(self.line(row))
        return record

    def line(self, row: int) -> str:
        """One row as it came in, without the end of the line.

        The line of a file of JSON lines byte for byte; otherwise a line of JSON with equal values in the same order.
        """
        return str(self.table["record"][row].as_py())

    def source_of(self, row: int) -> Source:
        """The source that a row comes from."""
        return next(source for source in self.sources if source.start <= row < source.stop)


def in_batches(items: Sequence[T], limit: int, sizes: Sequence[int] | None = None) -> Iterator[Sequence[T]]:
    """Consecutive items in batches of at most `limit` in size; a larger item is a batch of its own.

    Args:
        items: what is to be cut into batches.
        limit: the largest size of a batch of several items.
        sizes: of each item; its length where None.
    """
    start, size = 0, 0
    for i, length in enumerate(map(len, items) if sizes is None else sizes):  # type: ignore[arg-type]  # texts have one
        if i > start and size + length > limit:
            yield items[start:i]
            start, size = i, 0
        size += length
    if start < len(items):
        yield items[start:]


def _conversations(table: pa.Table) -> list[Conversation]:
    rows = zip(*(table[name].to_pylist() for name in TEXTS), strict=True)
    return [
        Conversation(read_turns(turns), json.loads(extra))
        if turns
        else exchange(instruction, input, response, json.loads(extra))
        for instruction, input, response, extra, turns in rows
    ]


def load(
    path: str | Path | Sequence[str] | Mapping[str, str] | None,
    *,
    hub: str | None = None,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    fields: Mapping[str, str | None] | None = None,
    roles: Mapping[str, str | None] | None = None,
    format: Format | None = None,
    name: str | None = None,
    on_bad_rows: str = "stop",
    held_out: int | str = 0,
    held_out_seed: int = 0,
    deduplicate: str | None = None,
    cache: Path,
    bad_rows_file: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load instruction rows from a file, a folder or the hub, or from several, one after another.

    Args:
        path: a JSON, JSONL, CSV, TSV, parquet or Arrow file, those of text packed or not (gzip, bzip2, xz, zstandard);
            a folder that `datasets` can load or has saved to disk; a glob of files; or a hub id. Several are a list
            of these, or a mapping of names to them: sources whose rows follow each other. The options apply to each.
            LLaMA-Factory's `dataset_info.json` is read for the entry of `name`.
        hub: the hub id to load where `path` is None.
        split: of a folder or hub data set, a file having "train" alone; also a slice such as "train[:100]", which
            is taken of each source, and of each file of a glob.
        subset: the configuration of a folder or hub data set, where it has several.
        revision: the commit, branch or tag of a hub data set.
        fields: what the records call `instruction`, `input`, `response`, `system` and `history`; or, of conversations,
            `messages`, each message's `role` and `content`, and `system`. Recognised where it says nothing.
        roles: what messages call the roles `system`, `user`, `assistant` and `tool`, and `call`, one of turns that are
            nothing but JSON of calls of tools.
        format: of the records, where it is the user's own and not fields with names.
        name: what folders and figures call the data; the name of the file, or of the first sources, where None.
        on_bad_rows: "stop" at the first record that fails the checks, or "skip" and list such records.
        held_out: rows that are never trained on: a number, a file or a field (see `diverseevol.data.held_out`).
        held_out_seed: what a number of them is drawn with.
        deduplicate: "first" never trains on rows that repeat an earlier one, exactly or nearly; None does. Rows that
            repeat a held-out one are never trained on.
        cache: the cache folder, where the checked rows are kept for the next start.
        bad_rows_file: gets the skipped records, a line {line, field, problem} each ("row" in tables), with the source
            and the file before these where several files are read.
        progress: called with what is done and the total while the rows are checked.

    Raises:
        InputError: there is no such data, it cannot be read, an option does not apply to it, or a record fails
            the checks.
    """
    if on_bad_rows not in {"stop", "skip"}:
        raise InputError(f'data.on_bad_rows is "{on_bad_rows}" but must be "stop" or "skip"; set one of them')
    paths: Any = hub if path is None else path
    if not paths:
        raise InputError(
            "data.path is not set; give a file (JSON, JSONL, CSV, TSV, parquet, Arrow), a folder, a glob, a hub id, or "
            "a list of these"
        )
    if held_out_seed < 0:
        raise InputError(f"data.held_out_seed is {held_out_seed}; it must not be negative")
    if deduplicate not in {None, "first"}:
        raise InputError(
            f'data.deduplicate is "{deduplicate}" but must be first, which leaves later copies of a row out, or null, '
            f"which keeps them; set one of them"
        )
    looks_for_copies = held_out != 0 or deduplicate is not None
    chosen = _format(fields, roles, format)
    if path is not None and is_dataset_info(path):
        if chosen is not None:
            raise InputError(f"data.path={path} says how records are written; leave data.fields and data.format out")
        entry = read_entry(str(path), name)
        path, paths, chosen = entry.path, {str(name): entry.path or str(entry.hub)}, entry.format
        split, subset = (entry.split if split == "train" else split), subset or entry.subset
    files = [
        (source, where, file)
        for source, where in named_sources(paths).items()
        for file in ([where] if path is None else files_of(where, split))
    ]
    refuse_repeated(file for _, _, file in files)
    parts = []
    for number, (source, where, file) in enumerate(files):
        origin = find(file, split, subset, revision, cache, on_hub=path is None)
        ingest = Ingest(origin, chosen, on_bad_rows == "skip", part_of(progress, number, len(files) + looks_for_copies))
        parts.append(_load(ingest, source, where, cache))
    if bad_rows_file is not None and on_bad_rows == "skip":
        _list_bad_rows(bad_rows_file, parts)
    for part in parts:
        if not part.meta["rows"]:
            raise InputError(
                f"{part.origin.where}: none of its {sum(part.meta['bad_rows'].values())} records can be used, from the "
                f"first on ({part.meta['first_bad']}); correct them, or name the fields with data.fields"
            )
    dataset = _joined(name or data_name(paths), parts, chosen or restored(parts[0].meta["format"]))
    dataset = replace(dataset, held_out=held_out_rows(len(dataset), dataset.iterate(), held_out, held_out_seed))
    if not looks_for_copies:
        return dataset
    advance, compared = part_of(progress, len(files), len(files) + 1), 0

    def count(rows: int) -> None:
        nonlocal compared
        compared += rows
        advance(compared, len(dataset))

    duplicates = find_duplicates(dataset, cache, count)
    return replace(dataset, copies=copies_among(duplicates, dataset.held_out, deduplicate is not None))


@dataclass(frozen=True)
class _Part:
    """The rows of one file, folder or hub data set, as they are in the cache.

    Attributes:
        source: the name of the source that it is of; several parts of one follow each other.
        where: the path of that source.
        folder: its entry of the cache.
        meta: what was found as it was checked.
        table: its rows.
    """

    source: str
    where: str
    origin: Origin
    folder: Path
    meta: Mapping[str, Any]
    table: pa.Table


def _load(ingest: Ingest, source: str, where: str, cache: Path) -> _Part:
    """Check the records once; the same content and choices give what is already on disk."""
    origin, chosen = ingest.origin, ingest.format
    on_bad_rows = "skip" if ingest.skip else "stop"
    identity = json.dumps([VERSION, origin.unit, origin.content, chosen and _identity(chosen), on_bad_rows])
    folder = cache / "source" / hashlib.sha256(identity.encode()).hexdigest()[:32]
    meta = read_json(cached_folder(folder, ingest.write) / "meta.json")
    with pa.memory_map(str(folder / "rows.arrow")) as file, pa.ipc.open_stream(file) as stream:
        table = stream.read_all()
    return _Part(source, where, origin, folder, meta, table)


def _joined(name: str, parts: Sequence[_Part], format: Format) -> Dataset:
    """One data set of all parts, whose tables stay where they are."""
    bad, unused = Counter[str](), Counter[str]()
    for part in parts:
        bad.update(part.meta["bad_rows"])
        unused.update(part.meta["unused"])
    sources: list[Source] = []
    fingerprints: list[list[str]] = []
    rows = 0
    for (source, where), members in itertools.groupby(parts, key=lambda part: (part.source, part.where)):
        of_source = list(members)
        stop = rows + sum(len(part.table) for part in of_source)
        sources.append(Source(source, where, rows, stop))
        fingerprints.append([part.meta["fingerprint"] for part in of_source])
        rows = stop
    table = pa.concat_tables([part.table for part in parts])
    fingerprint = joint_fingerprint(fingerprints)
    return Dataset(name, fingerprint, format, dict(bad), dict(unused), table, sources=tuple(sources))


def _list_bad_rows(file: Path, parts: Sequence[_Part]) -> None:
    """List the records that were left out: of one part as it lists them itself, of several with their source."""
    lists = [part.folder / "bad_rows.jsonl" for part in parts]
    if len(parts) > 1:
        named = zip(parts, lists, strict=True)
        write_jsonl(file, bad_rows((part.source, part.origin.where, listed) for part, listed in named))
        return
    with atomic_write(file, "wb") as copy, lists[0].open("rb") as listed:
        shutil.copyfileobj(listed, copy)


def _format(
    fields: Mapping[str, str | None] | None, roles: Mapping[str, str | None] | None, format: Format | None
) -> Format | None:
    """The format that the user gives; None to recognise it."""
    named = by_names(fields, roles)
    if named and format:
        raise InputError("data.fields and data.format both say how records are written; give one of them")
    return format or named


def _identity(format: Format) -> Any:
    """What decides how a format takes records apart: its names, or the source and options of the user's own class."""
    if isinstance(format, Known):
        return saved(format)
    kind = type(format)
    if not (digests := sources(kind)):
        raise InputError(
            f"data.format is a {kind.__qualname__}, whose source is in no file, so that rows read by another version "
            f"of it could not be distinguished; give a class that a .py file defines"
        )
    return [kind.__module__, kind.__qualname__, repr(format.__getstate__()), digests]  # of slots, too
