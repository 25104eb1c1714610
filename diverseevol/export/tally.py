"""What an export's card says of its rows: counted while they are written."""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from diverseevol.data.conversation import Conversation
from diverseevol.data.formats.base import Format
from diverseevol.data.formats.messages import CALL, Messages, Roles
from diverseevol.data.formats.recognise import Known
from diverseevol.export.loaders import ROLES

QUANTILES = {"shortest": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "longest": 1.0}
PARTS = "parts"  # of what loaders would have to be told of messages whose content is a list of these
DETAIL = re.compile(r"(( of| as)? \d+|: .*)$", re.DOTALL)  # of a tag: which row or question it names


@dataclass
class Tally:
    """Counts of rows.

    Attributes:
        rows: how many there are.
        characters: of each conversation.
        turns: of each conversation.
        formats: of the records that were written.
        fields: those of the formats that a record has.
        called: role → what messages call it.
        sources, tags: how many rows come from each source, and have each kind of tag.
        with_tools: how many have turns of tools or calls of them.
        not_alternating: how many have turns that are not, after a system's, a question and an answer in turn.
    """

    rows: int = 0
    characters: "array[int]" = field(default_factory=lambda: array("q"))
    turns: "array[int]" = field(default_factory=lambda: array("q"))
    formats: list[Format | None] = field(default_factory=list)
    fields: set[str] = field(default_factory=set)
    called: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    sources: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    with_tools: int = 0
    not_alternating: int = 0

    def count(self, receipt: Mapping[str, Any]) -> None:
        """Count a row by its receipt."""
        self.rows += 1
        if source := receipt.get("source"):
            self.sources[str(source)] += 1
        self.tags.update({DETAIL.sub("", str(tag)) for tag in receipt.get("tags") or ()})

    def read(self, conversation: Conversation, record: Mapping[str, Any], format: Format | None) -> None:
        """Count what a row says.

        Args:
            conversation: what it says.
            record: as it was written.
            format: of the record; None where that is not known.
        """
        turns = conversation.turns
        self.characters.append(sum(len(turn.text) + len(turn.input) for turn in turns))
        self.turns.append(len(turns))
        if format not in self.formats:
            self.formats.append(format)
        self.fields.update(name for name in getattr(format, "parts", ()) if name in record)
        if isinstance(format, Messages):
            for message in record[format.messages]:
                is_text = isinstance(message.get(format.content), str | None)
                role = format.roles.meaning[message[format.role]] if is_text else PARTS
                self.called[role].add(message[format.role])
        self.with_tools += any(turn.role == "tool" or turn.calls_tools for turn in turns)
        roles = ["user" if turn.role == "tool" else turn.role for turn in turns if turn.role != "system"]
        self.not_alternating += roles != ["user", "assistant"] * (len(roles) // 2)

    def format(self) -> Known | None:
        """The one format of all records, with the names of roles that they have; None where there is no one."""
        form = self.formats[0] if len(self.formats) == 1 else None
        if isinstance(form, Messages):
            if PARTS in self.called or any(len(names) > 1 for names in self.called.values()):
                return None
            named = {role: name for role in (*ROLES, CALL) for name in self.called.get(role, ())}
            return replace(form, roles=Roles(**{**asdict(form.roles), **named}))
        return form if isinstance(form, Known) else None

    def lengths(self) -> Iterator[tuple[str, list[int]]]:
        """What is measured → its quantiles, as `QUANTILES` has them."""
        measured = {"characters": self.characters}
        if set(self.turns) != {2}:
            measured["turns"] = self.turns
        for name, values in measured.items():
            if values:
                yield name, np.quantile(np.asarray(values), list(QUANTILES.values()), method="nearest").tolist()
