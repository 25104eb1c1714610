"""Which rows go through the model together: optimizer steps for fine-tuning, length-sorted batches for probing."""

import itertools
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch.utils.data import DataLoader

from diverseevol.data.tokens import Tokens
from diverseevol.errors import InputError

IGNORED = -100  # the label of positions that carry no loss, as in transformers and torch


@dataclass(frozen=True)
class Step:
    """One optimizer step: micro-batches whose gradients are added up, and the tokens their loss is divided by."""

    micro_batches: tuple[tuple[int, ...], ...]
    response_tokens: int


def plan_steps(
    encoded: Tokens,
    rows: Int[np.ndarray, " pool"],
    *,
    epochs: int,
    steps: int | None,
    batch_size: int,
    micro_batch_tokens: int,
    rng: np.random.Generator,
    packing: bool = False,
) -> list[Step]:
    """Lay out a complete fit: each epoch a fresh order of the rows, cut into optimizer batches.

    An optimizer batch is split into micro-batches of rows of similar length. Each knows the response tokens of the
    *complete* optimizer batch, so its loss has the same weight however the batch is split, over accumulation steps
    or over processes.

    Args:
        encoded: all rows as tokens.
        rows: [pool] the rows to train on.
        epochs: passes over the rows.
        steps: a fixed number of optimizer steps instead of epochs, or None.
        batch_size: rows of an optimizer step.
        micro_batch_tokens: tokens of a micro-batch, padding included; a longer row has one of its own.
        rng: the order of the rows.
        packing: whether micro-batches are packed, without padding; their rows need not be of similar length.

    Raises:
        InputError: there are no rows to take a fixed number of steps on.
    """
    if steps is not None and len(rows) == 0:
        raise InputError(f"tuning.steps is {steps}, but the pool has no rows to take steps on; give at least one row")
    lengths, response = encoded.lengths, encoded.response_tokens
    plan: list[Step] = []
    for _ in range(epochs) if steps is None else itertools.count():
        order = rows[rng.permutation(len(rows))]
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            micro = _cut(packing)(lengths, batch, micro_batch_tokens)
            plan.append(Step(tuple(tuple(map(int, m)) for m in micro), int(response[batch].sum())))
            if steps is not None and len(plan) == steps:
                return plan
    return plan


def length_sorted_batches(
    lengths: Int[np.ndarray, " rows"], rows: Int[np.ndarray, " some"], budget: int
) -> list[Int[np.ndarray, " batch"]]:
    """Cut rows, longest first, into batches of at most `budget` tokens, padding included."""
    # The batch that needs the most memory comes first, so a run that does not fit fails at once. Sorting keeps padding
    # low.
    order = rows[np.argsort(-lengths[rows], kind="stable")]
    batches, start = [], 0
    while start < len(order):
        size = max(1, budget // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def packed_batches(
    lengths: Int[np.ndarray, " rows"], rows: Int[np.ndarray, " some"], budget: int
) -> list[Int[np.ndarray, " batch"]]:
    """Put rows, longest first, into few batches of at most `budget` tokens without padding."""
    batches: list[list[int]] = []
    free: list[int] = []
    for row in rows[np.argsort(-lengths[rows], kind="stable")].tolist():
        length = int(lengths[row])
        first = next((i for i, tokens in enumerate(free) if length <= tokens), len(batches))
        if first == len(batches):
            batches.append([])
            free.append(budget)
        batches[first].append(row)
        free[first] -= length
    return [np.asarray(batch, dtype=np.int64) for batch in batches]


def _cut(packing: bool) -> Callable[..., list[Int[np.ndarray, " batch"]]]:
    return packed_batches if packing else length_sorted_batches


def collate(encoded: Tokens, rows: Sequence[int], pad: int) -> dict[str, torch.Tensor]:
    """Right-padded tensors of rows.

    Returns:
        `input_ids`, `attention_mask` and `labels` (the ids that are learned, IGNORED elsewhere), each [batch,
        longest]; `rows` [batch].
    """
    longest = max(len(encoded.row(row)) for row in rows)
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    labels = np.full((len(rows), longest), IGNORED, dtype=np.int64)
    for i, row in enumerate(rows):
        tokens = encoded.row(row)
        ids[i, : len(tokens)] = tokens
        mask[i, : len(tokens)] = 1
        for start, end in encoded.spans_of(row):
            labels[i, start:end] = tokens[start:end]
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "labels": torch.from_numpy(labels),
        "rows": torch.as_tensor(np.asarray(rows, dtype=np.int64)),
    }


def pack(encoded: Tokens, rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """Tensors of rows that lie one after another in a single sequence.

    Returns:
        `input_ids`, `position_ids` (from 0 in each row) and `labels` (as of `collate`), each [1, tokens]; `rows`
        [batch].
    """
    places = [np.arange(len(encoded.row(row))) for row in rows]
    labels = []
    for row in rows:
        tokens = encoded.row(row)
        labels.append(np.full(len(tokens), IGNORED, dtype=np.int64))
        # Nothing predicts the first token of a row; in a packed batch the last of the row before would.
        for start, end in encoded.spans_of(row):
            labels[-1][max(start, 1) : end] = tokens[max(start, 1) : end]
    ids = np.concatenate([encoded.row(row) for row in rows]).astype(np.int64)
    return {
        "input_ids": torch.from_numpy(ids)[None],
        "position_ids": torch.from_numpy(np.concatenate(places))[None],
        "labels": torch.from_numpy(np.concatenate(labels))[None],
        "rows": torch.as_tensor(np.asarray(rows, dtype=np.int64)),
    }


def step_loader(
    encoded: Tokens,
    plan: Sequence[Step],
    pad: int,
    rank: int = 0,
    world: int = 1,
    threads: int = 1,
    packing: bool = False,
) -> DataLoader[list[dict[str, torch.Tensor]]]:
    """A loader whose item is one optimizer step of this process: a list of micro-batches with their `normaliser`."""
    # Every process gets the same number of micro-batches, since the processes meet in each backward pass. A process
    # without rows runs a row without labels, which adds nothing. Threads share micro-batches in the same way.

    def make(step: Step) -> list[dict[str, torch.Tensor]]:
        batches = []
        for rows in _shares(encoded.lengths, step.micro_batches, world * threads, packing)[rank::world]:
            if not rows and world == 1:
                continue  # no other process waits
            some = rows or step.micro_batches[-1][-1:]
            batch = pack(encoded, some) if packing else collate(encoded, some, pad)
            if not rows:
                batch["labels"] = torch.full_like(batch["labels"], IGNORED)
            batch["normaliser"] = torch.tensor(float(step.response_tokens))
            batches.append(batch)
        return batches

    return DataLoader(plan, batch_size=None, collate_fn=make)  # type: ignore[arg-type]


def _shares(
    lengths: Int[np.ndarray, " rows"], micro_batches: Sequence[tuple[int, ...]], parts: int, packing: bool
) -> list[tuple[int, ...]]:
    """Micro-batches in turns of `parts`; those of an incomplete last turn are cut anew into `parts` or fewer."""
    full_turns = len(micro_batches) // parts * parts
    shares = list(micro_batches[:full_turns])
    rest = np.asarray([row for batch in micro_batches[full_turns:] for row in batch], dtype=np.int64)
    if len(rest):
        longest = int(lengths[rest].max())
        # The smallest budget of tokens that makes no more than `parts` batches: the parts take equally long.
        cut = _cut(packing)
        budget = bisect_left(range(longest * len(rest)), True, key=lambda b: len(cut(lengths, rest, b)) <= parts)
        shares += [tuple(map(int, batch)) for batch in cut(lengths, rest, budget)]
        shares += [()] * (-len(shares) % parts)
    return shares


def probe_loader(
    encoded: Tokens,
    rows: Int[np.ndarray, " some"],
    among: Int[np.ndarray, " more"],
    budget: int,
    pad: int,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[dict[str, torch.Tensor]]:
    """This process's share of the length-sorted batches of `rows`.

    A batch's `rows` are indices into `among`, which contains all of `rows` in ascending order.
    """
    batches = length_sorted_batches(encoded.lengths, rows, budget)
    batches = batches[rank::world] or batches[-1:]  # Lightning needs one: repeat the last

    def make(batch: Int[np.ndarray, " batch"]) -> dict[str, torch.Tensor]:
        tensors = collate(encoded, list(map(int, batch)), pad)
        return {**tensors, "rows": torch.from_numpy(np.searchsorted(among, batch))}

    return DataLoader(batches, batch_size=None, collate_fn=make)  # type: ignore[arg-type]
