"""Weights, gradients and optimizer state of a fit spread over processes: FSDP2, the layers one by one."""

import copy
from collections.abc import Callable

import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.plugins.precision.precision import Precision
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from diverseevol.engine.memory import explain_out_of_memory
from diverseevol.errors import InputError


class Shards:
    """A model whose weights are spread over all processes for the time of a fit, a part of each weight in each.

    A layer's weights are complete in every process while the layer computes, and those outside of layers (embedding,
    last norm, head) while `run` does.

    Attributes:
        sharded: the model to train; in a forward pass inside `run` it is used like any other.
    """

    def __init__(self, model: PreTrainedModel, device: torch.device, world: int, precision: Precision) -> None:
        """Take a model apart; its own trained weights are empty until `gathered`.

        Args:
            model: the complete model, the same in every process.
            device: where this process computes.
            world: how many processes there are.
            precision: what the trainer computes in.

        Raises:
            InputError: the model does not say what its layers are, or a weight cannot be spread.
        """
        self._complete = model
        # The copy has weights of its own around the same numbers: what is trained of the model's can then be freed,
        # and what adapters share stays where it is.
        memo: dict[int, object] = {
            id(weight): Parameter(weight.detach(), requires_grad=weight.requires_grad) for weight in model.parameters()
        }
        self.sharded: PreTrainedModel = copy.deepcopy(model, memo)
        del memo
        for weight in model.parameters():
            weight.data = weight.new_empty(0) if weight.requires_grad else weight.data.cpu()
        mesh = init_device_mesh(device.type, (world,))
        # Mixed precision casts a layer's weights before they are sent, not after: half the traffic, and autograd keeps
        # no copy of them. Hidden states and weights outside of layers stay as they are without processes.
        mixed = isinstance(precision, MixedPrecision)
        cast = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        try:
            for layer in layers(self.sharded):
                fully_shard(layer, mesh=mesh, mp_policy=cast if mixed else MixedPrecisionPolicy())
            self._root = _Root(self.sharded)
            fully_shard(self._root, mesh=mesh)
        except (ValueError, NotImplementedError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"trainer.strategy=fsdp: {type(model).__name__} cannot be spread over processes ({reason}); give "
                f"trainer.strategy=ddp"
            ) from error

    def run(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The result of some work with the sharded model, all of one forward pass, in all processes at once."""
        result: torch.Tensor = self._root(work)
        return result

    def gathered(self) -> PreTrainedModel:
        """The complete model with its weights as they are trained by now, in all processes at once.

        Raises:
            InputError: the device holds this process's part, and has no room for all of them.
        """
        trained = [shard for shard in self.sharded.parameters() if shard.requires_grad]
        size = sum(shard.numel() * shard.element_size() for shard in trained)
        adapters = any(not weight.requires_grad for weight in self._complete.parameters())
        remedy = "model.dtype=bfloat16" + ("" if adapters else " with tuning.rounding=stochastic, tuning=lora")
        with explain_out_of_memory(
            f"trainer.strategy=fsdp: the {size / 1e9:.1f} GB of weights that were trained, complete on each device "
            f"beside its part of them",
            lambda: f"give {remedy}, or a device with more memory",
        ):
            for weight, shard in zip(self._complete.parameters(), self.sharded.parameters(), strict=True):
                if weight.requires_grad:
                    weight.data = shard.detach().full_tensor()  # type: ignore[attr-defined]
        return self._complete


class _Root(torch.nn.Module):
    """The root of what is sharded: FSDP2 completes the weights outside of layers for its forward pass.

    Not the model itself, because body and head are called apart, and a tied weight is of both.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        return work()


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The layers of a model, inner ones first: those that transformers never splits, and that share no weight.

    Raises:
        InputError: there are none.
    """
    names = set(model._no_split_modules or ())
    owned = {module: {id(weight) for weight in module.parameters(recurse=False)} for module in model.modules()}

    def shares(layer: torch.nn.Module) -> bool:
        inside = {*layer.modules()}
        own = set().union(*(owned[module] for module in inside))
        return any(weights & own for module, weights in owned.items() if module not in inside)

    separate = [module for module in model.modules() if type(module).__name__ in names and not shares(module)]
    if not separate:
        raise InputError(
            f"trainer.strategy=fsdp: {type(model).__name__} has no layers that could be spread over processes one by "
            f"one; give trainer.strategy=ddp"
        )
    return separate[::-1]
