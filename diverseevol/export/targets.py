"""The formats that rows are exported in."""

from collections.abc import Mapping

from diverseevol.data.conversation import Conversation
from diverseevol.data.formats.base import CannotHold
from diverseevol.data.formats.flat import ALPACA
from diverseevol.data.formats.messages import OPENAI, SHAREGPT
from diverseevol.data.formats.prompt_completion import PromptCompletion
from diverseevol.data.formats.recognise import Known

ROWS, PARQUET, IDS = "rows", "parquet", "ids"
TARGETS: Mapping[str, Known] = {
    "alpaca": ALPACA, "sharegpt": SHAREGPT, "messages": OPENAI, "prompt_completion": PromptCompletion(),
}  # fmt: skip
FORMATS = (ROWS, *TARGETS, PARQUET, IDS)


def able(conversation: Conversation) -> list[str]:
    """The targets that have a place for all that a conversation has."""
    return [name for name, target in TARGETS.items() if _holds(target, conversation)]


def _holds(target: Known, conversation: Conversation) -> bool:
    try:
        target.to_record(conversation)
    except CannotHold:
        return False
    return True
