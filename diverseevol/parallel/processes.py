"""Several processes as one: who writes, who waits, and what the others are told.

Every process runs the whole loop. The first one (rank 0) selects and writes; the others get its word. With a single
process nothing here does anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import distributed

from diverseevol.errors import InputError, input_error

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process's place among its peers, as `torchrun` sets it out."""

    rank: int = 0
    world: int = 1
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that selects, writes and speaks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            distributed.barrier()

    def in_turn(self, work: Callable[[], T]) -> T:
        """The first process does some work, then the others: what the first leaves in a cache they find there.

        Raises:
            InputError: the first process found one. All raise it, so that all end with its exit code.
        """
        fault: InputError | None = None
        if not self.first:
            if fault := self.share(fault):
                raise fault
            return work()
        try:
            done = work()
        except Exception as error:
            if fault := input_error(error):
                self.share(fault)
            raise
        self.share(fault)
        return done

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


def leave(processes: Processes) -> None:
    """Part from the peers in order, so that no process is left waiting for one that has gone."""
    if processes.world > 1 and distributed.is_initialized():
        distributed.destroy_process_group()
