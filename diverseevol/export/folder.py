"""The folder of an export: which folders one may be written to, and what is written there."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from diverseevol.data.formats.base import BadRecord, CannotHold
from diverseevol.errors import InputError
from diverseevol.export.card import MARK, card
from diverseevol.export.chosen import GIVE_DATA, Chosen, Row
from diverseevol.export.loaders import Loaders
from diverseevol.export.tally import Tally
from diverseevol.export.targets import IDS, PARQUET, ROWS, TARGETS, able
from diverseevol.storage.files import atomic_write, refuse_links, sync_folder, temporary, write_json, writing
from diverseevol.storage.names import safe_name
from diverseevol.storage.reading import opened

CARD, INFO = "README.md", "dataset_info.json"
TRAIN, TABLE, NUMBERS = "train.jsonl", "train.parquet", "ids.jsonl"
FILES = (TRAIN, TABLE, NUMBERS, INFO, CARD)  # all that an export may leave in its folder
HEAD = 1 << 14  # bytes of a card, of which the mark is one of the first


def refuse_foreign(out: str, replace: bool) -> Path:
    """A folder with other things in it is left alone, and an earlier export, unless it is to be replaced.

    Args:
        out: the folder, as the user gave it.
        replace: whether an earlier export may be replaced.

    Raises:
        InputError: it is a file, or holds something that stays.
    """
    path = Path(out)
    if not out or (path.exists() and not path.is_dir()) or path.is_symlink():
        kind = "empty" if not out else "a link" if path.is_symlink() else "a file"
        raise InputError(f"out={out}: is {kind}, expected a folder; give a new one, or an earlier export's")
    if not path.is_dir() or not (names := sorted(file.name for file in path.iterdir())):
        return path
    if not _holds_export(path):
        raise InputError(f"out={out}: holds {names[0]!r} but no export; give a new folder, or an earlier export's")
    if not replace:
        raise InputError(
            f"out={out}: holds an earlier export; give out another name to keep it, or replace=true to have this one "
            f"in its place"
        )
    refuse_links(path)
    return path


def _holds_export(folder: Path) -> bool:
    try:
        with opened(folder / CARD) as file:
            return MARK.encode() in file.read(HEAD)
    except InputError:
        return False


def export(chosen: Chosen, form: str, out: Path, again: str, hub: str | None) -> Tally:
    """Write a subset in a format, with its card and what loaders are told, so that all of it is there or nothing.

    Args:
        chosen: the subset.
        form: one of `FORMATS`.
        out: the folder, as `refuse_foreign` lets it pass.
        again: the command that does this.
        hub: the name under which it will lie on the hub; None where it stays here.

    Raises:
        InputError: the rows are not known, cannot be read, or the format cannot hold one of them.
    """
    if chosen.rows is None and form != IDS:
        raise InputError(f"{chosen.where}: the rows are not beside it, only their numbers; {GIVE_DATA}")
    if chosen.own_format and form in TARGETS:
        raise InputError(
            f"{chosen.where}: its rows are in a format of your own or of a dataset_info.json, which a folder does not "
            f"decide; give data=… as the choice had it, or format=rows, which copies them"
        )
    partial, tally = temporary(out), Tally()
    with writing(out, partial):
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        file = {IDS: NUMBERS, PARQUET: TABLE}.get(form, TRAIN)
        _write(chosen, form, partial / file, tally)
        loaders = Loaders(tally.format(), file, frozenset(tally.fields), tally.with_tools > 0)
        name = safe_name(hub.partition("/")[2] if hub else out.absolute().name)
        if (entry := loaders.llama_factory()) is not None:
            write_json(partial / INFO, {name: entry})
        text = card(chosen, tally, form, loaders, name, hub or str(out), hub is not None, again)
        with atomic_write(partial / CARD) as readme:
            readme.write(text)
        _put(partial, out)
    return tally


def _put(partial: Path, out: Path) -> None:
    """Give a complete export its name; of an earlier one there, nothing stays, and all files of others do."""
    if not out.exists():
        partial.rename(out)
        sync_folder(out.parent)
        return
    for name in FILES:
        if (partial / name).exists():
            (partial / name).replace(out / name)
        else:
            (out / name).unlink(missing_ok=True)
    partial.rmdir()
    sync_folder(out)


def _write(chosen: Chosen, form: str, file: Path, tally: Tally) -> None:
    """Write the rows, counting them."""
    if form == IDS:
        with atomic_write(file) as out:
            for receipt in chosen.receipts():
                tally.count(receipt)
                out.write(json.dumps({"row": receipt["row"]}) + "\n")
        return
    assert chosen.rows is not None
    if form == PARQUET:
        from diverseevol.export.parquet import columns_of, write_parquet  # for which pyarrow loads

        write_parquet(file, chosen.rows(), columns_of(_counted(chosen, tally)))
    elif form == ROWS:
        with atomic_write(file) as out:
            out.writelines(f"{row.line}\n" for row in _counted(chosen, tally))
    else:
        with atomic_write(file) as out:
            for row in chosen.rows():
                out.write(json.dumps(_converted(chosen, row, form, tally), ensure_ascii=False) + "\n")


def _counted(chosen: Chosen, tally: Tally) -> Iterator[Row]:
    """Rows that stay as they are; of one whose conversation cannot be read, its receipt alone is counted."""
    assert chosen.rows is not None
    for row in chosen.rows():
        tally.count(row.receipt)
        if not chosen.own_format:
            with suppress(BadRecord):
                conversation, format = chosen.read(row)
                tally.read(conversation, row.record, format)
        yield row


def _converted(chosen: Chosen, row: Row, form: str, tally: Tally) -> dict[str, Any]:
    """A row as the target has it.

    Raises:
        InputError: its record cannot be read, or the target cannot hold what it says.
    """
    tally.count(row.receipt)
    where = f"row {row.receipt['row']} ({row.where})"
    try:
        conversation, _ = chosen.read(row)
        record = TARGETS[form].to_record(conversation)
    except BadRecord as bad:
        raise InputError(f"{where}: {bad.finding}; give data=… as the choice had it, or format=rows") from bad
    except CannotHold as lack:
        raise InputError(
            f"{where}: has {lack}, for which format={form} has no place; choose from "
            f"{', '.join([*able(conversation), ROWS])}"
        ) from lack
    tally.read(conversation, record, TARGETS[form])
    return record
