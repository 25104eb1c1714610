"""Records of one exchange with a field for each part, as in the data sets of Alpaca and Dolly, by any names."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from diverseevol.data.conversation import Conversation, exchange
from diverseevol.data.formats.base import BadRecord, as_object, text_of

INPUTS = ("input", "context")


@dataclass(frozen=True)
class Fields:
    """The format of records that name the parts so; `input` None where they have no such part."""

    instruction: str
    input: str | None
    response: str

    def parse(self, record: Mapping[str, Any]) -> Conversation:
        """Check one record and take it apart. Instruction and response must say something; the input need not.

        Raises:
            BadRecord: a field is missing, not text, blank, or holds what is not a character.
        """
        instruction = text_of(record, self.instruction)
        response = text_of(record, self.response)
        has_input = self.input is not None and record.get(self.input) is not None
        passage = text_of(record, str(self.input), blank=True) if has_input else ""
        parts = {self.instruction, self.input, self.response}
        return exchange(instruction, passage, response, {name: record[name] for name in record if name not in parts})

    def to_record(self, conversation: Conversation) -> dict[str, Any]:
        """Put a record together again under its original names."""
        record: dict[str, Any] = {self.instruction: conversation.instruction}
        if self.input is not None:
            record[self.input] = conversation.input
        return {**record, self.response: conversation.response, **conversation.extra}

    def with_input_of(self, record: Any) -> "Fields":
        """The same, the input named as in this record: a first record may lack an input that others have."""
        names = [name for name in INPUTS if isinstance(record, Mapping) and name in record]
        return replace(self, input=names[0]) if len(names) == 1 else self


ALPACA = Fields("instruction", "input", "output")
DOLLY = Fields("instruction", "context", "response")
# What records call question and answer, each line before those below it: a record with fields of two is of the upper.
NAMES = {
    "instruction": ("output", "response"),
    "prompt": ("completion", "response"),
    "question": ("answer",),
}
CONVERSATIONS = ("messages", "conversations")
BY_NAME = (
    "name them with data.fields.instruction=…, data.fields.response=… and, where there is one, data.fields.input=…"
)


def recognise(record: Any) -> Fields:
    """Tell from one record which names its fields go by: those of Alpaca, of Dolly, a mixture of both, and others.

    Raises:
        BadRecord: the record is not an object, or its names fit no format or several.
    """
    names = as_object(record).keys()
    inputs = [name for name in INPUTS if name in names]
    for instruction, answers in NAMES.items():
        responses = [name for name in answers if name in names]
        if instruction not in names or not responses:
            continue
        if len(responses) > 1 or len(inputs) > 1:
            several = " and ".join(responses if len(responses) > 1 else inputs)
            raise BadRecord(None, f"its fields ({', '.join(names)}) hold {several}, expected one of them", BY_NAME)
        usual = DOLLY.input if (instruction, responses) == ("instruction", ["response"]) else ALPACA.input
        return Fields(instruction, inputs[0] if inputs else usual, responses[0])
    shown = ", ".join(names) or "none"
    if conversations := [name for name in CONVERSATIONS if name in names]:
        raise BadRecord(
            None,
            f"its fields ({shown}) hold a conversation ({conversations[0]}), which cannot be read yet",
            "give rows with a field for the question and one for the answer",
        )
    if "text" in names and len(names) == 1:
        raise BadRecord(
            None,
            "its only field is text, which does not say where the question ends and the answer begins",
            "give rows with a field for each",
        )
    raise BadRecord(
        None,
        f"its fields ({shown}) are not those of Alpaca (instruction, input, output), of Dolly (instruction, context, "
        f"response), prompt and completion, or question and answer",
        BY_NAME,
    )
