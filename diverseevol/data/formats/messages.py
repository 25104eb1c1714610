"""Records with a list of messages, each with a role: those of OpenAI's chats and of ShareGPT."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from diverseevol.data.conversation import Conversation, Role, Turn
from diverseevol.data.formats.base import (
    OR_SKIP,
    BadRecord,
    CannotHold,
    field_of,
    is_blank,
    kind_of,
    text_of,
    with_extra,
)
from diverseevol.data.formats.order import ROLES, Place, check_turns
from diverseevol.data.formats.tool_calls import calls_of, check_calls, text_of_calls

CALL = "call"
# What roles are called in one data set or another.
USUAL: dict[str, Role | Literal["call"]] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "tool": "tool", "observation": "tool", "function": "tool", "function_response": "tool",
    "function_call": "call",
}  # fmt: skip


@dataclass(frozen=True)
class Roles:
    """What messages call the roles; the other usual names are understood, too.

    Attributes:
        call: the role of an assistant's turn that says nothing but JSON of calls of tools; None where calls are in the
            field `tool_calls`.
    """

    system: str = "system"
    user: str = "user"
    assistant: str = "assistant"
    tool: str = "tool"
    call: str | None = None

    @cached_property
    def meaning(self) -> Mapping[str, str]:
        """The role of each name."""
        own = {getattr(self, role): role for role in (*ROLES, CALL)}
        return {**USUAL, **{name: role for name, role in own.items() if name is not None}}


@dataclass(frozen=True)
class Messages:
    """The format of records with a list of messages.

    Attributes:
        messages: the field with the list.
        role, content: the fields of a message.
        system: a field beside the list with a system turn; None where there is none.
        roles: what the messages call their roles.
    """

    messages: str = "messages"
    role: str = "role"
    content: str = "content"
    system: str | None = None
    roles: Roles = field(default_factory=Roles)

    @cached_property
    def parts(self) -> list[str]:
        """The fields that say the conversation."""
        return [self.messages, *([] if self.system is None else [self.system])]

    def parse(self, record: Mapping[str, Any]) -> Conversation:
        """Check one record and take its messages apart.

        Raises:
            BadRecord: they make no conversation.
        """
        turns, places = self.turns_of(record, self.messages)
        parts = {self.messages}
        if self.system is not None and not is_blank(record.get(self.system)):
            turns.insert(0, Turn("system", text_of(record, self.system)))
            places.insert(0, (self.system, None))
            parts.add(self.system)
        check_turns(turns, places)
        return Conversation(tuple(turns), {name: record[name] for name in record if name not in parts})

    def to_record(self, conversation: Conversation) -> dict[str, Any]:
        """The messages, a system turn among them, and the record's other fields.

        Raises:
            CannotHold: the format has no place for what the conversation has.
        """
        listed = [self.message_of(turn) for turn in conversation.turns]
        return with_extra({self.messages: listed}, conversation.extra, self.parts)

    def turns_of(self, record: Mapping[str, Any], name: str) -> tuple[list[Turn], list[Place]]:
        """The turns in a list of messages, and where each is; their order is not yet checked.

        Raises:
            BadRecord: there is no such list, or a message is none.
        """
        if not isinstance(listed := field_of(record, name), list):
            raise BadRecord(name, f"is {kind_of(listed)}, expected a list of messages")
        if not listed:
            raise BadRecord(name, "is an empty list, expected messages")
        numbers = range(1, len(listed) + 1)
        turns = [self._turn(message, name, number) for number, message in zip(numbers, listed, strict=True)]
        return turns, [(name, number) for number in numbers]

    def message_of(self, turn: Turn) -> dict[str, Any]:
        """A turn as a message.

        Raises:
            CannotHold: the message would have a field twice, or a turn of calls says more than these.
        """
        if taken := [name for name in (self.role, self.content) if name in turn.more]:
            raise CannotHold(f"a message with a further field named {taken[0]}")
        if self.roles.call is not None and turn.more.get("tool_calls"):
            return {self.role: self.roles.call, self.content: text_of_calls(turn)}
        return {self.role: getattr(self.roles, turn.role), self.content: turn.message, **turn.more}

    def _turn(self, message: Any, name: str, number: int) -> Turn:
        if not isinstance(message, Mapping):
            problem = f"is {kind_of(message)}, expected an object with {self.role} and {self.content}"
            if isinstance(message, BadRecord):
                problem = f"cannot be read ({message.finding})"
            raise BadRecord(name, problem, turn=number)
        if not isinstance(called := message.get(self.role), str):
            problem = f"has no {self.role} (there are: {', '.join(message) or 'none'})"
            raise BadRecord(name, problem if called is None else f"has a {self.role} that is not text", turn=number)
        if (role := self.roles.meaning.get(called)) is None:
            raise BadRecord(
                name,
                f'has the role "{called:.40}", expected {", ".join(getattr(self.roles, role) for role in ROLES)}',
                f"correct the row, or say with data.roles what the messages call their roles, {OR_SKIP}",
                turn=number,
            )
        more = {key: value for key, value in message.items() if key not in (self.role, self.content)}
        more = {key: value for key, value in more.items() if value is not None and (key, value) != ("tool_calls", [])}
        text = _text(message.get(self.content), name, number)
        if not isinstance(text, str | None) or (text is None and role == CALL):
            raise BadRecord(name, f"is {kind_of(text)}, expected text", turn=number)
        if role == CALL and text is not None:
            return Turn("assistant", "", more={**more, "tool_calls": calls_of(text, name, number)})
        if "tool_calls" in more:
            check_calls(more["tool_calls"], name, number)
        turn = Turn(role, text or "", more=more)  # type: ignore[arg-type]  # a role that is not "call"
        if text is None and not turn.calls_tools:
            problem = f"has no {self.content} (there are: {', '.join(message)})"
            raise BadRecord(name, "is null, expected text" if self.content in message else problem, turn=number)
        return turn


def _text(content: Any, name: str, number: int) -> Any:
    """What a message says; its parts joined where it has parts, which must be texts."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else part
        if not isinstance(text, str):
            kind = f"a part of type {part.get('type')}" if isinstance(part, Mapping) else kind_of(part)
            raise BadRecord(name, f"holds {kind}, expected text", turn=number)
        texts.append(text)
    return "".join(texts)


OPENAI = Messages("messages", "role", "content", "system")
SHAREGPT = Messages(
    "conversations",
    "from",
    "value",
    "system",
    Roles(user="human", assistant="gpt", tool="observation", call="function_call"),
)
