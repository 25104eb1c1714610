"""Records are checked once, and written to disk in the form in which rows are read from then on."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from diverseevol.data.canonical_json import dump_extra, dump_record, dump_turns
from diverseevol.data.conversation import Conversation
from diverseevol.data.formats.base import LONGEST_TEXT, OR_SKIP, BadRecord, Format, as_object, text_of
from diverseevol.data.formats.flat import INPUTS, Fields
from diverseevol.data.formats.messages import Messages
from diverseevol.data.formats.order import check_turns
from diverseevol.data.formats.prompt_completion import PromptCompletion
from diverseevol.data.formats.recognise import Known, described, recognise, saved
from diverseevol.data.json_reader import Located
from diverseevol.data.locate import BATCH, Origin
from diverseevol.errors import InputError
from diverseevol.storage.files import atomic_write, write_json

USUAL = Fields("instruction", "input", "output")
# Fields that are part of what the model reads in some data sets.
READ_ELSEWHERE = (*INPUTS, "system", "history")
# What a row says: the texts of one exchange, or the turns of any other conversation (the texts are then empty).
TEXTS = ("instruction", "input", "response", "extra", "turns")
COLUMNS = pa.schema([(name, pa.string()) for name in (*TEXTS, "record")])
BATCH_CHARACTERS = 1 << 22  # fewer rows where they are as long as books
LONGEST_ROW = LONGEST_TEXT
REASONS, NAMES = 20, 100  # how many kinds of faults and names of fields are counted separately
Progress = Callable[[int, int], None]  # done and total: bytes of a JSON file, rows of a table


class Ingest:
    """Checks records one by one and writes them to disk: no more than a batch is ever in memory."""

    def __init__(self, origin: Origin, format: Format | None, skip: bool, progress: Progress) -> None:
        self.origin, self.format, self.skip, self.progress = origin, format, skip, progress
        self.recognised = format is None
        self.digest = hashlib.sha256()
        self.rows, self.first_bad = 0, ""
        self.bad: Counter[str] = Counter()
        self.present: set[str] = set()  # parts of the format that a record has
        self.names: dict[str, None] = {}  # of the fields, in the order in which they came
        self.unused: Counter[str] = Counter()

    def write(self, folder: Path) -> None:
        """Write rows.arrow, bad_rows.jsonl and, last of all, meta.json."""
        with (
            atomic_write(folder / "bad_rows.jsonl") as bad_rows,
            atomic_write(folder / "rows.arrow", "wb") as file,
            pa.ipc.new_stream(file, COLUMNS) as table,
        ):
            batch: list[tuple[str, ...]] = []
            size = 0
            for located in self.origin.records():
                if row := self.check(located, bad_rows):
                    batch.append(row)
                    size += sum(map(len, row))
                if len(batch) == BATCH or size > BATCH_CHARACTERS:
                    table.write_batch(_columns(batch))
                    self.progress(located.done, self.origin.total)
                    batch, size = [], 0
            if batch:
                table.write_batch(_columns(batch))
            self.progress(self.origin.total, self.origin.total)
        if not self.rows + self.bad.total():
            raise InputError(f"{self.origin.where}: there are no records in it; give a file with instruction rows")
        known = self.format if isinstance(self.format, Known) else None
        if known and self.rows and not self.recognised:
            for part in ("input", "system", "history"):
                if part == "input" and known == USUAL:  # what an entry of LLaMA-Factory's means that names no columns
                    continue
                if (name := getattr(known, part, None)) is not None and name not in self.present:
                    raise InputError(
                        f"{self.origin.where}: data.fields.{part} is {name!r}, which no record has (there are: "
                        f"{', '.join(self.names)}); correct the name, or leave it out"
                    )
        meta = {"rows": self.rows, "bad_rows": dict(self.bad), "first_bad": self.first_bad, "unused": dict(self.unused)}
        format = saved(known) if known else None
        write_json(folder / "meta.json", {**meta, "format": format, "fingerprint": self.digest.hexdigest()})

    def check(self, located: Located, bad_rows: IO[str]) -> tuple[str, ...] | None:
        """One row of the table, or None where the record is left out."""
        record, number = located.record, located.number
        try:
            conversation = self._parsed(as_object(record))
            texts = _texts(conversation)
            if (length := sum(map(len, texts))) > LONGEST_ROW:
                raise BadRecord(None, f"holds {length:,} characters, and a row may hold {LONGEST_ROW:,}")
            line = dump_record(record) if located.line is None else located.line
        except BadRecord as bad:
            where = f"{self.origin.where}, {self.origin.unit} {number}"
            if not self.skip:
                raise InputError(f"{where}: {bad}") from bad
            turn = {} if bad.turn is None else {"turn": bad.turn}
            listed = {self.origin.unit: number, "field": bad.field, **turn, "problem": bad.problem}
            bad_rows.write(json.dumps(listed, ensure_ascii=False) + "\n")
            self.bad[bad.kind if len(self.bad) < REASONS else "other faults"] += 1
            self.first_bad = self.first_bad or f"{self.origin.unit} {number}: {bad.finding}"
            return None
        self.rows += 1
        self._look_at(record, conversation)
        for name, text in zip(TEXTS, texts, strict=True):
            encoded = text.encode()
            if name != "turns":  # with their lengths: ("ab", "c") and ("a", "bc") are different rows
                self.digest.update(b"%d:%b" % (len(encoded), encoded))
            elif text:  # after a word, so that turns are not the first text of a next row
                self.digest.update(b"turns %d:%b" % (len(encoded), encoded))
        return (*texts, line)

    def _parsed(self, record: Mapping[str, Any]) -> Conversation:
        if self.format is None or isinstance(self.format, Known):
            return self._known(record)
        problem = "is not in the format of data.format"
        try:
            conversation = _checked(self.format.parse(record))
            problem = "cannot be written again by the to_record of data.format"
            if not isinstance(again := self.format.to_record(conversation), dict):
                raise TypeError(f"expected a dict, got {again!r:.80}")
            dump_extra(again)
        except BadRecord:
            raise
        except Exception as error:  # from code that is the user's own
            raise BadRecord(None, f"{problem} ({type(error).__name__}: {error})") from error
        return conversation

    def _known(self, record: Mapping[str, Any]) -> Conversation:
        """A record of a format that is named, or is that of the first record that can be read."""
        format = recognise(record) if self.format is None else self.format
        assert isinstance(format, Known)
        if isinstance(format, Fields) and self.recognised and format.input not in self.present:
            format = format.with_input_of(record)
        try:
            conversation = format.parse(record)
        except BadRecord as bad:
            if self.recognised and self.rows and (mixed := _mixed(record, format)):
                raise mixed from bad
            raise
        self.format = format
        return conversation

    def _look_at(self, record: Mapping[str, Any], conversation: Conversation) -> None:
        """Note which fields there are, and which of them the model reads in other data sets and not here."""
        if len(self.names) < NAMES and not record.keys() <= self.names.keys():
            self.names.update(dict.fromkeys(record))
        parts = getattr(self.format, "parts", ())  # none of a format of the user's own
        if len(self.present) < len(parts):
            self.present.update(name for name in parts if name in record)
        if conversation.extra and not isinstance(self.format, Messages | PromptCompletion):
            for name in READ_ELSEWHERE:
                if conversation.extra.get(name):
                    self.unused[name] += 1


def _mixed(record: Mapping[str, Any], format: Known) -> BadRecord | None:
    """What is wrong with a record where it is in another format than those before; None where it is not."""
    try:
        recognised = recognise(record)
    except BadRecord:
        return None
    if described(recognised) == described(format):
        return None
    return BadRecord(
        None,
        f"has {described(recognised)}, where the records before have {described(format)}",
        f"give a file for each format, {OR_SKIP}",
    )


def _texts(conversation: Conversation) -> tuple[str, ...]:
    """What a row says, as `TEXTS` names it."""
    extra = dump_extra(conversation.extra)
    if conversation.is_exchange:
        question, answer = conversation.turns
        return question.text, question.input, answer.text, extra, ""
    return "", "", "", extra, dump_turns(conversation.turns)


def _checked(conversation: Conversation) -> Conversation:
    """A conversation of the user's own format, its turns in order and of texts, its other fields by name."""
    if conversation.is_exchange:
        for name, blank in (("instruction", False), ("input", True), ("response", False)):
            text_of({name: getattr(conversation, name)}, name, blank=blank)
    else:
        check_turns(conversation.turns)
    if not (isinstance(conversation.extra, Mapping) and all(isinstance(name, str) for name in conversation.extra)):
        raise BadRecord(None, f"has the extra {conversation.extra!r:.80}, expected a mapping from names to values")
    return conversation


def _columns(rows: list[tuple[str, ...]]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], schema=COLUMNS)
