"""Rows as a parquet table, whatever types their fields have: what no column can hold is JSON text in it.

A field has one type in all rows. Whole numbers beside others become floating point. A list of objects, such as
messages, gets all the fields that any of them has, null where one lacks it. Where values are of several types, or one
object has other fields than the next, values are written as JSON text, at the innermost level at which they differ: the
arguments of tool calls, for instance.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from diverseevol.data.formats.base import printable
from diverseevol.export.chosen import Row
from diverseevol.storage.files import atomic_write

BATCH, BATCH_CHARACTERS = 1 << 12, 1 << 24  # rows that are converted at a time
NUMBERS = ("int", "long", "float")
EXACT = 1 << 53  # floating point holds all whole numbers up to here
PLAIN = {
    "null": pa.null(), "bool": pa.bool_(), "int": pa.int64(), "long": pa.int64(), "float": pa.float64(),
    "text": pa.string(), "json": pa.string(),
}  # fmt: skip


class Kind(NamedTuple):
    """What values of a field are.

    Attributes:
        name: one of `PLAIN`, "list" or "object".
        items: of a list, what its items are.
        fields: of an object, what its fields are.
    """

    name: str
    items: "Kind | None" = None
    fields: "Mapping[str, Kind]" = MappingProxyType({})


NULL, JSON = Kind("null"), Kind("json")


def write_parquet(path: Path, rows: Iterable[Row], columns: Mapping[str, Kind]) -> None:
    """Write rows as a table of these columns, a batch at a time."""
    schema = pa.schema([(printable(name), _type(kind)) for name, kind in columns.items()])
    with atomic_write(path, "wb") as file, pq.ParquetWriter(file, schema) as table:
        for batch in _batches(rows):
            table.write_table(
                pa.table(
                    [
                        pa.array([_value(row.record.get(name), kind) for row in batch], _type(kind))
                        for name, kind in columns.items()
                    ],
                    schema=schema,
                )
            )


def columns_of(rows: Iterable[Row]) -> dict[str, Kind]:
    """The fields of rows, in the order in which they come, and what they are in all of them."""
    columns: dict[str, Kind] = {}
    for row in rows:
        for name, value in row.record.items():
            columns[name] = merged(columns.get(name, NULL), kind_of(value))
    return columns


def kind_of(value: Any) -> Kind:
    """What a value of JSON is."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return Kind("bool")
    if isinstance(value, int):
        return Kind("int" if abs(value) <= EXACT else "long") if abs(value) < 1 << 63 else JSON
    if isinstance(value, float | str):
        return Kind("text" if isinstance(value, str) else "float")
    if isinstance(value, list):
        return Kind("list", reduce(lambda kind, item: merged(kind, kind_of(item), in_list=True), value, NULL))
    return Kind("object", fields={name: kind_of(inner) for name, inner in value.items()}) if value else JSON


def merged(kind: Kind, added: Kind, *, in_list: bool = False) -> Kind:
    """What values of two kinds are together.

    Args:
        kind: of some values.
        added: of others.
        in_list: whether they are items of a list, where objects get each other's fields.
    """
    if kind == added or NULL in (kind, added):
        return kind if added == NULL else added
    names = {kind.name, added.name}
    if names <= {*NUMBERS}:
        return Kind("long") if "float" not in names else JSON if "long" in names else Kind("float")
    if names == {"list"}:
        assert kind.items is not None
        assert added.items is not None
        return Kind("list", merged(kind.items, added.items, in_list=True))
    if names == {"object"} and (in_list or kind.fields.keys() == added.fields.keys()):
        fields = {**kind.fields, **added.fields}
        return Kind(
            "object",
            fields={name: merged(kind.fields.get(name, NULL), added.fields.get(name, NULL)) for name in fields},
        )
    return JSON


def _type(kind: Kind) -> pa.DataType:
    if kind.items is not None:
        return pa.list_(_type(kind.items))
    if kind.fields:
        return pa.struct([(printable(name), _type(inner)) for name, inner in kind.fields.items()])
    return PLAIN[kind.name]


def _value(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind == JSON:
        return printable(json.dumps(value, ensure_ascii=False))
    if kind.items is not None:
        return [_value(item, kind.items) for item in value]
    if kind.fields:
        return {printable(name): _value(value.get(name), inner) for name, inner in kind.fields.items()}
    return printable(value) if kind.name == "text" else value


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.line)
        if len(batch) == BATCH or size > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
