"""What a format is, and what is wrong with a record that is not in it."""

import json
from collections.abc import Collection, Mapping
from typing import Any, Protocol, runtime_checkable

from diverseevol.data.conversation import Conversation

OR_SKIP = "or leave such rows out with data.on_bad_rows=skip"
LONGEST_TEXT = 1 << 22  # characters: a shelf of books, of which no model reads more than the beginning


@runtime_checkable
class Format(Protocol):
    """How records say a conversation. A class of one's own with these two methods is one (`data.format._target_=…`)."""

    def parse(self, record: Mapping[str, Any]) -> Conversation:
        """Take a record apart; the fields that are not part of the conversation become its `extra`.

        Raises:
            ValueError: the record is not in this format; the message says what is wrong with it.
        """

    def to_record(self, conversation: Conversation) -> dict[str, Any]:
        """Put a record together again, as it was.

        Raises:
            CannotHold: the format has no place for what the conversation has.
        """


class CannotHold(ValueError):  # noqa: N818  # a finding, which the caller says where it is
    """A format has no place for what a conversation has; the message says for what, such as "a turn of a tool"."""


class BadRecord(ValueError):  # noqa: N818  # it is a finding, and also handed on as a value
    """One record is at fault; the caller knows its file and line and decides whether to stop or to leave it out.

    Attributes:
        field: the name of the field at fault; None where it is the record itself.
        turn: which of the turns in the field is at fault, from 1; None where it is not one of them.
        problem: what is wrong, such as "is blank".
        finding: all together. The message adds what to do.
        kind: the same for all turns, to be counted.
    """

    def __init__(
        self,
        field: str | None,
        problem: str,
        remedy: str = f"correct the row, {OR_SKIP}",
        *,
        turn: int | None = None,
    ) -> None:
        self.field = None if field is None else printable(field)
        self.turn = turn
        self.problem = printable(problem)
        in_field = "" if field is None else f'field "{self.field}"'
        self.finding, self.kind = (
            " ".join(filter(None, [", ".join(filter(None, [in_field, "" if turn is None else name])), self.problem]))
            for name in (f"turn {turn}", "a turn")
        )
        super().__init__(f"{self.finding}; {remedy}")


def printable(text: str) -> str:
    """A text as messages and files can quote it, also where it holds an unpaired surrogate."""
    return text.encode("utf-8", "backslashreplace").decode()


def as_object(value: Any) -> Mapping[str, Any]:
    """A record, which must be a JSON object.

    Raises:
        BadRecord: it is none, or could not be read as one.
    """
    if isinstance(value, BadRecord):
        raise value
    if not isinstance(value, Mapping):
        raise BadRecord(None, f"expected a record, that is a JSON object, got {kind_of(value)}")
    return value


def field_of(record: Mapping[str, Any], name: str) -> Any:
    """What is in a field of a record.

    Raises:
        BadRecord: the field is missing.
    """
    if name not in record:
        raise BadRecord(
            name,
            f"is missing (there are: {', '.join(record) or 'none'})",
            f"correct the row, or data.fields where the records call it otherwise, {OR_SKIP}",
        )
    return record[name]


def text_of(record: Mapping[str, Any], name: str, *, blank: bool = False) -> str:
    """The text in a field of a record.

    Args:
        record: the record.
        name: the field.
        blank: whether the text need not say anything.

    Raises:
        BadRecord: the field is missing, not text, blank, or holds what is not a character.
    """
    return checked_text(field_of(record, name), name, blank=blank)


def checked_text(value: Any, field: str | None, turn: int | None = None, *, blank: bool = False) -> str:
    """A value that must be text.

    Raises:
        BadRecord: it is not text, blank though it must not be, holds what is not a character, or is longer than any
            model reads.
    """
    if not isinstance(value, str):
        raise BadRecord(field, f"is {kind_of(value)}, expected text", turn=turn)
    if not blank and not value.strip():
        raise BadRecord(field, "is blank", turn=turn)
    if "\0" in value:
        raise BadRecord(field, f"holds a NUL character (character {value.index(chr(0)) + 1})", turn=turn)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        problem = f"holds an unpaired surrogate, \\u{ord(value[error.start]):04x} (character {error.start + 1})"
        raise BadRecord(field, problem, turn=turn) from error
    if len(value) > LONGEST_TEXT:
        raise BadRecord(field, f"holds {len(value):,} characters, and a row may hold {LONGEST_TEXT:,}", turn=turn)
    return value


def is_blank(value: Any) -> bool:
    """Whether the field of a part that a conversation need not have says that it has none."""
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def with_extra(record: dict[str, Any], extra: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A record with the row's other fields.

    Args:
        record: the fields of the conversation.
        extra: the others.
        names: those that would be read as part of the conversation.

    Raises:
        CannotHold: another field has one of these names.
    """
    for name in names:
        if name in extra and (name in record or not is_blank(extra[name])):
            raise CannotHold(f"a further field named {name}")
    return {**record, **extra}


def kind_of(value: Any) -> str:
    """A JSON value as its author would call it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return f"a number ({value!s:.40})"
    if isinstance(value, str):
        return "a bare text"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, Mapping | BadRecord) else f"a {type(value).__name__}"
