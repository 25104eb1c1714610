"""What other people's loaders have to be told of a file of conversations: LLaMA-Factory, TRL and axolotl."""

import json
from dataclasses import dataclass, replace
from typing import Any

import yaml  # type: ignore[import-untyped]

from diverseevol.data.formats.flat import ALPACA, Fields
from diverseevol.data.formats.messages import OPENAI, Messages
from diverseevol.data.formats.prompt_completion import PromptCompletion
from diverseevol.data.formats.recognise import Known

AGAIN = "does not read this format: export again with"
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Loaders:
    """What loaders are told of one file.

    Attributes:
        format: of its records; None where no loader can be told.
        file: its name.
        fields: those of the format that a record has.
        with_tools: whether a turn is a tool's, or calls one.
    """

    format: Known | None
    file: str
    fields: frozenset[str]
    with_tools: bool

    def llama_factory(self) -> dict[str, Any] | None:
        """The entry of `dataset_info.json`; None where LLaMA-Factory does not read the file."""
        form = self.format
        if isinstance(form, Fields):
            named = {
                "prompt": form.instruction, "query": form.input, "response": form.response,
                "system": form.system, "history": form.history,
            }  # fmt: skip
            return {"file_name": self.file, "columns": self._present(named)}
        if not isinstance(form, Messages):
            return None
        tags = {
            "role_tag": form.role, "content_tag": form.content, "user_tag": form.roles.user,
            "assistant_tag": form.roles.assistant, "observation_tag": form.roles.tool,
            "function_tag": form.roles.call or "function_call", "system_tag": form.roles.system,
        }  # fmt: skip
        formatting = "openai" if self.with_tools and form.roles.call is None else "sharegpt"
        columns = self._present({"messages": form.messages, "system": form.system})
        return {"file_name": self.file, "formatting": formatting, "columns": columns, "tags": tags}

    def trl(self, where: str) -> str:
        """Python for TRL, or why there is none.

        Args:
            where: the folder, or the name on the hub.
        """
        is_chat = isinstance(self.format, Messages) and replace(self.format, system=OPENAI.system) == OPENAI
        if not is_chat and self.format != PromptCompletion():
            return f"TRL {AGAIN} `format=messages` or `format=prompt_completion`."
        columns = [OPENAI.messages] if is_chat else PromptCompletion().parts
        option = ", assistant_only_loss=True" if is_chat else ""
        remark = "It learns the last answer of each row."
        if is_chat:
            remark = (
                "It learns every answer, for which the model's chat template has to mark them (`{% generation %}`); "
                "where it does not, export again with `format=prompt_completion`."
            )
        lines = [
            "from datasets import load_dataset",
            "from trl import SFTConfig, SFTTrainer",
            "",
            f'rows = load_dataset({json.dumps(where)}, split="train").select_columns({json.dumps(columns)})',
            f'args = SFTConfig(output_dir="tuned"{option})',
            'SFTTrainer("MODEL", args=args, train_dataset=rows).train()',
        ]
        return "\n".join(["```python", *lines, "```", "", remark])

    def axolotl(self, where: str, on_hub: bool) -> str:
        """YAML for axolotl, or why there is none; `where` as `trl` has it."""
        kind = self._axolotl_type()
        if kind is None:
            return f"axolotl {AGAIN} `format=messages`."
        source = {"path": where, "split": "train"}
        if not on_hub:
            kind_of_file = "parquet" if self.file.endswith(".parquet") else "json"
            source = {"path": f"{where}/{self.file}", "ds_type": kind_of_file}
        text = yaml.safe_dump({"datasets": [{**source, **kind}]}, sort_keys=False, allow_unicode=True)
        return f"```yaml\n{text}```"

    def _axolotl_type(self) -> dict[str, Any] | None:
        form = self.format
        if isinstance(form, Messages):
            if form.system in self.fields or (self.with_tools and form.roles.call is not None):
                return None
            return {
                "type": "chat_template",
                "field_messages": form.messages,
                "message_property_mappings": {"role": form.role, "content": form.content},
                "roles": {role: [getattr(form.roles, role)] for role in ROLES},
                "roles_to_train": ["assistant"],
            }
        if not isinstance(form, Fields) or self.fields & {form.system, form.history}:
            return None
        if self.fields <= {ALPACA.instruction, ALPACA.input, ALPACA.response}:
            return {"type": "alpaca"}
        names = {
            "field_instruction": form.instruction, "field_input": form.input, "field_output": form.response,
        }  # fmt: skip
        return {"type": self._present(names)}

    def _present(self, names: dict[str, str | None]) -> dict[str, str]:
        """Of what a loader calls fields, those that a record has."""
        return {known_as: name for known_as, name in names.items() if name in self.fields}
