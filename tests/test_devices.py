"""What fits and passes leave on a device, and what they copy. No GPU is needed: moves and casts are counted."""

import collections
import dataclasses
import functools
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.strategies import strategy
from torch.utils._python_dispatch import TorchDispatchMode

from diverseevol.engine.learner import Learner
from diverseevol.options import Generation, LoRA


def test_models_stay_where_they_computed_and_moments_are_not_moved(learner: Learner, tmp_path, monkeypatch) -> None:
    models: list[object] = []
    optimizers: list[int] = []
    monkeypatch.setattr(lightning.LightningModule, "cpu", lambda module: models.append(module))
    monkeypatch.setattr(strategy, "_optimizers_to_device", lambda moved, device: optimizers.append(len(moved)))
    model = learner.fit(np.arange(4), (0,)).model
    learner.probe(model, np.arange(4), tmp_path / "probe")
    learner.disagreement([model, model], np.arange(4), tmp_path / "committee", ["committee_kl"])
    assert models == []
    assert optimizers == [1, 0, 0, 0]  # to the device before the fit; nothing at the end of the fit and of two passes


class Casts(TorchDispatchMode):
    """Counts how often the numbers at an address are copied to another type."""

    def __init__(self) -> None:
        super().__init__()
        self.of: collections.Counter[int] = collections.Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default:
            self.of[args[0].data_ptr()] += 1
        return func(*args, **(kwargs or {}))


def test_weights_beside_adapters_are_cast_once_too_and_take_no_gradients_afterwards(learner: Learner, tmp_path) -> None:
    mixed = functools.partial(learner.trainer, precision="bf16-mixed")
    own = dataclasses.replace(learner, tuning=LoRA(steps=1, rank=2), trainer=mixed)
    model = own.models.to_train().eval()
    frozen = {name: weight for name, weight in model.named_parameters() if not weight.requires_grad}
    with Casts() as answering:
        own.answer(model, [("What?", "")], [(0,)], Generation(max_new_tokens=6, temperature=0))
    with Casts() as probing:
        own.probe(model, np.arange(8), tmp_path)
    for casts in (answering, probing):
        of_layers = [casts.of[weight.data_ptr()] for name, weight in frozen.items() if "proj" in name]
        assert max(of_layers) == 1
    assert not any(weight.requires_grad for weight in frozen.values())
