"""LoRA (Hu et al. 2021): a round's model is the foundation model with an adapter, and the adapter alone is kept."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, LoraModel
from peft.functional import cast_adapter_dtype
from peft.tuners.lora import Linear
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from diverseevol.engine.pretrained import Pretrained
from diverseevol.errors import InputError, meant
from diverseevol.options import LoRA
from diverseevol.storage.files import read_json, write_json

NAME = "default"  # peft's name of an adapter, which its files leave out
WEIGHTS, CONFIGURATION = "adapter_model.safetensors", "adapter_config.json"


class Adapters:
    """The models of an evolution, each with an adapter of its own beside the same foundation weights.

    The weights are read once and never change. A model is a copy of the foundation model's modules around them, so that
    any number of models can be asked side by side: a round's, the members of a committee, the foundation model itself.
    """

    def __init__(self, foundation: Pretrained, options: LoRA) -> None:
        """Read nothing yet.

        Args:
            foundation: the model that is adapted.
            options: which of its layers, and how.
        """
        self.foundation = foundation
        self.options = options

    @cached_property
    def _foundation_model(self) -> PreTrainedModel:
        return self.foundation.load().requires_grad_(False)

    def load(self, folder: Path | None = None) -> PreTrainedModel:
        """The foundation model, or with the adapter that a round left in `folder`."""
        weights = self._foundation_model.parameters()
        model = copy.deepcopy(self._foundation_model, {id(weight): weight for weight in weights})
        if folder is not None:
            _read(self.adapted(model), folder)
        return model

    def to_train(self) -> PreTrainedModel:
        """The foundation model with a new adapter, which changes nothing yet; torch's generator draws half of it."""
        return self.adapted(self.load())

    def save(self, model: PreTrainedModel, folder: Path, dtype: Literal["source"] | None = None) -> None:
        """Save a model's adapter, in peft's format; arguments as `Pretrained.save` has them."""
        tensors = self.rounded(model) if dtype is not None else _adapter(model)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.detach().cpu().contiguous() for name, weight in tensors.items()}, folder / WEIGHTS)
        model.peft_config[NAME].save_pretrained(str(folder))
        settings = read_json(folder / CONFIGURATION)
        # A set is written in an order of its own: the same adapter gives the same file.
        for key in ("target_modules", "exclude_modules"):
            if isinstance(settings.get(key), list):
                settings[key].sort()
        write_json(folder / CONFIGURATION, settings)

    def rounded(self, model: PreTrainedModel) -> dict[str, torch.Tensor]:
        """Round a model's adapter to the checkpoint's precision, in place; its weights in that precision."""
        source, tensors = self.foundation.source_dtype(), {}
        for name, weight in _adapter(model).items():
            tensors[name] = weight.detach().to(source)
            weight.data.copy_(tensors[name])
        return tensors

    def merged(self, folder: Path) -> PreTrainedModel:
        """A model like the foundation model, with the adapter in `folder` added to its weights.

        Raises:
            InputError: layers share weights, to which their adapters add different things.
        """
        model = self.foundation.load()
        with _explained(model):
            tuner: Any = LoraModel(model, self._configuration(model), NAME)
        cast_adapter_dtype(model, NAME)
        adapted = [layer.base_layer.weight for layer in model.modules() if isinstance(layer, Linear)]
        if len({weight.data_ptr() for weight in adapted}) < len(adapted):
            raise InputError(
                f"{folder}: layers of {type(model).__name__} share weights and have adapters of their own, so that "
                f"these cannot be added to the weights; load the adapter beside the foundation model instead"
            )
        _read(model, folder)
        merged: PreTrainedModel = tuner.merge_and_unload()
        return merged

    def describe(self) -> str:
        """How much is trained, in a sentence.

        Raises:
            InputError: the model cannot be adapted so.
        """
        with torch.random.fork_rng(devices=[]):
            model = self.to_train()
        weights = _adapter(model).values()
        trained, size = sum(w.numel() for w in weights), sum(w.nbytes for w in weights)
        of = sum(weight.numel() for weight in self._foundation_model.parameters())
        return (
            f"LoRA of rank {self.options.rank}: {trained:,} parameters are trained beside the model's {of:,} "
            f"({trained / of:.2%}); a round keeps {size / 1e6:,.1f} MB"
        )

    def adapted(self, model: PreTrainedModel) -> PreTrainedModel:
        """Add an adapter to a model, in place."""
        configuration = self._configuration(model)
        with _explained(model):
            model.add_adapter(configuration, NAME)
        cast_adapter_dtype(model, NAME)  # to float32: an adapter's steps would be lost in bfloat16
        return model

    def _configuration(self, model: PreTrainedModel) -> LoraConfig:
        """The options as peft has them.

        Raises:
            InputError: the model has no such layers.
        """
        options, kind, head = self.options, type(model).__name__, model.get_output_embeddings()
        linear = {
            name: layer for name, layer in model.named_modules()
            if isinstance(layer, torch.nn.Linear | Conv1D) and layer is not head
        }  # fmt: skip
        # A router of experts, for one, is a linear layer with a result of its own, which peft does not expect.
        special = [name for name, layer in linear.items() if type(layer) not in (torch.nn.Linear, Conv1D)]
        layers = {name: layer for name, layer in linear.items() if name not in special}
        names = sorted({name.rpartition(".")[2] for name in layers})
        targets = None if isinstance(options.target_modules, str) else list(options.target_modules)
        for target in targets or ():
            if not any(f".{name}".endswith(f".{target}") for name in layers):
                raise InputError(
                    f"tuning.target_modules: {kind} has no linear layer {target!r} to adapt{meant(target, names)}; "
                    f"choose from {', '.join(names)}, or all-linear"
                )
        largest = max((min(layer.weight.shape) for layer in layers.values()), default=options.rank)
        if options.rank > largest:
            raise InputError(
                f"tuning.rank is {options.rank}, more than the rank of any layer of {kind} ({largest}); lower it, or "
                f"give tuning=full"
            )
        return LoraConfig(
            r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, task_type="CAUSAL_LM",
            target_modules=targets or "all-linear", exclude_modules=special or None,
        )  # fmt: skip


@contextmanager
def _explained(model: PreTrainedModel) -> Iterator[None]:
    """While peft adapts a model: what it cannot do is said in a sentence, and what it does all the same is not said.

    Raises:
        InputError: peft cannot adapt the model.
    """
    try:
        with warnings.catch_warnings():
            # peft itself sets what it warns of: GPT-2's layers have transposed weights, and experts ranks of their own.
            for message in ("fan_in_fan_out is set to False", "The following (rank|alpha)_pattern keys did not match"):
                warnings.filterwarnings("ignore", message=message)
            yield
    except Exception as error:  # peft's errors are of every kind
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"tuning=lora: peft cannot adapt {type(model).__name__} ({reason}); give tuning.target_modules=[…] with "
            f"other layers, or tuning=full"
        ) from error


def _read(model: PreTrainedModel, folder: Path) -> None:
    """Give a model's adapter the weights in `folder`, whose configuration is for other programs."""
    weights = _adapter(model)
    try:
        tensors = load_file(folder / WEIGHTS)
        shapes, expected = ({n: tuple(w.shape) for n, w in some.items()} for some in (tensors, weights))
        if unequal := sorted(name for name, _ in shapes.items() ^ expected.items()):
            name = unequal[0]
            raise ValueError(f"{name}: expected shape {expected.get(name)}, got {shapes.get(name)}")
        for name, weight in weights.items():
            weight.data.copy_(tensors[name])
    except Exception as error:  # as in `Pretrained.load`
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{folder}: its adapter cannot be loaded ({reason}); delete the folder to redo its step"
        ) from error


def _adapter(model: PreTrainedModel) -> dict[str, torch.nn.Parameter]:
    """The weights of a model's adapter by their names in peft's files."""
    weights = (item for item in model.named_parameters() if item[1].requires_grad)
    return {f"base_model.model.{name.replace(f'.{NAME}.', '.')}": weight for name, weight in weights}
