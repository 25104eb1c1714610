"""Products of float32 matrices by oneDNN, where torch uses a slower library.

torch leaves them to MKL, which takes twice as long as oneDNN on AMD processors with AVX-512; bfloat16 goes to oneDNN
anyway. Measured with torch 2.13 on one core: 103 against 205 GFLOP/s for 1,020 tokens, 87 against 160 for 40; below
some 30 tokens the conversion costs as much as the product gains.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch.nn import functional
from torch.overrides import TorchFunctionMode

MIN_TOKENS = 32

Input = Float[torch.Tensor, "*tokens inputs"]
Output = Float[torch.Tensor, "*tokens outputs"]
Weight = Float[torch.Tensor, "outputs inputs"]


@cache
def mkl_is_slow() -> bool:
    """Whether torch leaves products to MKL on a processor on which oneDNN is faster."""
    libraries = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    cpuinfo = Path("/proc/cpuinfo")
    made_by_amd = cpuinfo.is_file() and "AuthenticAMD" in cpuinfo.read_text(errors="replace")
    return libraries and made_by_amd and torch.backends.cpu.get_cpu_capability() == "AVX512"


class OneDnnProducts(TorchFunctionMode):
    """While the mode is on, linear layers in float32 on the CPU and their gradients are computed by oneDNN."""

    on: ClassVar[int] = 0  # how many are

    def __enter__(self) -> Any:
        """Switch the mode on."""
        OneDnnProducts.on += 1
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """Switch the mode off."""
        OneDnnProducts.on -= 1
        super().__exit__(*error)

    def __torch_function__(
        self, func: Any, types: Iterable[Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called in place of each function of torch."""
        if func is functional.linear and not kwargs and _gains(*args[:2]):
            return Product.apply(*args)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def both_passes() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """The contexts of a checkpoint's forward pass, and of its repetition, for which torch switches modes off."""
    return nullcontext(), OneDnnProducts() if OneDnnProducts.on else nullcontext()


def _gains(inputs: torch.Tensor, weight: torch.Tensor) -> bool:
    return (
        inputs.dtype == weight.dtype == torch.float32
        and inputs.layout == weight.layout == torch.strided
        and inputs.device.type == weight.device.type == "cpu"
        and weight.ndim == 2
        and inputs.ndim >= 2
        and inputs.numel() >= MIN_TOKENS * weight.shape[1]
        and not torch.is_autocast_enabled("cpu")
    )


class Product(torch.autograd.Function):
    """A linear layer whose three products are oneDNN's.

    torch's own gradient of such a layer keeps a converted copy of its inputs, which layers with the same inputs cannot
    share.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Input, weight: Weight, bias: torch.Tensor | None = None) -> Output:
        """The product of inputs and transposed weight, and the bias added."""
        ctx.save_for_backward(inputs, weight)
        return by_onednn(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Output) -> tuple[torch.Tensor | None, ...]:
        """The gradients of inputs, weight and bias."""
        (gradient,) = gradients
        inputs, weight = ctx.saved_tensors
        flat = gradient.flatten(0, -2)
        to_inputs = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_inputs = by_onednn(gradient, weight.T.contiguous())
        if ctx.needs_input_grad[1]:
            to_weight = by_onednn(flat.T.contiguous(), inputs.flatten(0, -2).T.contiguous())
        if len(ctx.needs_input_grad) > 2 and ctx.needs_input_grad[2]:
            to_bias = flat.sum(dim=0)
        return (to_inputs, to_weight, to_bias)[: len(ctx.needs_input_grad)]


def by_onednn(inputs: Input, weight: Weight, bias: torch.Tensor | None = None) -> Output:
    """A product of inputs and transposed weight, and the bias added, by oneDNN whatever their sizes."""
    product: torch.Tensor = functional.linear(inputs.to_mkldnn(), weight.contiguous(), bias).to_dense()
    return product
