"""The Alpaca template, and how it goes on after the first exchange.

A conversation begins with the prompt of its first question. Each later question follows the end token of the answer
before it as `### Instruction:`, in the words of the first without its opening sentence. A system turn takes the place
of that sentence. There is no word for tools.
"""

from diverseevol.data.conversation import Conversation, Turn
from diverseevol.errors import InputError

# The Alpaca template is an exchange format: other wordings would be another experiment.
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)


def alpaca(question: Turn) -> str:
    """A user's turn in the Alpaca template."""
    template = ALPACA_WITH_INPUT if question.input else ALPACA
    return template.format(instruction=question.text, input=question.input)


def alpaca_turns(conversation: Conversation) -> list[tuple[str, str | None]]:
    """A conversation in the Alpaca template: what comes before each answer, and the answer; None where there is none.

    Raises:
        InputError: a turn is a tool's, or calls one.
    """
    exchanges: list[tuple[str, str | None]] = []
    asked, system = "", ""
    for number, turn in enumerate(conversation.turns, start=1):
        if turn.role == "tool" or turn.calls_tools:
            kind = "the turn of a tool" if turn.role == "tool" else "a call of tools"
            raise InputError(
                f"turn {number}: {kind} has no place in the Alpaca template; remove the row, or use a model whose chat "
                f"template has tools"
            )
        if turn.role == "system":
            system = turn.text
        elif turn.role == "user":
            sentence, question = alpaca(turn).split("\n\n", 1)
            opens = not exchanges and not asked
            asked += f"{system or sentence}\n\n{question}" if opens else f"\n\n{question}"
        else:
            exchanges.append((asked, turn.text))
            asked = ""
    return [*exchanges, (asked, None)] if asked else exchanges
