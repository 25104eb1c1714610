"""What other people's loaders have to be told of a file of conversations: LLaMA-Factory, TRL and axolotl."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml  # type: ignore[import-untyped]

from diverseevol.data.formats.base import Format
from diverseevol.data.formats.flat import ALPACA, Fields

PROMPT, COMPLETION, MESSAGES = "prompt", "completion", "messages"
AGAIN = "does not read this format: export again with"


@dataclass(frozen=True)
class Layout:
    """Where the records of a file say what.

    Attributes:
        messages: the field of the turns; None where there is a field for each part of one exchange.
        role, content: the fields of a turn.
        names: role → what the turns call it.
        fields: of an exchange: instruction, input and response → what the records call it.
    """

    messages: str | None = MESSAGES
    role: str = "role"
    content: str = "content"
    names: Mapping[str, str] = field(
        default_factory=lambda: {role: role for role in ("system", "user", "assistant", "tool")}
    )
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_chat(self) -> bool:
        """Whether these are the messages of OpenAI, which chat templates take."""
        return self == CHAT


CHAT = Layout()
PROMPT_COMPLETION = Layout(None, fields={PROMPT: PROMPT, COMPLETION: COMPLETION})  # each a list of messages


def layout_of(format: Format | None) -> Layout | None:
    """The layout of records in a format that rows are read in; None where no loader can be told of it."""
    if not isinstance(format, Fields):
        return None
    parts = {"instruction": format.instruction, "input": format.input, "response": format.response}
    return Layout(None, fields={part: name for part, name in parts.items() if name is not None})


@dataclass(frozen=True)
class Loaders:
    """What loaders are told of one file.

    Attributes:
        layout: where its records say what; None where no loader of conversations can be told.
        file: its name.
        columns: what its records have beside the conversation's own fields and is part of it: system, history.
        with_tools: whether a turn is a tool's, or calls one.
    """

    layout: Layout | None
    file: str
    columns: frozenset[str] = frozenset()
    with_tools: bool = False

    def llama_factory(self) -> dict[str, Any] | None:
        """The entry of `dataset_info.json`; None where LLaMA-Factory does not read the file."""
        if self.layout is None or self.layout == PROMPT_COMPLETION:
            return None
        if self.layout.messages is None:
            names = {"instruction": "prompt", "input": "query", "response": "response"}
            columns = {names[part]: name for part, name in self.layout.fields.items()}
            columns |= {name: name for name in sorted(self.columns)}
            return {"file_name": self.file, "columns": columns}
        called = self.layout.names
        tags = {
            "role_tag": self.layout.role, "content_tag": self.layout.content, "user_tag": called["user"],
            "assistant_tag": called["assistant"], "observation_tag": called["tool"], "function_tag": "function_call",
            "system_tag": called["system"],
        }  # fmt: skip
        formatting = "openai" if self.layout.is_chat and self.with_tools else "sharegpt"
        columns = {"messages": self.layout.messages}
        return {"file_name": self.file, "formatting": formatting, "columns": columns, "tags": tags}

    def trl(self, where: str) -> str:
        """Python for TRL, or why there is none.

        Args:
            where: the folder, or the name on the hub.
        """
        if self.layout not in (CHAT, PROMPT_COMPLETION):
            return f"TRL {AGAIN} `format=messages` or `format=prompt_completion`."
        assert self.layout is not None
        only = "" if self.layout == PROMPT_COMPLETION else ", assistant_only_loss=True"
        columns = [MESSAGES] if self.layout.is_chat else [PROMPT, COMPLETION]
        lines = [
            "from datasets import load_dataset",
            "from trl import SFTConfig, SFTTrainer",
            "",
            f'rows = load_dataset({json.dumps(where)}, split="train").select_columns({json.dumps(columns)})',
            f'args = SFTConfig(output_dir="tuned"{only})',
            'SFTTrainer("MODEL", args=args, train_dataset=rows).train()',
        ]
        remark = (
            "It learns the last answer of each row."
            if self.layout == PROMPT_COMPLETION
            else "It learns every answer, for which the model's chat template has to mark them (`{% generation %}`); "
            "where it does not, export again with `format=prompt_completion`."
        )
        return "\n".join(["```python", *lines, "```", "", remark])

    def axolotl(self, where: str, on_hub: bool) -> str:
        """YAML for axolotl, or why there is none; arguments as `trl` has them."""
        kind = self._axolotl_type()
        if kind is None:
            return f"axolotl {AGAIN} `format=messages`."
        source: dict[str, Any] = {"path": where, "split": "train"}
        if not on_hub:
            source = {
                "path": f"{where}/{self.file}",
                "ds_type": "parquet" if self.file.endswith(".parquet") else "json",
            }
        text = yaml.safe_dump({"datasets": [{**source, **kind}]}, sort_keys=False, allow_unicode=True)
        return f"```yaml\n{text}```"

    def _axolotl_type(self) -> dict[str, Any] | None:
        layout = self.layout
        if layout is None or layout == PROMPT_COMPLETION:
            return None
        if layout.messages is None:
            if self.columns:  # which it does not read
                return None
            if layout == layout_of(ALPACA):
                return {"type": "alpaca"}
            names = {"instruction": "field_instruction", "input": "field_input", "response": "field_output"}
            return {"type": {names[part]: name for part, name in layout.fields.items()}}
        return {
            "type": "chat_template",
            "field_messages": layout.messages,
            "message_property_mappings": {"role": layout.role, "content": layout.content},
            "roles": {role: [name] for role, name in layout.names.items()},
            "roles_to_train": ["assistant"],
        }
