"""A row of D: a conversation, turn by turn, with what else its record says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Turn:
    """What one side says.

    Attributes:
        role: whose turn it is.
        text: what is said.
        input: what a user's text is about, such as a passage to summarise, where the format keeps it apart; may be "".
    """

    role: Literal["system", "user", "assistant"]
    text: str
    input: str = ""

    @property
    def message(self) -> str:
        """All that is said, as a chat has it: the text, and its input below."""
        return f"{self.text}\n\n{self.input}" if self.input else self.text


@dataclass(frozen=True)
class Conversation:
    """The turns of a row; for now a row is one exchange, a user's turn and the assistant's.

    Attributes:
        turns: in order.
        extra: the record's other fields, which are kept but not trained on.
    """

    turns: tuple[Turn, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def instruction(self) -> str:
        """What is asked."""
        return self.turns[0].text

    @property
    def input(self) -> str:
        """What the instruction is about; may be empty."""
        return self.turns[0].input

    @property
    def response(self) -> str:
        """The answer to learn."""
        return self.turns[-1].text


def exchange(instruction: str, input: str, response: str, extra: Mapping[str, Any] | None = None) -> Conversation:
    """A conversation of one question and its answer."""
    return Conversation((Turn("user", instruction, input), Turn("assistant", response)), extra or {})
