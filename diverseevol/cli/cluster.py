"""A sweep's job as submitit runs it, under SLURM or on this machine: as several tasks, and again after its time limit.

Each task is one process of the job, and runs the same composed configuration.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Timer
from types import FrameType

from diverseevol.errors import InputError, not_installed

LAUNCHERS = {"joblib": "joblib", "slurm": "submitit", "submitit_slurm": "submitit", "submitit_local": "submitit"}
UNWINDING_SECONDS = (
    30  # after which a job is queued again, even if one of its processes waits for another that has left
)


def check_launcher(arguments: Sequence[str]) -> None:
    """Look at the launcher before Hydra does, which lists all others where its package is missing.

    Raises:
        InputError: it is not installed, or there is no SLURM here.
    """
    for argument in arguments:
        key, _, launcher = argument.partition("=")
        if key != "hydra/launcher" or launcher not in LAUNCHERS:
            continue
        if (
            find_spec("hydra_plugins") is None
            or find_spec(f"hydra_plugins.hydra_{LAUNCHERS[launcher]}_launcher") is None
        ):
            raise not_installed(argument, "sweep")
        if launcher.endswith("slurm") and not (shutil.which("sbatch") and shutil.which("srun")):
            raise InputError(
                f"{argument}: there is no sbatch or srun here; run the command on a node that submits jobs to SLURM "
                f"(hydra/launcher=submitit_local runs the jobs on this machine)"
            )


def join_tasks() -> None:
    """Set the variables that torchrun would set, where this process is one of several tasks of a job."""
    from submitit import JobEnvironment
    from submitit.helpers import TorchDistributedEnvironment

    job = JobEnvironment()
    if job.num_tasks > 1:
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        os.environ["GROUP_RANK"] = str(job.node)
        if job.num_nodes == 1:
            os.environ["MASTER_ADDR"] = "127.0.0.1"  # a host's own name is not always known to it


@contextmanager
def requeued(interrupt: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Have submitit queue the job again, once the work has ended because its time is over.

    submitit's own handler would end the first task wherever it is, and leave the others waiting for it.

    Args:
        interrupt: handles the signal by which submitit tells it: it raises what ends the work. A fit puts the signal
            off until it has kept its state.
    """
    from submitit import JobEnvironment

    number = getattr(signal, f"SIG{JobEnvironment.USR_SIG}")
    requeue = signal.getsignal(number)  # ends the first task, and returns in the others
    assert callable(requeue)

    def leave() -> None:
        code = 1
        try:
            requeue(number, None)
            code = 0
        except SystemExit as leaving:
            code = int(leaving.code or 0) & 255
        finally:
            os._exit(code)

    over, late = False, Timer(UNWINDING_SECONDS, leave)
    late.daemon = True

    def stop(received: int, frame: FrameType | None) -> None:
        nonlocal over
        if not over:  # there may be several
            over = True
            late.start()
            interrupt(received, frame)

    signal.signal(number, stop)
    try:
        yield
    except BaseException:  # a task that waits for one which has left fails in its own way
        late.cancel()
        if not over:
            raise
        requeue(number, None)
        sys.exit(0)  # not a failure, which could end the first task before it has queued the job
    finally:
        late.cancel()
        if not over:
            signal.signal(number, requeue)
