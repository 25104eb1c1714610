"""Lightning trainers, started for as many processes as there are, and the randomness of what runs on their device."""

import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import distributed
from transformers import PreTrainedModel

from diverseevol.engine.fast_path import is_small
from diverseevol.errors import InputError
from diverseevol.options import check_strategy
from diverseevol.parallel.processes import Processes


def start(
    make: Callable[..., lightning.Trainer], processes: Processes, *, fits: bool = False, **options: Any
) -> lightning.Trainer:
    """A trainer that neither logs nor saves, on this process's device.

    Args:
        make: makes it; of its options, `strategy` is "ddp", the default, or "fsdp".
        processes: this process and its peers.
        fits: whether it is to fit, where a strategy makes a difference: other passes run complete models.
        options: further ones.

    Raises:
        InputError: Lightning refuses the options in `make`, or the user may not set them.
    """
    asked = getattr(make, "keywords", {})
    check_strategy(asked.get("strategy", "ddp"), asked.get("precision"))
    reserved = {"devices", "num_nodes", "max_epochs", "max_steps"} & set(asked)
    if reserved:
        raise InputError(
            f"trainer.{sorted(reserved)[0]} is not yours to set: tuning.epochs and tuning.steps say how long, and the "
            f"processes are those that torchrun or srun starts, one for each device; leave it out"
        )
    # A deterministic trainer would have torch fill all new memory before it is written, a tenth of the time of a fit,
    # although memory that was not written is never read.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    placed: dict[str, Any] = {"strategy": "auto", "devices": 1}
    if processes.world > 1:
        nodes = processes.world // processes.local_world
        placed = {"strategy": "ddp", "devices": processes.local_world, "num_nodes": nodes}
        if fits and asked.get("strategy") == "fsdp":
            placed["strategy"] = ModelParallelStrategy(processes.world, 1)
    # All processes have torchrun's variables (`join`). Left to look for itself, Lightning would
    # find SLURM, and queue the job again by itself.
    environment = LightningEnvironment() if processes.world == 1 else TorchElasticEnvironment()
    try:
        trainer = make(
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,  # Lightning's would reshuffle: the loaders share the work out themselves
            plugins=[environment, *_plugins(make)],
            **placed,
            **options,
        )
    except (MisconfigurationException, ImportError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"trainer: Lightning cannot start with these options ({reason}); change trainer.…") from error
    # Signals are the command's. Lightning's handler of SIGTERM has the processes talk to each other from wherever each
    # of them is.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


def _plugins(make: Callable[..., lightning.Trainer]) -> list[Any]:
    """The user's own plugins, `trainer.plugins`: one or several."""
    plugins = getattr(make, "keywords", {}).get("plugins") or []
    return plugins if isinstance(plugins, list) else [plugins]


class StaysOnDevice(lightning.LightningModule):
    """A module whose model stays on the device that it computed on.

    Lightning copies a model and its optimizer to the processor's memory at the end of each fit and pass: for seven
    billion weights tens of gigabytes, and the next pass would copy the model back.
    """

    def cpu(self) -> Any:
        """Nothing: what is called at the end."""
        return self

    def on_train_end(self) -> None:
        """Leave the optimizer to be freed where it is."""
        self.trainer.strategy.optimizers = []


def device_of(trainer: lightning.Trainer) -> torch.device:
    """Where a trainer computes."""
    return trainer.strategy.root_device


def is_sharded(trainer: lightning.Trainer) -> bool:
    """Whether each process holds a part of the weights, so that all of them meet in every pass."""
    return isinstance(trainer.strategy, ModelParallelStrategy)


def close_groups(trainer: lightning.Trainer) -> None:
    """Close the process groups that a strategy opened for one fit: each holds a connection to every peer."""
    if isinstance(trainer.strategy, ModelParallelStrategy):
        for group in trainer.strategy.device_mesh.get_all_groups():
            if group is not distributed.group.WORLD:
                distributed.destroy_process_group(group)


@contextmanager
def cast_once(trainer: lightning.Trainer, model: torch.nn.Module) -> Iterator[None]:
    """A trainer's precision, for passes that change no weights: mixed precision casts each weight once, and keeps it.

    Lightning's own context casts all weights in each forward pass: for each token of an answer.
    """
    plugin = trainer.precision_plugin
    frozen: list[torch.nn.Parameter] = []
    if isinstance(plugin, MixedPrecision):
        frozen = [weight for weight in model.parameters() if not weight.requires_grad and weight.is_floating_point()]
        dtype = torch.bfloat16 if plugin.precision == "bf16-mixed" else torch.half
        caching = functools.partial(torch.autocast, plugin.device, dtype=dtype)
        plugin.autocast_context_manager = caching  # type: ignore[method-assign]
    for weight in frozen:  # those beside adapters: torch keeps what it cast only of weights that take gradients
        weight.requires_grad_(True)
    try:
        with plugin.forward_context():  # torch forgets what it cast where the outermost context ends
            yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def free_old_trainers(model: PreTrainedModel) -> None:
    """Free the memory of trainers that are no longer used: cycles of references hold their models and optimizers.

    Not for a small model, whose memory is not worth the time.
    """
    if not is_small(model):
        gc.collect()


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seeded randomness on the processor and a device; afterwards torch's generators are as they were before."""
    # Reading the state of a CUDA device's generator opens the device, so only where it computes.
    devices = [device] if device.type == "cuda" else []
    if devices:
        gc.collect()  # earlier trainers, in cycles of references, still hold their models on the device
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
