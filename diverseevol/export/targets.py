"""The formats of other people's trainers: what each makes of a conversation, and what it cannot hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diverseevol.data.conversation import Conversation, Turn
from diverseevol.data.formats.flat import ALPACA
from diverseevol.export.loaders import CHAT, PROMPT_COMPLETION, Layout, layout_of

ROWS, PARQUET, IDS = "rows", "parquet", "ids"
NAMES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}  # of ShareGPT


class CannotHold(ValueError):  # noqa: N818  # a finding, which the caller says where it is
    """A format has no place for what a conversation has; the message says for what, such as "a turn of a tool"."""


@dataclass(frozen=True)
class Target:
    """A format that conversations are written in.

    Attributes:
        name: what the command line calls it.
        fields: of its records, which no other field of a row may have the name of.
        record: what a conversation is in it; raises `CannotHold`.
        layout: where its records say what, for loaders.
    """

    name: str
    fields: tuple[str, ...]
    record: Callable[[Conversation], dict[str, Any]]
    layout: Layout | None

    def convert(self, conversation: Conversation) -> dict[str, Any]:
        """A record of this format, with the row's other fields.

        Raises:
            CannotHold: the format has no place for what the conversation has.
        """
        if taken := [name for name in self.fields if name in conversation.extra]:
            raise CannotHold(f"a further field named {taken[0]}")
        return {**self.record(conversation), **conversation.extra}

    def holds(self, conversation: Conversation) -> bool:
        """Whether the format has a place for all that a conversation has."""
        try:
            self.convert(conversation)
        except CannotHold:
            return False
        return True


def _alpaca(conversation: Conversation) -> dict[str, Any]:
    """One exchange as the data set of Alpaca has it, what went before as `system` and `history`."""
    turns = list(conversation.turns)
    system = turns.pop(0).text if turns[0].role == "system" else None
    for turn in turns:
        if turn.role in ("system", "tool") or turn.more:
            raise CannotHold(_described(turn))
    if [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2) or not turns:
        raise CannotHold("turns that are not a user's and an assistant's in turn")
    *before, question, answer = turns
    record = ALPACA.to_record(Conversation((question, answer)))
    if system is not None:
        record["system"] = system
    if before:
        record["history"] = [[a.message, b.text] for a, b in zip(before[::2], before[1::2], strict=True)]
    return record


def _described(turn: Turn) -> str:
    if turn.more:
        return f"a turn of {turn.role} with the field {next(iter(turn.more))}"
    return "a turn of a tool" if turn.role == "tool" else f"a later turn of {turn.role}"


def _sharegpt(conversation: Conversation) -> dict[str, Any]:
    for turn in conversation.turns:
        if turn.more:
            raise CannotHold(_described(turn))
    return {"conversations": [{"from": NAMES[turn.role], "value": turn.message} for turn in conversation.turns]}


def _messages(conversation: Conversation) -> dict[str, Any]:
    return {"messages": _chat(conversation.turns)}


def _prompt_completion(conversation: Conversation) -> dict[str, Any]:
    """All before the last answer, and the last answer, which alone is learned."""
    *before, answer = conversation.turns
    if answer.role != "assistant" or not before:
        raise CannotHold("a conversation that does not end with an answer")
    return {"prompt": _chat(before), "completion": _chat([answer])}


def _chat(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    return [{"role": turn.role, "content": turn.message, **turn.more} for turn in turns]


TARGETS = {
    target.name: target
    for target in (
        Target("alpaca", ("instruction", "input", "output", "system", "history"), _alpaca, layout_of(ALPACA)),
        Target("sharegpt", ("conversations",), _sharegpt, Layout("conversations", "from", "value", NAMES)),
        Target("messages", ("messages",), _messages, CHAT),
        Target("prompt_completion", ("prompt", "completion"), _prompt_completion, PROMPT_COMPLETION),
    )
}
FORMATS = (ROWS, *TARGETS, PARQUET, IDS)
