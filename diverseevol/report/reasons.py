"""Why a row was chosen, or was not: what the folder of a run, or of a choice of `select`, says of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from diverseevol.errors import InputError
from diverseevol.report.collect import Run
from diverseevol.report.sources import SourceRows
from diverseevol.runs.round_folder import REDO
from diverseevol.runs.row_facts import RowFacts, read_row_facts
from diverseevol.runs.saved_config import REWRITE
from diverseevol.runs.subset import INELIGIBLE, TAGS
from diverseevol.storage.files import read_json, read_jsonl


@dataclass(frozen=True)
class Reason:
    """What is known of a row.

    Attributes:
        row: its number.
        joined: the round that first trained on it (0: it was drawn for P_0), or is to; of a choice, 1 (0: it was taken
            before); None: it was not chosen.
        receipt: of a row that a sampler chose: rank, score, score_is, distance, nearest, space and texts.
        left_out: why it could not be chosen, such as "held out"; None where it could be.
        nearest: the row of the final pool, or of those chosen and taken, that is nearest; None where not known.
        distance: how far that one is.
        nearer_than: the share of the rows not chosen that are farther from their nearest.
        text: the beginning of what is asked; None where not known.
        tags: such as "near-duplicate of 12".
        source: the name of its source; None where there is only one, or that is not known.
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
    source: str | None = None


AGAIN = "run the same `diverseevol select` again with replace=true"


class Kept(ABC):
    """What one folder keeps of its rows."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where it lies."""

    @property
    @abstractmethod
    def pool(self) -> Sequence[int]:
        """The rows that others are near to."""

    @property
    @abstractmethod
    def joined(self) -> Mapping[int, int]:
        """When rows joined; see `Reason.joined`."""

    @property
    @abstractmethod
    def receipts(self) -> Mapping[int, Mapping[str, Any]]:
        """By row, those of all picks."""

    @property
    @abstractmethod
    def sources(self) -> Sequence[SourceRows]:
        """Of the rows, where they are a mixture."""

    @cached_property
    def facts(self) -> RowFacts | None:
        """Of all rows, where the folder has them of this pool."""
        return read_row_facts(self.folder, self.pool) if self.pool else None

    @cached_property
    def left_out(self) -> dict[int, str]:
        """Why rows could not be chosen, by row."""
        file = self.folder / INELIGIBLE
        lines = read_jsonl(file, REWRITE) if file.exists() else []
        return {line["row"]: str(line.get("reason")) for line in lines if isinstance(line.get("row"), int)}

    @cached_property
    def tags(self) -> dict[int, tuple[str, ...]]:
        """What rows repeat, and which questions they hold, by row; only rows of which there is something to say."""
        file = self.folder / TAGS
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
        joined, left_out, tags = self.joined.get(row), self.left_out.get(row), self.tags.get(row, ())
        source = next((source.name for source in self.sources if source.start <= row < source.stop), None)
        if facts is None or joined is not None or left_out is not None or facts.nearest[row] < 0:
            return Reason(row, joined, receipt, left_out, text=text, tags=tags, source=source)
        distance = float(facts.distance[row])
        farther = len(self._farther) - int(np.searchsorted(self._farther, distance, side="right"))
        share = farther / max(len(self._farther) - 1, 1)
        return Reason(
            row, nearest=int(facts.nearest[row]), distance=distance, nearer_than=share, text=text, tags=tags,
            source=source,
        )  # fmt: skip

    def find(self, words: str) -> list[int]:
        """The rows whose texts hold all of these words, ascending."""
        wanted = words.casefold().split()
        texts = {} if self.facts is None else self.facts.texts
        return sorted(row for row, text in texts.items() if all(word in text.casefold() for word in wanted))


@dataclass(frozen=True, eq=False)
class Reasons(Kept):
    """The reasons of one run.

    Attributes:
        run: the run.
    """

    run: Run

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.run.folder

    @property
    def pool(self) -> Sequence[int]:
        """The final pool."""
        return self.run.rounds[-1].trained_on if self.run.rounds else ()

    @property
    def joined(self) -> Mapping[int, int]:
        """The rounds that first trained on rows."""
        return self.run.joined

    @cached_property
    def receipts(self) -> dict[int, dict[str, Any]]:
        """By row, those of all rounds."""
        folders = [self.folder / "rounds" / f"{done.index:02d}" for done in self.run.rounds if done.chosen]
        return {line["row"]: line for folder in folders for line in read_jsonl(folder / "chosen.jsonl", REDO)}

    @property
    def sources(self) -> Sequence[SourceRows]:
        """Of the run's rows."""
        return self.run.sources


@dataclass(frozen=True, eq=False)
class ChoiceReasons(Kept):
    """The reasons of one choice of `select`.

    Attributes:
        file: its `picks.json`, beside which lies the rest.
    """

    file: Path

    @property
    def folder(self) -> Path:
        """The folder of the choice."""
        return self.file.parent

    @cached_property
    def picks(self) -> Mapping[str, Any]:
        """What the file says, checked as far as it is used.

        Raises:
            InputError: it is damaged, or the choice was cut off.
        """
        picks = read_json(self.file, AGAIN)
        if isinstance(picks, dict) and picks.get("unfinished"):
            raise InputError(f"{self.folder}: the choice was cut off; run the same `diverseevol select` again")
        try:
            lists = [picks[name] for name in ("chosen", "taken")]
            lists.append([pick["row"] for pick in picks["receipt"]])
            sound = all(type(row) is int and row >= 0 for rows in lists for row in rows)
            sound &= all(
                type(pick["rank"]) is int and type(pick["nearest"]) in (int, type(None)) for pick in picks["receipt"]
            )
            sound &= isinstance(picks["sampler"], str) and isinstance(picks["options"], dict)
            sound &= isinstance(picks["request"], dict) and lists[0] == lists[2] != []
            [SourceRows(**source) for source in picks.get("sources", ())]
        except (TypeError, KeyError):
            sound = False
        if not sound:
            raise InputError(f"{self.file}: expected what `diverseevol select` writes of rows; {AGAIN}")
        return picks  # type: ignore[no-any-return]

    @property
    def space(self) -> str:
        """What rows were compared in: "text", "foundation" or "none"."""
        return str(self.picks["request"].get("space"))

    @cached_property
    def pool(self) -> Sequence[int]:
        """The rows chosen, in pick order, and those taken before."""
        return [*self.picks["chosen"], *self.picks["taken"]]

    @cached_property
    def joined(self) -> Mapping[int, int]:
        """1 for rows chosen, 0 for those taken before."""
        return {**dict.fromkeys(self.picks["taken"], 0), **dict.fromkeys(self.picks["chosen"], 1)}

    @cached_property
    def receipts(self) -> Mapping[int, Mapping[str, Any]]:
        """By row."""
        return {pick["row"]: pick for pick in self.picks["receipt"]}

    @cached_property
    def sources(self) -> Sequence[SourceRows]:
        """Of the rows chosen from."""
        return [SourceRows(**source) for source in self.picks.get("sources", ())]
