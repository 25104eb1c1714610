"""Lightning trainers, started for as many processes as there are, and the randomness of what runs on their device."""

import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.plugins.precision import MixedPrecision
from transformers import PreTrainedModel

from diverseevol.engine.fast_path import is_small
from diverseevol.errors import InputError
from diverseevol.parallel.processes import Processes


def start(make: Callable[..., lightning.Trainer], place: Processes, **options: Any) -> lightning.Trainer:
    """A trainer that neither logs nor saves, on this process's device.

    Args:
        make: makes a Lightning trainer from further keywords.
        place: this process among its peers.
        options: further keywords of the trainer.

    Raises:
        InputError: Lightning refuses the options that `make` brings, or they are not the user's to set.
    """
    taken = {"devices", "num_nodes", "strategy", "max_epochs", "max_steps"} & set(getattr(make, "keywords", {}))
    if taken:
        raise InputError(
            f"trainer.{sorted(taken)[0]} is not yours to set: tuning.epochs and tuning.steps say how long, and the "
            f"processes are those that torchrun or srun starts, one for each device; leave it out"
        )
    # A deterministic trainer would have torch fill all new memory before it is written: a tenth of a fit. What is not
    # written is not read, here as elsewhere.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    several = {"strategy": "ddp", "devices": place.local_world, "num_nodes": place.world // place.local_world}
    try:
        return make(
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,  # Lightning's would reshuffle: the loaders share the work out themselves
            **(several if place.world > 1 else {"devices": 1}),
            **options,
        )
    except (MisconfigurationException, ImportError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"trainer: Lightning cannot start with these options ({reason}); change trainer.…") from error


def validated(make: Callable[..., lightning.Trainer], place: Processes) -> Callable[..., lightning.Trainer]:
    """The same maker of trainers, once it has made one: what Lightning refuses is said before any work is done.

    Raises:
        InputError: as `start`.
    """
    start(make, place)
    return make


def device_of(trainer: lightning.Trainer) -> torch.device:
    """Where a trainer computes."""
    return trainer.strategy.root_device


@contextmanager
def cast_once(trainer: lightning.Trainer) -> Iterator[None]:
    """A trainer's precision, for passes that change no weights: mixed precision casts each weight once, and keeps it.

    Lightning's own context casts all weights in each forward pass: for each token of an answer.
    """
    plugin = trainer.precision_plugin
    if isinstance(plugin, MixedPrecision):
        dtype = torch.bfloat16 if plugin.precision == "bf16-mixed" else torch.half
        caching = functools.partial(torch.autocast, plugin.device, dtype=dtype)
        plugin.autocast_context_manager = caching  # type: ignore[method-assign]
    with plugin.forward_context():  # torch forgets what it cast where the outermost context ends
        yield


def free_old_trainers(model: PreTrainedModel) -> None:
    """Free the memory of trainers that are no longer used: cycles of references hold their models and optimizers.

    Not for a small model, whose memory is not worth the time.
    """
    if not is_small(model):
        gc.collect()


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Randomness of our own on the processor and a device; what others draw afterwards is what it would have been."""
    # A CUDA device is asked for its generator's state only where it is the one that computes: asking opens it.
    devices = [device] if device.type == "cuda" else []
    if devices:
        gc.collect()  # trainers of before lie in cycles of references, and their models on the device with them
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
