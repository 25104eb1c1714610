"""How this process was started: alone, by torchrun, or by SLURM's srun."""

import os
import re
from datetime import timedelta

import torch
from torch import distributed

from diverseevol.errors import InputError
from diverseevol.parallel.processes import Processes


def join() -> Processes:
    """Join the peers that the environment variables of torchrun or srun name; a single process without them.

    Raises:
        InputError: srun starts different numbers of tasks on its nodes.
    """
    _read_slurm()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes()
    if not distributed.is_initialized():
        if torch.cuda.is_available():  # before any broadcast, which goes through the current device
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        # The peers wait while rank 0 judges or prepares the data, which may take hours.
        distributed.init_process_group(backend, timeout=timedelta(days=1))
    return Processes(
        rank=distributed.get_rank(),
        world=world,
        local_world=int(os.environ.get("LOCAL_WORLD_SIZE", str(world))),
    )


def _read_slurm() -> None:
    """Set the variables that torchrun would set, in a step that `srun` started with several tasks."""
    if "WORLD_SIZE" in os.environ or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return
    # A slow import, needed only under SLURM.
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    slurm, layout = SLURMEnvironment(auto_requeue=False), os.environ["SLURM_STEP_TASKS_PER_NODE"]
    if not (tasks := re.fullmatch(r"(\d+)(\(x\d+\))?", layout)):
        raise InputError(
            f"srun starts {layout} tasks on the nodes; expected the same number on each node; give --ntasks-per-node"
        )
    os.environ |= {
        "RANK": str(slurm.global_rank()),
        "LOCAL_RANK": str(slurm.local_rank()),
        "GROUP_RANK": str(slurm.node_rank()),
        "WORLD_SIZE": str(slurm.world_size()),
        "LOCAL_WORLD_SIZE": tasks[1],
        "MASTER_ADDR": slurm.main_address,
        "MASTER_PORT": str(slurm.main_port),
    }
