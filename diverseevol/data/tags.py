"""What is known of rows beside what they say: that they repeat other rows, or hold questions that models are asked.

Tags delete nothing. They are counted, listed and warned of; `data.deduplicate` acts on them where a user asks for it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diverseevol.data.contamination import HELD_OUT, Overlap
from diverseevol.data.duplicates import Duplicates

DUPLICATE, NEAR, SAME_QUESTION = "duplicates", "near-duplicates", "same question"
QUESTIONS = "questions of "  # a benchmark


@dataclass(frozen=True, eq=False)
class Tags:
    """The tags of all rows of a data set.

    Attributes:
        duplicates: which rows are like an earlier one; None where nobody has looked.
        overlaps: which rows hold a question of a benchmark or of a held-out row.
    """

    duplicates: Duplicates | None = None
    overlaps: Sequence[Overlap] = ()

    def of(self, row: int) -> list[str]:
        """The tags of one row, such as "duplicate of 12", "near-duplicate of 12" or "question of vicuna: 7"."""
        return [tag for _, tag in self._pairs(row)]

    def kinds(self, row: int) -> list[str]:
        """The kinds of a row's tags, each once; what `counts` counts."""
        return list(dict.fromkeys(kind for kind, _ in self._pairs(row)))

    def counts(self, rows: Iterable[int] | None = None) -> dict[str, int]:
        """How many rows have a tag of each kind, the kinds that none has left out.

        Args:
            rows: which are counted, such as a pool; all where None.
        """
        counted = Counter(kind for row in (self.rows() if rows is None else rows) for kind in self.kinds(int(row)))
        kinds = (DUPLICATE, NEAR, SAME_QUESTION)
        return {kind: counted[kind] for kind in (*kinds, *sorted({*counted} - {*kinds})) if counted[kind]}

    def groups(self) -> dict[int, list[int]]:
        """The groups of rows that are the same or nearly so: the smallest row → all of them, ascending."""
        if self.duplicates is None:
            return {}
        members: dict[int, list[int]] = {}
        later = np.flatnonzero(self.duplicates.group != np.arange(len(self.duplicates)))
        for row in later.tolist():
            first = int(self.duplicates.group[row])
            members.setdefault(first, [first]).append(row)
        return dict(sorted(members.items()))

    def _pairs(self, row: int) -> list[tuple[str, str]]:
        """The kind and the text of each tag."""
        pairs = []
        if (known := self.duplicates) is not None:
            same, question, group = (int(array[row]) for array in (known.same, known.question, known.group))
            if same != row:
                pairs.append((DUPLICATE, f"duplicate of {same}"))
            elif group != row:
                pairs.append((NEAR, f"near-duplicate of {group}"))
            if question != row and same == row:
                pairs.append((SAME_QUESTION, f"same question as {question}"))
        for overlap in self._by_row.get(row, ()):
            mark = " " if overlap.benchmark == HELD_OUT else ": "
            pairs.append(
                (f"{QUESTIONS}{overlap.benchmark}", f"question of {overlap.benchmark}{mark}{overlap.question}")
            )
        return pairs

    @cached_property
    def _by_row(self) -> dict[int, list[Overlap]]:
        by_row: dict[int, list[Overlap]] = {}
        for overlap in self.overlaps:
            by_row.setdefault(overlap.row, []).append(overlap)
        return by_row

    def rows(self) -> list[int]:
        """The rows that have a tag, ascending."""
        rows = set(self._by_row)
        if (known := self.duplicates) is not None:
            numbers = np.arange(len(known))
            rows |= set(np.flatnonzero((known.group != numbers) | (known.question != numbers)).tolist())
        return sorted(rows)
