"""The data set D, which never changes: checked once, kept on disk, and read by row number."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from diverseevol.data.canonical_json import read_turns
from diverseevol.data.conversation import Conversation, exchange
from diverseevol.data.formats.base import Format
from diverseevol.data.formats.flat import Fields
from diverseevol.data.held_out import held_out_rows
from diverseevol.data.ingest import BATCH_CHARACTERS, TEXTS, Ingest, Progress
from diverseevol.data.locate import BATCH, Origin, find
from diverseevol.errors import InputError
from diverseevol.storage.cache import cached_folder
from diverseevol.storage.files import atomic_write, read_json
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
    sources: tuple[Source, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

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
    path: str | Path | None,
    *,
    hub: str | None = None,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    fields: Mapping[str, str | None] | None = None,
    format: Format | None = None,
    name: str | None = None,
    on_bad_rows: str = "stop",
    held_out: int | str = 0,
    held_out_seed: int = 0,
    cache: Path,
    bad_rows_file: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load instruction rows from a file, a folder or the hub.

    Args:
        path: a JSON, JSONL, CSV, TSV, parquet or Arrow file, those of text packed or not (gzip, bzip2, xz, zstandard);
            a folder that `datasets` can load or has saved to disk; or a hub id.
        hub: the hub id to load where `path` is None.
        split: of a folder or hub data set, a file having "train" alone; also a slice such as "train[:100]".
        subset: the configuration of a folder or hub data set, where it has several.
        revision: the commit, branch or tag of a hub data set.
        fields: what the records call `instruction`, `input` and `response`; recognised where it says nothing.
        format: of the records, where it is the user's own and not fields with names.
        name: what folders and figures call the data; the file's name where None.
        on_bad_rows: "stop" at the first record that fails the checks, or "skip" and list such records.
        held_out: rows that are never trained on: a number, a file or a field (see `diverseevol.data.held_out`).
        held_out_seed: what a number of them is drawn with.
        cache: the cache folder, where the checked rows are kept for the next start.
        bad_rows_file: gets the skipped records, a line {line, field, problem} each ("row" in tables).
        progress: called with what is done and the total while the rows are checked.

    Raises:
        InputError: there is no such data, it cannot be read, an option does not apply to it, or a record fails
            the checks.
    """
    if on_bad_rows not in {"stop", "skip"}:
        raise InputError(f'data.on_bad_rows is "{on_bad_rows}" but must be "stop" or "skip"; set one of them')
    where = hub if path is None else str(path)
    if not where:
        raise InputError(
            "data.path is not set; give a file (JSON, JSONL, CSV, TSV, parquet, Arrow), a folder, or a hub id"
        )
    origin = find(where, split, subset, revision, cache, on_hub=path is None)
    if held_out_seed < 0:
        raise InputError(f"data.held_out_seed is {held_out_seed}; it must not be negative")
    chosen = _format(fields, format)
    dataset = _load(origin, name or origin.name, chosen, on_bad_rows, cache, bad_rows_file, progress)
    return replace(dataset, held_out=held_out_rows(len(dataset), dataset.iterate(), held_out, held_out_seed))


def _load(
    origin: Origin,
    name: str,
    chosen: Format | None,
    on_bad_rows: str,
    cache: Path,
    bad_rows_file: Path | None,
    progress: Progress | None,
) -> Dataset:
    """Check the records once; the same content and choices give what is already on disk."""
    identity = json.dumps([VERSION, origin.unit, origin.content, chosen and _identity(chosen), on_bad_rows])
    folder = cache / "source" / hashlib.sha256(identity.encode()).hexdigest()[:32]
    ingest = Ingest(origin, chosen, on_bad_rows == "skip", progress or (lambda done, total: None))
    meta = read_json(cached_folder(folder, ingest.write) / "meta.json")
    if bad_rows_file is not None and on_bad_rows == "skip":
        with atomic_write(bad_rows_file, "wb") as copy, (folder / "bad_rows.jsonl").open("rb") as listed:
            shutil.copyfileobj(listed, copy)
    if not meta["rows"]:
        raise InputError(
            f"{origin.where}: none of its {sum(meta['bad_rows'].values())} records can be used, from the first on "
            f"({meta['first_bad']}); correct them, or name the fields with data.fields"
        )
    with pa.memory_map(str(folder / "rows.arrow")) as file, pa.ipc.open_stream(file) as stream:
        table = stream.read_all()
    format = chosen or Fields(**meta["fields"])
    sources = (Source(name, origin.where, 0, len(table)),)
    return Dataset(name, meta["fingerprint"], format, meta["bad_rows"], meta["unused"], table, sources=sources)


def _format(fields: Mapping[str, str | None] | None, format: Format | None) -> Format | None:
    """The format that the user gives; None to recognise it."""
    named = _named(fields)
    if named and format:
        raise InputError("data.fields and data.format both say how records are written; give one of them")
    return format or named


def _identity(format: Format) -> Any:
    """What decides how a format takes records apart: its names, or the source and options of the user's own class."""
    if isinstance(format, Fields):
        return asdict(format)
    kind = type(format)
    if not (digests := sources(kind)):
        raise InputError(
            f"data.format is a {kind.__qualname__}, whose source is in no file, so that rows read by another version "
            f"of it could not be distinguished; give a class that a .py file defines"
        )
    return [kind.__module__, kind.__qualname__, repr(format.__getstate__()), digests]  # of slots, too


def _named(fields: Mapping[str, str | None] | None) -> Fields | None:
    """The user's names of the fields; None to recognise them."""
    named = {part: name for part, name in (fields or {}).items() if name is not None}
    if not named:
        return None
    names = list(named.values())
    if not {"instruction", "response"} <= set(named) <= {"instruction", "input", "response"}:
        raise InputError(
            f"data.fields gives {', '.join(f'{part}={name}' for part, name in named.items())} and nothing else, "
            f"expected all parts once one is named; add data.fields.instruction=NAME and data.fields.response=NAME, "
            f"and data.fields.input=NAME where there is one"
        )
    if len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"data.fields gives the names {names}, but they must be texts that differ; correct them")
    return Fields(named["instruction"], named.get("input"), named["response"])
