"""torch.compile of a model's layers for the time of a fit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from diverseevol.errors import InputError

BACKEND = "inductor"
# How often the code of one layer may be compiled anew: with and without a mask, with one row and with several, for
# layers of each kind. Beyond it torch would go back to the plain code.
RECOMPILE_LIMIT = 64


@contextmanager
def layers_compiled(model: PreTrainedModel) -> Iterator[None]:
    """Compile each layer of a model where it is trained; names of weights stay, and afterwards the model is as before.

    Layers that are alike share what is compiled, whatever the sizes of batches. In evaluation mode, in which a batch
    or two test the model, layers run plainly.

    Raises:
        InputError: the model has no layers that transformers knows as such.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise InputError(
            f"tuning.compile=true: transformers does not say which parts of {type(model).__name__} are its layers; "
            f"give tuning.compile=false"
        )
    for layer in layers:
        layer._compiled_call_impl = _where_trained(layer)
    with torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT):
        yield
    for layer in layers:
        layer._compiled_call_impl = None


def _where_trained(layer: torch.nn.Module) -> Callable[..., Any]:
    plain = layer._call_impl
    compiled = torch.compile(plain, backend=BACKEND, dynamic=True)
    return lambda *args, **options: (compiled if layer.training else plain)(*args, **options)


def check_compiler(device: torch.device) -> None:
    """Compile a little for a device.

    Raises:
        InputError: something is missing.
    """
    try:
        torch.compile(_little, backend=BACKEND)(torch.ones(2, device=device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of many kinds: no compiler, no headers, no triton
        reason = " ".join(str(error).split())[:200]
        missing = "a C++ compiler (g++)" if device.type == "cpu" else "triton and a C compiler (gcc)"
        raise InputError(
            f"tuning.compile=true: torch cannot compile for this {device.type} ({reason}); it needs {missing}; install "
            f"what is missing, or give tuning.compile=false"
        ) from error


def _little(x: torch.Tensor) -> torch.Tensor:
    return x.exp() + 1
