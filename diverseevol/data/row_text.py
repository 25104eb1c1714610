"""What is compared where rows are held against each other: their questions and answers, normalised."""

import json
import unicodedata

from diverseevol.data.conversation import Conversation, Turn


def normalised(text: str) -> str:
    """A text in lower case, with compatible characters made equal (NFKC) and one space wherever there is white space.

    Punctuation stays: "3 + 4" and "3 - 4" are different questions.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def questions_of(conversation: Conversation) -> list[str]:
    """What users ask in a conversation, turn by turn, normalised; a system's turn is no question."""
    return [normalised(turn.message) for turn in conversation.turns if turn.role == "user"]


def turns_of(conversation: Conversation, *, inputs: bool = True) -> list[str]:
    """All that is said in a conversation, turn by turn, normalised; without the system's turn, which many rows share.

    What tools are called with is said, too.

    Args:
        conversation: a row.
        inputs: whether the passages that questions are about belong to it, where a row has them apart.
    """
    return [_text_of(turn, inputs) for turn in conversation.turns if turn.role != "system"]


def _text_of(turn: Turn, inputs: bool) -> str:
    more = json.dumps(turn.more, sort_keys=True, ensure_ascii=False, default=str) if turn.more else ""
    return normalised(f"{turn.message if inputs else turn.text} {more}")
