"""What an export's card says of its rows: counted while they are written."""

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diverseevol.data.conversation import Conversation
from diverseevol.export.loaders import Layout

QUANTILES = {"shortest": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "longest": 1.0}
DETAIL = re.compile(r"( of \d+|: .*)$", re.DOTALL)  # of a tag: which row or question it names


@dataclass
class Tally:
    """Counts of rows.

    Attributes:
        rows: how many there are.
        characters: of each conversation.
        turns: of each conversation.
        layouts: how the rows say a conversation, as they came in; None is one of them where no loader can be told.
        sources, tags: how many rows come from each source, and have each kind of tag.
        columns: the fields system and history, as far as a row has them.
        with_tools: how many have turns of tools or calls of them.
        not_alternating: how many have turns that are not, after a system's, a question and an answer in turn.
    """

    rows: int = 0
    characters: "array[int]" = field(default_factory=lambda: array("q"))
    turns: "array[int]" = field(default_factory=lambda: array("q"))
    layouts: list[Layout | None] = field(default_factory=list)
    sources: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    columns: set[str] = field(default_factory=set)
    with_tools: int = 0
    not_alternating: int = 0

    def count(self, receipt: Mapping[str, Any]) -> None:
        """Count a row by its receipt."""
        self.rows += 1
        if source := receipt.get("source"):
            self.sources[str(source)] += 1
        self.tags.update({DETAIL.sub("", str(tag)) for tag in receipt.get("tags") or ()})

    def read(self, conversation: Conversation, layout: Layout | None) -> None:
        """Count what a row says."""
        turns = conversation.turns
        self.characters.append(sum(len(turn.text) + len(turn.input) for turn in turns))
        self.turns.append(len(turns))
        if layout not in self.layouts:
            self.layouts.append(layout)
        self.with_tools += any(turn.role == "tool" or "tool_calls" in turn.more for turn in turns)
        roles = ["user" if turn.role == "tool" else turn.role for turn in turns if turn.role != "system"]
        self.not_alternating += roles != ["user", "assistant"] * (len(roles) // 2)

    def lengths(self) -> Iterator[tuple[str, list[int]]]:
        """What is measured → its quantiles, as `QUANTILES` has them."""
        measured = {"characters": self.characters}
        if set(self.turns) != {2}:
            measured["turns"] = self.turns
        for name, values in measured.items():
            if values:
                yield name, np.quantile(np.asarray(values), list(QUANTILES.values()), method="nearest").tolist()
