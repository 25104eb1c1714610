"""Every row, chosen or not, as the page's search carries it: numbers packed, texts cut so that the page stays small."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from diverseevol.report.collect import Run
from diverseevol.report.reasons import Reasons
from diverseevol.runs.row_facts import RowFacts, read_beyond

NUMBERS = 600_000  # rows, of all runs together, that the page has numbers of
BUDGET = 5_000_000  # characters of the texts of rows
CUTS = (120, 80, 50, 30)  # characters of a text: the first that fits the budget is taken


def searched(runs: Sequence[Run]) -> dict[Run, Reasons]:
    """The runs whose rows the page can search: all that keep facts of rows, or the first of each line, or none."""
    known = {run: reasons for run in runs if (reasons := Reasons(run)).facts is not None}
    first = {run.line: run for run in reversed(known)}.values()
    for kept in (known, {run: known[run] for run in known if run in first}):
        if sum(len(reasons.facts.nearest) for reasons in kept.values() if reasons.facts) <= NUMBERS:
            return kept
    return {}


def reasons_payload(reasons: Reasons) -> dict[str, Any]:
    """What the page has of one run's rows.

    Returns:
        `nearest` (uint32) and `distance` (float32), a number a row, and `beyond` (uint32), the rows that a larger
        budget would take, in order, or None, all as base64 of little-endian numbers; `left_out`: rows by the reason
        for which they could not be chosen; `tags`: by row.
    """
    facts = reasons.facts
    assert facts is not None
    beyond = read_beyond(reasons.run.folder, facts, 0)
    left_out: dict[str, list[int]] = {}
    for row, reason in reasons.left_out.items():
        left_out.setdefault(reason, []).append(row)
    return {
        "nearest": _packed(facts.nearest, "<u4"), "distance": _packed(facts.distance, "<f4"),
        "beyond": None if beyond is None else _packed(beyond, "<u4"), "left_out": left_out, "tags": reasons.tags,
    }  # fmt: skip


def learn_all(texts: Mapping[str, dict[int, list[str]]], kept: Iterable[Reasons]) -> int | None:
    """Add the texts of rows that were not chosen to those of the picks.

    Args:
        texts: by data set and row, an instruction and a response.
        kept: the runs that are searched.

    Returns:
        To how many characters they were cut; None where there are too many, and none was added.
    """
    facts: dict[str, RowFacts] = {reasons.run.data: reasons.facts for reasons in kept if reasons.facts is not None}
    missing = {
        data: {row: text for row, text in of_data.texts.items() if row not in texts[data]}
        for data, of_data in facts.items()
    }
    for length in CUTS:
        if sum(min(len(text), length) for of_data in missing.values() for text in of_data.values()) <= BUDGET:
            for data, of_data in missing.items():
                texts[data] |= {row: [_cut(text, length), ""] for row, text in of_data.items()}
            return length
    return None


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _packed(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()
