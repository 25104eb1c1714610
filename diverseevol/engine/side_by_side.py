"""Batches of a small model side by side, each on a thread of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch

from diverseevol.parallel.threads import workers

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The result of the work on each item, in order; the same bits as on one thread."""
    if len(items) == 1 or torch.get_num_threads() == 1:
        return [work(item) for item in items]
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

    def in_our_modes(item: Item) -> Result:  # torch's modes are per thread
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(grad),
            torch.autocast("cpu", dtype=dtype, enabled=dtype is not None),
        ):
            return work(item)

    return list(_pool(torch.get_num_threads()).map(in_our_modes, items))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Workers that stay, because memory that a new thread allocates is slow at first."""
    # A thread takes torch's number of threads when it first computes. All are started here, where that number is 1;
    # the barrier keeps the first ones from taking the turns of the others.
    with workers():
        pool = ThreadPoolExecutor(threads)
        barrier = Barrier(threads)
        list(pool.map(lambda _: (torch.get_num_threads(), barrier.wait()), range(threads)))
    return pool
