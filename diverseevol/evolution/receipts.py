"""Why a row was chosen, so that a reader can judge it: its score, how far it was from the pool, and what it says."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from diverseevol.data.dataset import Dataset
from diverseevol.data.tags import Tags
from diverseevol.geometry.distances import receipt_distances
from diverseevol.runs.round_folder import REDO, Round
from diverseevol.runs.run_folder import RunFolder
from diverseevol.samplers.base import Selection
from diverseevol.storage.files import read_jsonl


def distances(
    embedding: Float[np.ndarray, "rows dim"] | None, chosen: Int[np.ndarray, " n"], pool: Int[np.ndarray, " pool"]
) -> tuple[list[float | None], list[int | None]]:
    """The distance of each pick to the nearest row of the pool or picked before it, and that row's number.

    Both are None where nothing was embedded, and for a first pick that had nothing to be near to.
    """
    if embedding is None:
        return [None] * len(chosen), [None] * len(chosen)
    far, near = receipt_distances(embedding, chosen, pool)
    return [None if np.isnan(d) else float(d) for d in far], [None if row < 0 else int(row) for row in near]


def receipt(
    selection: Selection,
    dataset: Dataset,
    embedding: Float[np.ndarray, "rows dim"] | None,
    pool: Int[np.ndarray, " pool"],
    space: str | None,
) -> Iterator[dict[str, Any]]:
    """A line a pick, in pick order, with excerpts of the row and of the row of the pool that is nearest to it.

    Args:
        selection: the picks.
        dataset: their texts.
        embedding: [rows, dim] what distances are taken in; None: there are none.
        pool: the rows trained on before the first pick.
        space: whose embedding it is: "current", the round's own model's, "foundation", or "text".
    """
    far, near = distances(embedding, selection.rows, pool)
    for rank, (row, score) in enumerate(zip(selection.rows.tolist(), selection.score.tolist(), strict=True)):
        conversation, nearest = dataset[row], near[rank]
        yield {
            "rank": rank, "row": row, "score": score, "distance": far[rank], "nearest": nearest,
            "score_is": selection.meaning, "space": None if embedding is None else space,
            "instruction": excerpt(conversation.instruction), "response": excerpt(conversation.response),
            "nearest_instruction": None if nearest is None else excerpt(dataset[nearest].instruction),
        }  # fmt: skip


def pool_receipts(run: RunFolder, done: Round, dataset: Dataset, tags: Tags) -> Iterator[dict[str, Any]]:
    """The receipts of a round's pool, in the order in which its rows joined; the rounds before are on disk."""
    picks: dict[int, tuple[int, Mapping[str, Any]]] = {}
    for t in range(done.index):
        for line in read_jsonl(run.round(t).path / "chosen.jsonl", REDO):
            picks[line["row"]] = (t + 1, line)
    for row in done.trained_on:
        yield row_receipt(row, *picks.get(row, (0, {})), dataset, tags)


def row_receipt(row: int, joined: int, pick: Mapping[str, Any], dataset: Dataset, tags: Tags) -> dict[str, Any]:
    """The receipt of one row of a subset, as `receipts.jsonl` has it.

    Args:
        row: its number.
        joined: the first round that is trained on it; 0 for a row of P_0, which has no reason but chance.
        pick: what `receipt` says of it; of a row of P_0, nothing.
        dataset: the rows.
        tags: what else is known of them.
    """
    reason = {key: pick.get(key) for key in ("rank", "score", "score_is", "distance", "nearest")}
    return {"row": row, "joined": joined, **reason, "source": dataset.source_of(row).name, "tags": tags.of(row)}


def excerpt(text: str, length: int = 120) -> str:
    """The beginning of a text on one line, with … where it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
