"""Several processes as one: rank 0 selects and writes, and broadcasts its results.

Every process runs the complete loop. With a single process nothing in this file does anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

from diverseevol.errors import InputError, input_error

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process's rank among its peers, as `torchrun` assigns it."""

    rank: int = 0
    world: int = 1
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that selects, writes and speaks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every process has come this far."""
        if self.world > 1:
            distributed.barrier()

    def in_turn(self, work: Callable[[], T]) -> T:
        """Rank 0 does some work, then the others: what it leaves in a cache they find there.

        Raises:
            InputError: rank 0 raised one. All raise it, so that all end with its exit code.
        """
        # Every path of rank 0 meets exactly one `share` of the others, who wait in it until rank 0 is done: it sends
        # None after success and the InputError after a refusal. Any other error is a crash, which sends nothing:
        # rank 0 dies of it, and the launcher ends the others.
        fault: InputError | None = None
        if not self.first:
            if fault := self.share(fault):
                raise fault
            return work()
        try:
            result = work()
        except Exception as error:
            if fault := input_error(error):
                self.share(fault)
            raise
        self.share(fault)
        return result

    def share(self, value: T) -> T:
        """Rank 0's value, in every process."""
        if self.world == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every process's value, in order of rank, in every process."""
        if self.world == 1:
            return [value]
        values: list[T | None] = [None] * self.world
        distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def largest(self, value: int) -> int:
        """The largest of all processes' values, in every process."""
        if self.world == 1:
            return value
        box = torch.tensor(value)
        distributed.all_reduce(box, distributed.ReduceOp.MAX)
        return int(box)


def leave(processes: Processes) -> None:
    """Leave the process group, so that no peer waits for a process that has ended."""
    if processes.world > 1 and distributed.is_initialized():
        distributed.destroy_process_group()
