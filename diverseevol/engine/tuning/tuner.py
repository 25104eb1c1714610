"""Fine-tuning: the foundation model becomes the round's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from lightning.pytorch.strategies import ModelParallelStrategy
from transformers import PreTrainedModel

from diverseevol.data.tokens import Tokens
from diverseevol.engine.batch_dependence import warn_if_batch_dependent
from diverseevol.engine.fast_path import quick_products
from diverseevol.engine.memory import explain_out_of_memory
from diverseevol.engine.model_job import ModelJob
from diverseevol.engine.model_limits import check_readable
from diverseevol.engine.packing import attention_restored
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.trainers import close_groups, device_of, free_old_trainers, is_sharded, seeded
from diverseevol.engine.tuning.batches import plan_steps, step_loader
from diverseevol.engine.tuning.checkpoint import Checkpoints
from diverseevol.engine.tuning.compiled import check_compiler, layers_compiled
from diverseevol.engine.tuning.savings import what_saves_memory
from diverseevol.engine.tuning.sft import InstructionTuner, checkpoint_activations
from diverseevol.engine.tuning.sharding import Shards
from diverseevol.options import LoRA, Tuning

if TYPE_CHECKING:
    from diverseevol.engine.tuning.lora import Adapters


@dataclass(frozen=True)
class Fit:
    """A fine-tuned model.

    Attributes:
        model: the model.
        curve: the loss and learning rate of each optimizer step.
        earlier: the seconds that the fit took before it went on from a checkpoint.
    """

    model: PreTrainedModel
    curve: list[dict[str, float]]
    earlier: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Tuner(ModelJob):
    """Fine-tunes a foundation model.

    Attributes:
        foundation: the weights that every fit starts from.
        encoded: all rows of the data set as tokens.
        tuning: hyper-parameters of a fit.
    """

    foundation: Pretrained
    encoded: Tokens
    tuning: Tuning

    @cached_property
    def models(self) -> "Pretrained | Adapters":
        """What loads and saves fine-tuned models: of `tuning=lora`, all of them share the foundation weights."""
        if not isinstance(self.tuning, LoRA):
            return self.foundation
        from diverseevol.engine.tuning.lora import Adapters  # peft is optional

        return Adapters(self.foundation, self.tuning)

    def describe(self) -> str | None:
        """How much of the model is trained, in a sentence; None where all of it is.

        Raises:
            InputError: the model cannot be adapted.
        """
        models = self.models
        return None if isinstance(models, Pretrained) else models.describe()

    def fit(
        self,
        rows: Int[np.ndarray, " pool"],
        seed: Sequence[int],
        on_step: Callable[[int, dict[str, float]], None] = lambda step, values: None,
        phase: str = "fine-tune",
        checkpoint: Path | None = None,
    ) -> Fit:
        """Fine-tune the foundation model on a pool: always from its own weights, never from an earlier round's.

        Args:
            rows: [pool] row numbers; they may repeat (a bootstrap resample).
            seed: what the order of the rows, dropout, new adapters and stochastic rounding come from; the same seed
                gives the same weights.
            on_step: called with each step's number, loss and learning rate.
            phase: its name in the progress display.
            checkpoint: the folder of this fit's checkpoint, from which it goes on where there is one; None keeps none.
        """
        rng = np.random.default_rng(list(seed))
        tuning = self.tuning
        plan = plan_steps(
            self.encoded, rows, epochs=tuning.epochs, steps=tuning.steps, batch_size=tuning.batch_size,
            micro_batch_tokens=tuning.micro_batch_tokens, rng=rng, packing=tuning.packing,
        )  # fmt: skip
        curve: list[dict[str, float]] = []
        with self.progress.track(phase, len(plan)) as advance:

            def note(step: int, values: dict[str, float]) -> None:
                curve.append({"step": step, **values})
                on_step(step, values)
                advance(1)

            trainer = self.start(fits=True, max_epochs=1, max_steps=len(plan))
            device = device_of(trainer)
            if tuning.compile:
                check_compiler(device)
            dropout, needed = int(rng.integers(2**62)), f"tuning.micro_batch_tokens={tuning.micro_batch_tokens}"
            rank, world = self.processes.rank, self.processes.world
            precision, sharded = str(trainer.precision), is_sharded(trainer)
            remedy = partial(what_saves_memory, self.foundation, tuning, precision, world, sharded)
            with seeded(device, dropout), explain_out_of_memory(needed, remedy):
                complete = self.models.to_train()
                check_readable(complete, self.encoded)
                warn_if_batch_dependent(complete, self.encoded.lengths[rows])
                shards: Shards | None = None
                if isinstance(trainer.strategy, ModelParallelStrategy):
                    shards = Shards(complete, device, world, trainer.precision_plugin)
                model = shards.sharded if shards else complete.to(device)
                model.train()
                if tuning.gradient_checkpointing:
                    checkpoint_activations(model, "enable", tuning.compile)
                free_old_trainers(model)
                module = InstructionTuner(model, tuning, len(plan), note, seed, *([shards.run] if shards else []))
                keeper = Checkpoints(checkpoint, tuning.checkpoint_minutes, curve, self.processes)
                taken = keeper.begin(module, rows, seed)
                for point in taken:
                    note(int(point["step"]), {name: value for name, value in point.items() if name != "step"})
                trainer.callbacks.append(keeper)  # type: ignore[attr-defined]
                threads = module.at_once if world == 1 else 1
                left = plan[len(taken) :] or plan[-1:]  # where no step is left, a batch to restore the state at
                loader = step_loader(self.encoded, left, self.prompt.end, rank, world, threads, tuning.packing)
                faster = layers_compiled(model) if tuning.compile else quick_products(model)
                with faster, attention_restored(model), keeper.at_work():
                    trainer.fit(module, loader)
        if tuning.gradient_checkpointing:
            checkpoint_activations(model, "disable")
        earlier = keeper.earlier
        close_groups(trainer)
        del trainer, module, loader, keeper
        free_old_trainers(model)  # this one's optimizer is twice as large as the model
        fitted = (shards.gathered() if shards else model).eval()
        return Fit(fitted, self.processes.share(curve), earlier)
