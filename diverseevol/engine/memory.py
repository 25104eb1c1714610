"""How much memory a phase takes, and which option to change when a device is full."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from diverseevol.errors import InputError

RESET_PEAK = "5"  # tells the kernel's clear_refs to reset the peak of resident memory


def reset_peak_memory() -> None:
    """Reset the peaks of the processor's and the devices' memory, where the system can."""
    with suppress(OSError):  # another system than Linux, or a container that does not allow it
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    for device in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0):
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory() -> dict[str, int]:
    """The largest memory since `reset_peak_memory`, in bytes.

    Returns:
        `processor`: this process's resident memory, pages of mapped files included (since the
        process began, where the system cannot reset it); `device`: the most that torch held on one GPU, where GPUs are
        used.
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
    """Turn a device's out-of-memory error into the option that decides how much a phase holds on it.

    Raises:
        InputError: the device was full.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{option} is {value:,}, which needs more memory than the device has left; lower it, or hold fewer bytes a "
            f"weight (model.dtype=bfloat16)"
        ) from error
