"""Several processes as one: who writes, who waits, and what the others are told.

Every process runs the whole loop. The first one (rank 0) selects and writes; the others get its word. With a single
process nothing here does anything.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
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


def join() -> Processes:
    """Join the peers that torchrun's, or srun's, environment variables name; alone without them."""
    _read_slurm()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes()
    if not distributed.is_initialized():
        if torch.cuda.is_available():  # before anything is shared: objects travel through the current device
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        # The others wait while the first judges or prepares the data, which may take hours.
        distributed.init_process_group(backend, timeout=timedelta(days=1))
    return Processes(
        rank=distributed.get_rank(),
        world=world,
        local_world=int(os.environ.get("LOCAL_WORLD_SIZE", str(world))),
    )


def _read_slurm() -> None:
    """Set what torchrun would set, in a step that `srun` started with several tasks."""
    if "WORLD_SIZE" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return
    from lightning.fabric.plugins.environments.slurm import (
        SLURMEnvironment,
    )  # seconds, which who is alone need not wait

    slurm, layout = SLURMEnvironment(auto_requeue=False), os.environ["SLURM_STEP_TASKS_PER_NODE"]
    if not (tasks := re.fullmatch(r"(\d+)(\(x\d+\))?", layout)):
        raise InputError(
            f"srun starts {layout} tasks on the nodes; each needs as many as the others: give --ntasks-per-node"
        )
    os.environ |= {
        "RANK": str(slurm.global_rank()),
        "LOCAL_RANK": str(slurm.local_rank()),
        "WORLD_SIZE": str(slurm.world_size()),
        "LOCAL_WORLD_SIZE": tasks[1],
        "MASTER_ADDR": slurm.main_address,
        "MASTER_PORT": str(slurm.main_port),
    }


def leave(processes: Processes) -> None:
    """Part from the peers in order, so that no process is left waiting for one that has gone."""
    if processes.world > 1 and distributed.is_initialized():
        distributed.destroy_process_group()
