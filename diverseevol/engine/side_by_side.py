"""Batches of a small model side by side, each on a thread of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch
from transformers import PreTrainedModel

from diverseevol.engine.batch_dependence import batch_independent_length
from diverseevol.parallel.threads import workers

Item = TypeVar("Item")
Done = TypeVar("Done")

SMALL = 256  # hidden states as wide as this or narrower: a second thread gains little inside a matrix product


def batches_at_once(model: PreTrainedModel) -> int:
    """How many batches may pass through a model side by side: one a thread of a small model on a processor."""
    small = model.device.type == "cpu" and model.config.get_text_config().hidden_size <= SMALL
    # One that scales its positions by the batch keeps the last batch's scale, which another thread would read.
    return torch.get_num_threads() if small and batch_independent_length(model) is None else 1


def side_by_side(work: Callable[[Item], Done], items: Sequence[Item]) -> list[Done]:
    """What some work makes of each item, in order; of several, the bits of one after another on one thread."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

    def alone(item: Item) -> Done:  # a thread starts without the modes of the one that started it
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(grad),
            torch.autocast("cpu", dtype=kind, enabled=kind is not None),
        ):
            return work(item)

    if len(items) == 1 or torch.get_num_threads() == 1:
        return [work(item) for item in items]
    return list(_pool(torch.get_num_threads()).map(alone, items))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Workers that stay: a thread's memory is slow while it is new."""
    with workers() as _:  # what is started meanwhile computes alone
        pool = ThreadPoolExecutor(threads)
        together = Barrier(threads)
        list(pool.map(lambda _: (torch.get_num_threads(), together.wait()), range(threads)))
    return pool
