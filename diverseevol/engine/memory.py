"""How much memory a phase takes, and a device that is full, said in the user's words."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from diverseevol.errors import InputError

RESET_PEAK = "5"  # what the kernel's clear_refs takes for: let the peak of resident memory begin anew


def reset_peak_memory() -> None:
    """Let the peaks of the processor's and the devices' memory begin anew, where the system can do that."""
    with suppress(OSError):  # another system than Linux, or a container that does not allow it
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    for device in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0):
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory() -> dict[str, int]:
    """The largest memory since `reset_peak_memory`, in bytes.

    Returns:
        `processor`: this process's resident memory, pages of mapped files included (where the system cannot begin anew:
        since the process began); `device`: what torch held on the GPU that held most, where GPUs are used.
    """
    peaks = {"processor": _resident_peak()}
    if torch.cuda.is_initialized():
        peaks["device"] = max(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
    return peaks


def _resident_peak() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def explain_out_of_memory(option: str, value: int) -> Iterator[None]:
    """Name the option that decides how much a phase holds on a device, where the device had no room for it.

    Raises:
        InputError: it had none.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{option} is {value:,}, which needs more memory than the device has left; lower it, or hold fewer bytes a "
            f"weight (model.dtype=bfloat16)"
        ) from error
