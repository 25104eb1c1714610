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


def turns_of(conversation: Conversation) -> list[str]:
    """All that is said in a conversation, turn by turn, normalised; without the system's turn, which many rows share.

    What tools are called with is said, too.
    """
    return [_text_of(turn) for turn in conversation.turns if turn.role != "system"]


def _text_of(turn: Turn) -> str:
    more = json.dumps(turn.more, sort_keys=True, ensure_ascii=False, default=str) if turn.more else ""
    return normalised(f"{turn.message} {more}")
