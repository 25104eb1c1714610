"""A row of D: a conversation, turn by turn, with what else its record says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class Turn:
    """What one side says.

    Attributes:
        role: whose turn it is.
        text: what is said; "" in an assistant's turn that only calls tools.
        input: what a user's text is about, such as a passage to summarise, where the format keeps it apart; may be "".
        more: the message's other fields, such as tool calls; a chat template gets them as they are.
    """

    role: Role
    text: str
    input: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """All that is said, as a chat has it: the text, and its input below."""
        return f"{self.text}\n\n{self.input}" if self.input else self.text

    @property
    def calls_tools(self) -> bool:
        """Whether it is an assistant's turn that calls tools; such a turn may have no text."""
        return self.role == "assistant" and bool(self.more.get("tool_calls") or self.more.get("function_call"))


@dataclass(frozen=True)
class Conversation:
    """The turns of a row.

    Attributes:
        turns: in order: a system turn or none, then turns of the others, at least one of them an assistant's.
        extra: the record's other fields, which are kept but not trained on.
    """

    turns: tuple[Turn, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_exchange(self) -> bool:
        """Whether it is one question and its answer, and nothing else."""
        return [turn.role for turn in self.turns] == ["user", "assistant"] and not any(t.more for t in self.turns)

    @property
    def first_question(self) -> Turn:
        """The first turn of a user; the first of all where no user says anything."""
        return next((turn for turn in self.turns if turn.role == "user"), self.turns[0])

    @property
    def instruction(self) -> str:
        """What is asked, first of all."""
        return self.first_question.text

    @property
    def input(self) -> str:
        """What the instruction is about; may be empty."""
        return self.first_question.input

    @property
    def response(self) -> str:
        """The last answer that says something: one that calls tools may be empty."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "assistant" and turn.text), "")


def exchange(instruction: str, input: str, response: str, extra: Mapping[str, Any] | None = None) -> Conversation:
    """A conversation of one question and its answer."""
    return Conversation((Turn("user", instruction, input), Turn("assistant", response)), extra or {})
