"""A device that is full, said in the user's words."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from diverseevol.errors import InputError


@contextmanager
def named_when_full(option: str, value: int) -> Iterator[None]:
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
