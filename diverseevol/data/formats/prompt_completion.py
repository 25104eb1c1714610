"""Records of a prompt and a completion that are lists of messages, as TRL has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diverseevol.data.conversation import Conversation
from diverseevol.data.formats.base import BadRecord, CannotHold, with_extra
from diverseevol.data.formats.messages import Messages
from diverseevol.data.formats.order import check_turns


@dataclass(frozen=True)
class PromptCompletion:
    """The format of records with two lists of messages.

    Attributes:
        prompt, completion: the fields with the lists.
        written: how a message says its role and its content.
    """

    prompt: str = "prompt"
    completion: str = "completion"
    written: Messages = field(default_factory=Messages)

    @property
    def parts(self) -> list[str]:
        """The fields that say the conversation."""
        return [self.prompt, self.completion]

    def parse(self, record: Mapping[str, Any]) -> Conversation:
        """Check one record and take its messages apart.

        Raises:
            BadRecord: they make no conversation, or the completion does not begin and end with an assistant's turn.
        """
        turns, places = self.written.turns_of(record, self.prompt)
        answers, more_places = self.written.turns_of(record, self.completion)
        check_turns([*turns, *answers], [*places, *more_places])
        for number in (1, len(answers)):
            if (role := answers[number - 1].role) != "assistant":
                problem = f"has the role {role}, expected assistant, with which a completion begins and ends"
                raise BadRecord(self.completion, problem, turn=number)
        extra = {name: record[name] for name in record if name not in (self.prompt, self.completion)}
        return Conversation((*turns, *answers), extra)

    def to_record(self, conversation: Conversation) -> dict[str, Any]:
        """All before the last answer, and the last answer.

        Raises:
            CannotHold: the conversation does not end with an answer.
        """
        messages = [self.written.message_of(turn) for turn in conversation.turns]
        if conversation.turns[-1].role != "assistant":
            raise CannotHold("a conversation that does not end with an answer")
        return with_extra({self.prompt: messages[:-1], self.completion: messages[-1:]}, conversation.extra, self.parts)
