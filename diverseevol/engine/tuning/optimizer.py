"""The optimizer of a fit: torch's AdamW, or the same with moments and weights in bfloat16 that lose no small change.

A number in bfloat16 has eight binary digits, so that rounding to the nearest one loses a change below a 500th of it:
most of AdamW's steps at a rate of 2e-5, and all of its second moment's, a thousandth each. Rounded stochastically (up
or down, the nearer the likelier), numbers keep such changes on the average (Gupta et al. 2015; Zamirai et al. 2020).
With both in bfloat16 a weight takes 8 bytes, gradient included, where float32 takes 16.

The random bits are a hash of the fit's seed, the step, the weight's number and the element's index in the complete
weight. So they are the same on each of several processes, whatever part of a weight it holds, and in a resumed fit.
"""

import functools
import logging
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.placement_types import Replicate, Shard

from diverseevol.engine.tuning.sharding import local
from diverseevol.errors import InputError, warn_once
from diverseevol.options import Tuning

log = logging.getLogger(__name__)

MOMENTS = ("exp_avg", "exp_avg_sq")  # as torch's AdamW calls them
# Elements at a time: what is computed with them stays in a processor's cache, takes little of a device's memory, or is
# never stored (one kernel does all).
CHUNK = {"cpu": 2**15, "cuda": 2**22}
CHUNK_OF_ONE_KERNEL = 2**30


def make_optimizer(
    weights: Sequence[torch.nn.Parameter], tuning: Tuning, seed: Sequence[int], device: torch.device
) -> torch.optim.Optimizer:
    """What takes the steps of a fit.

    Args:
        weights: all that are trained.
        tuning: the learning rate and so on.
        seed: what stochastic rounding comes from.
        device: where the weights are.

    Raises:
        InputError: rounding is to be stochastic, and no weight is in bfloat16.
    """
    kinds, rate = {weight.dtype for weight in weights}, tuning.learning_rate
    if tuning.rounding == "stochastic" and torch.bfloat16 not in kinds:
        raise InputError(
            f"tuning.rounding=stochastic is for weights in bfloat16, and this model's are in {_names(kinds)}; give "
            f"model.dtype=bfloat16, or leave it out"
        )
    if tuning.rounding == "nearest" and torch.bfloat16 in kinds:
        warn_once(
            log,
            f"weights in bfloat16 lose the changes below a 500th of them, at a learning rate of {rate:g} most of what "
            f"is learned; give tuning.rounding=stochastic, or model.dtype=float32 with trainer=bf16",
        )
    moments = None if tuning.moments is None else getattr(torch, tuning.moments)
    as_torch_does = moments is None or kinds == {moments} == {torch.float32}
    if tuning.rounding == "nearest" and as_torch_does:
        return torch.optim.AdamW(
            weights,
            lr=rate,
            weight_decay=tuning.weight_decay,
            # A tenth of a small model's fit; on a GPU torch would take steps with a temporary copy of all weights.
            fused=device.type in ("cpu", "cuda"),
        )
    return RoundingAdamW(
        weights, rate, tuning.weight_decay, moments=moments, stochastic=tuning.rounding == "stochastic", seed=seed
    )


class RoundingAdamW(torch.optim.Optimizer):
    """AdamW that computes in float32 and rounds what it keeps; its state has the names of torch's."""

    def __init__(
        self,
        weights: Sequence[torch.nn.Parameter],
        lr: float,
        weight_decay: float,
        *,
        moments: torch.dtype | None,
        stochastic: bool,
        seed: Sequence[int],
    ) -> None:
        """Bind the weights, which may be sharded along their first dimension.

        Args:
            weights: in any precision.
            lr: the learning rate.
            weight_decay: the share of the weights, times the rate, that a step takes off.
            moments: the precision of both moments, in bfloat16 rounded stochastically; None for that of the weights.
            stochastic: whether weights in bfloat16 are rounded stochastically, rather than to the nearest.
            seed: what the rounding comes from.
        """
        super().__init__(weights, {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": weight_decay})
        self.moments = moments
        self.stochastic = stochastic
        self.seed = [int(part) for part in seed]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take a step; what the closure gives, where there is one."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        numbered = [(group, weight) for group in self.param_groups for weight in group["params"]]
        for number, (group, weight) in enumerate(numbered):
            if weight.grad is not None:
                self._update(weight, weight.grad, number, group)
        return result

    def _update(self, weight: torch.Tensor, gradient: torch.Tensor, number: int, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            for name in MOMENTS:
                state[name] = torch.zeros_like(weight, dtype=self.moments or weight.dtype)
        state["step"] += 1
        step, rate, (beta1, beta2) = int(state["step"]), float(group["lr"]), group["betas"]
        keys = key(self.seed, step, number)
        scales = (
            beta1, beta2, group["eps"], 1 - rate * group["weight_decay"], rate / (1 - beta1**step),
            math.sqrt(1 - beta2**step),
        )  # fmt: skip
        kept = [local(tensor).view(-1) for tensor in (weight.detach(), *(state[name] for name in MOMENTS))]
        gradient = local(gradient).reshape(-1)
        one_kernel = compiled("cuda") if gradient.device.type == "cuda" else None
        size = CHUNK_OF_ONE_KERNEL if one_kernel else CHUNK.get(gradient.device.type, CHUNK["cuda"])
        first = first_element(weight)
        for start in range(0, len(gradient), size):
            w, m, v, g = (tensor[start : start + size] for tensor in (*kept, gradient))
            (one_kernel or advance)(w, m, v, g, scales, first + start, keys, self.stochastic)


def advance(
    weight: Float[torch.Tensor, " count"],
    mean: Float[torch.Tensor, " count"],
    square: Float[torch.Tensor, " count"],
    gradient: Float[torch.Tensor, " count"],
    scales: tuple[float, float, float, float, float, float],
    start: int,
    keys: tuple[int, int],
    stochastic: bool,
) -> None:
    """A step of AdamW for elements of a weight, and its moments, in place.

    Args:
        weight: the elements.
        mean: their first moments.
        square: their second moments.
        gradient: theirs.
        scales: beta 1 and 2, epsilon, what is left after decay, the rate and the root of the second moment's share
            after this step's corrections of bias.
        start: the index of the first of them in the complete weight.
        keys: what their random bits come from.
        stochastic: whether a weight in bfloat16 is rounded so; moments in bfloat16 always are.
    """
    beta1, beta2, epsilon, left, rate, share = scales
    g = gradient.float()
    m = mean.float().lerp(g, 1 - beta1)
    v = square.float().mul(beta2).addcmul(g, g, value=1 - beta2)
    w = weight.float().mul(left) - m / (v.sqrt() / share + epsilon) * rate
    bits = random_bits(start, len(w), keys[0], w.device)
    more = mixed(bits ^ keys[1])
    for kept, value, random in ((weight, w, more >> 16 if stochastic else None), (mean, m, more), (square, v, bits)):
        kept.copy_(value if random is None or kept.dtype != torch.bfloat16 else rounded(value, random))


@functools.cache
def compiled(device: str) -> Callable[..., None] | None:
    """`advance` as one kernel, whose only traffic is what it reads and keeps; None where torch can make none.

    The forty operations one by one read and write thirty times as much.
    """
    one_kernel = torch.compile(advance, dynamic=True)
    zeros = functools.partial(torch.zeros, 256, dtype=torch.bfloat16, device=device)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns of what it uses itself
            one_kernel(zeros(), zeros(), zeros(), zeros(), (0.9, 0.999, 1e-8, 1.0, 1e-3, 0.5), 0, (1, 2), True)
    except Exception as error:  # of many kinds: no Triton, no compiler, a device that it does not know
        warn_once(
            log,
            f"torch.compile makes no kernel of the optimizer's step, so that it takes longer "
            f"({' '.join(str(error).split())[:200]})",
        )
        return None
    return one_kernel


def key(seed: Sequence[int], step: int, number: int) -> tuple[int, int]:
    """Two signed 32-bit numbers that the random bits of a weight in a step come from."""
    first, second = np.random.SeedSequence([*seed, step, number]).generate_state(2).view(np.int32)
    return int(first), int(second)


def random_bits(start: int, count: int, of: int, device: torch.device) -> Int[torch.Tensor, " count"]:
    """32 random bits for each of so many elements, from an index in the complete weight on; they return after 2³²."""
    first = (start + of + 2**31) % 2**32 - 2**31  # as a signed number
    return mixed(torch.arange(count, dtype=torch.int32, device=device) + first)


def mixed(x: Int[torch.Tensor, " count"]) -> Int[torch.Tensor, " count"]:
    """The hash lowbias32 (Wellons 2018), in signed numbers: products wrap around, and shifts bring the sign in."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return x ^ ((x >> 16) & 0xFFFF)


def rounded(values: Float[torch.Tensor, " count"], bits: Int[torch.Tensor, " count"]) -> Float[torch.Tensor, " count"]:
    """Float32 as bfloat16: away from 0 in as many of 65,536 cases as the part says that bfloat16 leaves out.

    Only the lowest 16 of the random bits count. Infinity and what is not a number stay what they are.
    """
    moved = (values.view(torch.int32) + (bits & 0xFFFF)) & ~0xFFFF  # bfloat16 is the upper half of a float32
    return moved.view(torch.float32).to(torch.bfloat16)


def first_element(weight: torch.Tensor) -> int:
    """The index, in the complete weight, of the first element that this process holds."""
    if not isinstance(weight, DTensor):
        return 0
    start, sharded = 0, [d for d, placement in enumerate(weight.placements) if not isinstance(placement, Replicate)]
    for dimension in sharded:
        if len(sharded) > 1 or weight.placements[dimension] != Shard(0):
            raise NotImplementedError(f"a weight that is sharded as {weight.placements}")
        # torch gives each process as many rows, as long as there are any.
        rows = -(-weight.shape[0] // weight.device_mesh.size(dimension))
        start = min(rows * weight.device_mesh.get_local_rank(dimension), weight.shape[0])
    return start * math.prod(weight.shape[1:])


def _names(kinds: set[torch.dtype]) -> str:
    return " and ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
