"""Records with a field for each part: those of Alpaca and Dolly, prompt and completion, question and answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from diverseevol.data.conversation import Conversation, Turn
from diverseevol.data.formats.base import (
    BadRecord,
    CannotHold,
    checked_text,
    field_of,
    is_blank,
    kind_of,
    text_of,
    with_extra,
)

INPUTS = ("input", "context")


@dataclass(frozen=True)
class Fields:
    """The format of records that name the parts so; None where they have no such part.

    Attributes:
        instruction, input, response: the last question, what it is about, and its answer.
        system: the system turn.
        history: what was said before, a list of pairs [question, answer].
    """

    instruction: str
    input: str | None
    response: str
    system: str | None = None
    history: str | None = None

    @cached_property
    def parts(self) -> list[str]:
        """The fields that say the conversation."""
        names = (self.instruction, self.input, self.response, self.system, self.history)
        return [name for name in names if name is not None]

    def parse(self, record: Mapping[str, Any]) -> Conversation:
        """Check one record and take it apart. Instruction and response must say something; the rest need not.

        Raises:
            BadRecord: a field is missing, not text, blank, or holds what is not a character.
        """
        instruction = text_of(record, self.instruction)
        response = text_of(record, self.response)
        has_input = self.input is not None and record.get(self.input) is not None
        passage = text_of(record, str(self.input), blank=True) if has_input else ""
        turns, parts = [Turn("user", instruction, passage), Turn("assistant", response)], self._exchange
        # Where a history or a system turn says nothing, it is a field like any other.
        for name, read in ((self.history, _earlier), (self.system, _system)):
            if name is not None and not is_blank(record.get(name)):
                turns[:0] = read(record, name)
                parts = parts | {name}
        return Conversation(tuple(turns), {name: record[name] for name in record if name not in parts})

    def to_record(self, conversation: Conversation) -> dict[str, Any]:
        """Put a record together again under its original names.

        Raises:
            CannotHold: the conversation has turns of tools, does not end with an answer, or has what is not named.
        """
        turns = list(conversation.turns)
        system = turns.pop(0) if turns[0].role == "system" else None
        for turn in conversation.turns:
            if turn.role == "tool" or turn.calls_tools:
                raise CannotHold("a turn of a tool" if turn.role == "tool" else "a call of tools")
            if turn.more:
                raise CannotHold(f"a turn of {turn.role} with the field {next(iter(turn.more))}")
        if [turn.role for turn in turns] != ["user", "assistant"] * max(1, len(turns) // 2):
            raise CannotHold("a conversation that does not end with an answer")
        *earlier, question, answer = turns
        record: dict[str, Any] = {self.instruction: question.message if self.input is None else question.text}
        if self.input is not None:
            record[self.input] = question.input
        record[self.response] = answer.text
        if system is not None:
            if self.system is None or not system.text.strip():
                raise CannotHold("a system turn" if system.text.strip() else "a system turn that says nothing")
            record[self.system] = system.text
        if earlier:
            if self.history is None:
                raise CannotHold("more than one question")
            pairs = zip(earlier[::2], earlier[1::2], strict=True)
            record[self.history] = [[asked.message, answered.text] for asked, answered in pairs]
        return with_extra(record, conversation.extra, self.parts)

    def with_input_of(self, record: Any) -> "Fields":
        """The same, the input named as in this record: a first record may lack an input that others have."""
        names = [name for name in INPUTS if isinstance(record, Mapping) and name in record]
        return replace(self, input=names[0]) if len(names) == 1 else self

    @cached_property
    def _exchange(self) -> frozenset[str | None]:
        """The fields of the last question and its answer."""
        return frozenset((self.instruction, self.input, self.response))


def _system(record: Mapping[str, Any], name: str) -> Iterator[Turn]:
    yield Turn("system", text_of(record, name))


def _earlier(record: Mapping[str, Any], name: str) -> Iterator[Turn]:
    """The questions and answers before the last ones."""
    if not isinstance(pairs := field_of(record, name), list):
        raise BadRecord(name, f"is {kind_of(pairs)}, expected a list of pairs of a question and its answer")
    for number, pair in enumerate(pairs):
        if not isinstance(pair, list) or len(pair) != 2:
            kind = f"a list of {len(pair)}" if isinstance(pair, list) else kind_of(pair)
            raise BadRecord(name, f"is {kind}, expected a question and its answer", turn=2 * number + 1)
        yield Turn("user", checked_text(pair[0], name, 2 * number + 1))
        yield Turn("assistant", checked_text(pair[1], name, 2 * number + 2))


ALPACA = Fields("instruction", "input", "output", "system", "history")
DOLLY = Fields("instruction", "context", "response", "system", "history")
