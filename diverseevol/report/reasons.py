"""Why a row was chosen, or was not: what a run folder says of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from diverseevol.report.collect import Run
from diverseevol.runs.round_folder import REDO
from diverseevol.runs.row_facts import RowFacts, read_row_facts
from diverseevol.runs.saved_config import REWRITE
from diverseevol.storage.files import read_jsonl


@dataclass(frozen=True)
class Reason:
    """What is known of a row.

    Attributes:
        row: its number.
        joined: the round that first trained on it (0: it was drawn for P_0), or is to; None: it was not chosen.
        receipt: of a row that a sampler chose: rank, score, score_is, distance, nearest, space and texts.
        left_out: why it could not be chosen, such as "held out"; None where it could be.
        nearest: the row of the final pool that is nearest in the foundation model's space; None where not known.
        distance: how far that one is.
        nearer_than: the share of the rows not chosen that are farther from their nearest.
        text: the beginning of what is asked; None where not known.
        tags: such as "near-duplicate of 12".
    """

    row: int
    joined: int | None = None
    receipt: Mapping[str, Any] | None = None
    left_out: str | None = None
    nearest: int | None = None
    distance: float | None = None
    nearer_than: float | None = None
    text: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Reasons:
    """The reasons of one run.

    Attributes:
        run: the run.
    """

    run: Run

    @cached_property
    def facts(self) -> RowFacts | None:
        """Of all rows, where the folder has them of the final pool."""
        return read_row_facts(self.run.folder, self.run.rounds[-1].trained_on) if self.run.rounds else None

    @cached_property
    def receipts(self) -> dict[int, dict[str, Any]]:
        """By row, those of all rounds."""
        folders = [self.run.folder / "rounds" / f"{done.index:02d}" for done in self.run.rounds if done.chosen]
        return {line["row"]: line for folder in folders for line in read_jsonl(folder / "chosen.jsonl", REDO)}

    @cached_property
    def left_out(self) -> dict[int, str]:
        """Why rows could not be chosen, by row."""
        file = self.run.folder / "ineligible.jsonl"
        lines = read_jsonl(file, REWRITE) if file.exists() else []
        return {line["row"]: str(line.get("reason")) for line in lines if isinstance(line.get("row"), int)}

    @cached_property
    def tags(self) -> dict[int, tuple[str, ...]]:
        """What rows repeat, and which questions they hold, by row; only rows of which there is something to say."""
        file = self.run.folder / "tags.jsonl"
        lines = read_jsonl(file, REWRITE) if file.exists() else []
        return {
            line["row"]: tuple(map(str, line["tags"]))
            for line in lines
            if isinstance(line.get("row"), int) and isinstance(line.get("tags"), list)
        }

    @cached_property
    def _farther(self) -> np.ndarray:
        """Distances of the rows not chosen, ascending."""
        assert self.facts is not None
        return np.sort(self.facts.distance[self.facts.candidates])

    def of(self, row: int) -> Reason:
        """What is known of a row."""
        receipt, facts = self.receipts.get(row), self.facts
        text = None if receipt is None else str(receipt.get("instruction"))
        if facts is not None:
            text = facts.texts.get(row, text)
        joined, left_out, tags = self.run.joined.get(row), self.left_out.get(row), self.tags.get(row, ())
        if facts is None or joined is not None or left_out is not None:
            return Reason(row, joined, receipt, left_out, text=text, tags=tags)
        distance = float(facts.distance[row])
        farther = len(self._farther) - int(np.searchsorted(self._farther, distance, side="right"))
        share = farther / max(len(self._farther) - 1, 1)
        return Reason(
            row, nearest=int(facts.nearest[row]), distance=distance, nearer_than=share, text=text, tags=tags
        )  # fmt: skip

    def find(self, words: str) -> list[int]:
        """The rows whose texts hold all of these words, ascending."""
        wanted = words.casefold().split()
        texts = {} if self.facts is None else self.facts.texts
        return sorted(row for row, text in texts.items() if all(word in text.casefold() for word in wanted))
