"""What of the data is left out, cut or not used, and why: said once, before anything is done with the rows."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

from diverseevol.data.dataset import Dataset
from diverseevol.options import PromptOptions
from diverseevol.runs.subset import BAD_ROWS, INELIGIBLE
from diverseevol.storage.files import atomic_write, write_jsonl

if TYPE_CHECKING:  # its module imports for seconds
    from diverseevol.data.tokens import Tokens


def left_out(dataset: Dataset, encoded: "Tokens | None", prompt: PromptOptions) -> Iterator[str]:
    """A sentence for each kind of row that is not what its author wrote; none where all are.

    Args:
        dataset: the rows.
        encoded: the same as tokens; None where no tokeniser says what is cut.
        prompt: what cut them.
    """
    for reason, count in dataset.bad.items():
        yield f"{_rows(count)} left out: {reason}"
    if len(dataset.held_out):
        yield f"{_rows(len(dataset.held_out))} held out: never trained on, the same for all samplers and seeds"
    for of_held_out, sentence in (
        (True, "left out: they repeat a held-out row, exactly or nearly"),
        (False, "left out: they repeat an earlier row, exactly or nearly (data.deduplicate=first)"),
    ):
        if count := int((dataset.copies.held_out == of_held_out).sum()):
            yield f"{_rows(count)} {sentence if count > 1 else sentence.replace('they repeat', 'it repeats')}"
    if encoded is not None and dataset.conversations:
        says = "is a conversation: it takes" if dataset.conversations == 1 else "are conversations: they take"
        yield f"{_rows(dataset.conversations)} {says} {encoded.conversations_take}"
    if encoded is not None:
        yield from _cut(dataset, encoded, prompt)
    for name, count in dataset.unused.items():
        part = name if name in ("system", "history") else "input"
        takes = f"data.fields.{part}={name} takes it as the {part}"
        yield f"{_rows(count)} with a field {name!r} that nothing uses ({takes})"


def _cut(dataset: Dataset, encoded: "Tokens", prompt: PromptOptions) -> Iterator[str]:
    empty = np.asarray(encoded.response_tokens) == 0
    removed = without_response(dataset, encoded)
    shortened = (np.asarray(encoded.lost) > 0) & ~empty
    limit = f"prompt.max_length={prompt.max_length:,}"
    if removed:
        yield f"{_rows(removed)} ineligible: {limit} leaves no token of the response"
    if shortened.any():
        lost = int(np.asarray(encoded.lost)[shortened].sum())
        tokens = f"{lost:,} token{'' if lost == 1 else 's'}"
        removed_turns, shortened_turns = np.asarray(encoded.cut)[shortened].sum(axis=0).tolist()
        cut = f"cuts the end of the response, {tokens} in all"
        if dataset.conversations:
            cut = f"cuts off {tokens}: of responses {removed_turns:,} completely, {shortened_turns:,} in part"
        yield f"{_rows(int(shortened.sum()))} shortened: {limit} {cut}"
    if encoded.changed:
        yield f"{_rows(encoded.changed)} changed: the chat template leaves part of a response out"


def without_response(dataset: Dataset, encoded: "Tokens") -> int:
    """How many rows have no token of the response left, apart from those that are held out or copies."""
    empty = np.asarray(encoded.response_tokens) == 0
    return int(empty.sum()) - int(empty[dataset.held_out].sum()) - int(empty[dataset.copies.rows].sum())


def why_ineligible(dataset: Dataset, encoded: "Tokens", prompt: PromptOptions) -> str:
    """Why rows cannot be trained on, with their numbers; empty where all can be."""
    counts = {
        f"no response token within prompt.max_length={prompt.max_length:,}": without_response(dataset, encoded),
        "been held out by data.held_out": len(dataset.held_out),
        "a held-out row's text, or nearly so": int(dataset.copies.held_out.sum()),
        "an earlier row's text, or nearly so (data.deduplicate=first)": int((~dataset.copies.held_out).sum()),
    }
    return " and ".join(
        f"{_rows(count)} {'has' if count == 1 else 'have'} {reason}" for reason, count in counts.items() if count
    )


def list_left_out(
    path: Path,
    dataset: Dataset,
    eligible: Bool[np.ndarray, " rows"],
    bad_rows: Path,
    lengths: Int[np.ndarray, " rows"] | None,
) -> None:
    """List the rows that cannot be chosen in the folder of a run or a choice: `bad_rows.jsonl`, `ineligible.jsonl`.

    Args:
        path: the folder.
        dataset: the rows.
        eligible: which of them can be chosen.
        bad_rows: the list that was made as the data were read.
        lengths: tokens of each; None where no tokeniser has counted them.
    """
    if dataset.bad_rows and bad_rows.exists():
        with atomic_write(path / BAD_ROWS, "wb") as file, bad_rows.open("rb") as listed:
            shutil.copyfileobj(listed, file)
    rows = np.flatnonzero(~np.asarray(eligible))
    if len(rows):
        reasons = {**dict.fromkeys(dataset.held_out.tolist(), "held out"), **dataset.copies.reasons()}
        lines = (
            {
                "row": int(row),
                "reason": reasons.get(int(row), "no response token is left within prompt.max_length"),
                **({} if lengths is None else {"tokens": int(lengths[row])}),
            }
            for row in rows
        )
        write_jsonl(path / INELIGIBLE, lines)


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
