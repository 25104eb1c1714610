"""How much memory a phase takes; when a device is full, less at a time, or which option to change."""

import gc
import logging
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from diverseevol.errors import InputError

log = logging.getLogger(__name__)

HALF_WEIGHTS = "or hold fewer bytes a weight (model.dtype=bfloat16)"
FULL = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")  # in errors of other types
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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device is full: CUDA has a type for it, other backends and libraries have words."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in FULL)
    )


def release_memory() -> None:
    """Give back what a failed pass held on a device; call it outside of the `except` block, which holds the pass."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


@dataclass
class Budgets:
    """How much goes through a model at a time, by option, where a full device has halved what was asked for.

    A budget stays halved for the passes that follow. All processes keep the same ones.
    """

    halved: dict[str, int] = field(default_factory=dict)

    def of(self, option: str, asked: int) -> int:
        """The budget that an option has by now."""
        return min(asked, self.halved.get(option, asked))

    def lower(self, option: str, asked: int, budget: int, unit: str) -> None:
        """Keep a budget from now on, and say so where it is lower than before; `unit` is what it counts."""
        if budget < self.of(option, asked):
            log.warning(
                "the device was full: from now on %s %s go through the model at a time, instead of %s; nothing is lost "
                "(%s=%d begins with that)",
                f"{budget:,}", unit, f"{self.of(option, asked):,}", option, budget,
            )  # fmt: skip
            self.halved[option] = budget


@contextmanager
def explain_out_of_memory(use: str, remedy: Callable[[], str]) -> Iterator[None]:
    """Turn a device's out-of-memory error into a sentence.

    Args:
        use: what needs too much.
        remedy: says what to do.

    Raises:
        InputError: the device was full.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise too_little_memory(use, remedy()) from error


def too_little_memory(use: str, remedy: str) -> InputError:
    """What to say where a device is full and no less can go through the model at a time."""
    return InputError(f"{use}: needs more memory than the device has left; {remedy}")
