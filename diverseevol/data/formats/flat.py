"""Records of one exchange with a field for each part, as in the data sets of Alpaca and Dolly."""

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


def recognise(record: Any) -> Fields:
    """Tell from one record which names its fields go by: those of Alpaca, of Dolly, or a mixture of both.

    Raises:
        BadRecord: the record is not an object, or its names fit neither format or both.
    """
    names = as_object(record).keys()
    inputs = [name for name in INPUTS if name in names]
    responses = [name for name in ("output", "response") if name in names]
    if "instruction" not in names or len(responses) != 1 or len(inputs) > 1:
        raise BadRecord(
            None,
            f"its fields ({', '.join(names) or 'none'}) are neither Alpaca's (instruction, input, output) nor Dolly's "
            f"(instruction, context, response)",
            "name them with data.fields.instruction=…, data.fields.response=… and, where there is one, "
            "data.fields.input=…",
        )
    usual = ALPACA if responses == ["output"] else DOLLY
    return Fields("instruction", inputs[0] if inputs else usual.input, responses[0])
