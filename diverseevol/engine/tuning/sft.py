"""Supervised fine-tuning on the pool: response-only loss, normalised over the complete optimizer batch."""

import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, get_scheduler

from diverseevol.engine.fast_path import batches_at_once, quick_products
from diverseevol.engine.products import OneDnnProducts, both_passes
from diverseevol.engine.side_by_side import side_by_side
from diverseevol.engine.trainers import StaysOnDevice
from diverseevol.engine.tuning.loss import SummedLoss
from diverseevol.engine.tuning.optimizer import make_optimizer
from diverseevol.errors import InputError, warn_once
from diverseevol.options import Tuning

log = logging.getLogger(__name__)


class InstructionTuner(StaysOnDevice):
    """Fine-tuning of those weights of a causal language model that take gradients.

    A batch is one optimizer step: a list of micro-batches. The loss of a step is the sum of its response tokens'
    cross entropies divided by the number of those tokens in the *complete* step, over all micro-batches and processes.
    Neither accumulation nor the number of processes changes it. (The authors' trainer averages the
    means of its micro-batches, so that a token counts for more in a micro-batch with fewer of them.)
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tuning: Tuning,
        total_steps: int,
        on_step: Callable[[int, dict[str, float]], None] = lambda step, values: None,
        seed: Sequence[int] = (),
        run: Callable[[Callable[[], torch.Tensor]], torch.Tensor] = lambda work: work(),
    ) -> None:
        """Bind a model, which is trained in place, to the optimizer steps that its learning-rate schedule spans.

        `on_step` is called on rank 0 after each step with its number (from 1), loss and learning rate; stochastic
        rounding comes from `seed`; `run` is what a sharded model's forward passes go through (`Shards.run`).
        """
        super().__init__()
        self.automatic_optimization = False  # a step holds a varying number of micro-batches
        self.model = model
        self.tuning = tuning
        self.total_steps = total_steps
        self.on_step = on_step
        self.seed = seed
        self.run = run
        self.losses: list[float] = []
        self.trained = [weight for weight in model.parameters() if weight.requires_grad]
        self.summed_loss = SummedLoss(model)
        # Threads would draw dropout from one stream in an order of their own, and compiled code has threads inside.
        plain = not tuning.gradient_checkpointing and not tuning.compile and not has_dropout(model)
        self.at_once = batches_at_once(model) if plain else 1

    def configure_model(self) -> None:
        """Nothing: Lightning wants a sharded model to be made here, and the one that is bound is made already."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Take no step where the checkpoint that the fit goes on from is of its last one: -1 ends Lightning's loop."""
        return -1 if len(self.losses) == self.total_steps else None

    def training_step(self, batch: list[dict[str, torch.Tensor]], batch_idx: int) -> None:
        """Take one optimizer step over its micro-batches."""
        optimizer: Any = self.optimizers()
        # The first batch runs one micro-batch after another: `BodyAndHead` tests the model at the first of them.
        in_parallel = self.at_once > 1 and self.trainer.world_size == 1 and len(self.losses) > 0
        total = self._gradients_side_by_side(batch) if in_parallel else self._gradients(batch)
        if self.tuning.max_grad_norm:
            self._clip()
        optimizer.step()
        optimizer.zero_grad()
        scheduler: Any = self.lr_schedulers()
        rate = float(scheduler.get_last_lr()[0])
        scheduler.step()
        total = self.trainer.strategy.reduce(total, reduce_op="sum")
        self.losses.append(float(total))
        if not torch.isfinite(total):
            raise InputError(
                f"the training loss is {float(total)} at step {len(self.losses)}; lower tuning.learning_rate "
                f"({self.tuning.learning_rate}) or use trainer.precision=32-true"
            )
        if self.trainer.is_global_zero:
            self.on_step(len(self.losses), {"loss": float(total), "learning_rate": rate})

    def warm_up(self, batch: list[dict[str, torch.Tensor]]) -> None:
        """Do what is tested or laid out at the first batch, and nothing else: where a fit goes on from a checkpoint."""
        self._gradients(batch[:1])
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()

    def _gradients(self, batch: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """Add up the gradients of the micro-batches; their losses' sum."""
        total = torch.zeros((), device=self.device)
        for micro in batch:
            loss = self.run(functools.partial(self.summed_loss, micro)) / micro["normaliser"]
            # Data-parallel strategies average gradients over processes; the loss is already normalised over them all.
            self.manual_backward(loss * self.trainer.world_size)
            total += loss.detach()
        return total

    def _gradients_side_by_side(self, batch: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """The same on several threads; gradients are added in the order of the micro-batches."""

        def of(micro: dict[str, torch.Tensor]) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
            loss = self.summed_loss(micro) / micro["normaliser"]
            return loss.detach(), torch.autograd.grad(loss, self.trained, allow_unused=True)

        total = torch.zeros((), device=self.device)
        for start in range(0, len(batch), self.at_once):
            for loss, gradients in side_by_side(of, batch[start : start + self.at_once]):
                total += loss
                for weight, gradient in zip(self.trained, gradients, strict=True):
                    if gradient is not None:
                        weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
        return total

    def _clip(self) -> None:
        """Clip the gradients to `max_grad_norm`."""
        # By torch itself: Lightning refuses to clip under mixed precision for a fused optimizer, because such an
        # optimizer may unscale gradients itself, even where nothing is scaled.
        # Under float16 the gradients are multiplied by the scaler's factor until the optimizer steps.
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else float(scaler.get_scale())
        torch.nn.utils.clip_grad_norm_(self.trained, self.tuning.max_grad_norm * scale)

    def configure_optimizers(self) -> Any:
        """AdamW with the named schedule over all steps."""
        optimizer = make_optimizer(self.trained, self.tuning, self.seed, self.device)
        # Rounded up, as the trainer does whose key the paper's 0.03 is.
        warmup = math.ceil(self.total_steps * self.tuning.warmup_ratio)
        try:
            scheduler = get_scheduler(
                self.tuning.schedule,
                optimizer,
                num_warmup_steps=warmup,
                num_training_steps=max(self.total_steps, warmup + 1),  # polynomial divides by the steps after it
            )
        except ValueError as error:
            raise InputError(
                f"tuning.schedule is {self.tuning.schedule!r}, which does not go with tuning.learning_rate="
                f"{self.tuning.learning_rate} ({error}); change either"
            ) from error
        if self.total_steps == 1 and not any(scheduler.get_last_lr()):
            warn_once(
                log,
                "the fit has a single optimizer step, which warm-up gives a learning rate of 0, so that nothing is "
                "learned; give tuning.warmup_ratio=0, a smaller tuning.batch_size or more tuning.epochs",
            )
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def has_dropout(model: PreTrainedModel) -> bool:
    """Whether a model's configuration names a dropout rate above 0, whatever its name, or an adapter has one."""
    settings = model.config.get_text_config().to_dict()
    added = any(isinstance(layer, torch.nn.Dropout) and layer.p > 0 for layer in model.modules())
    return added or any("drop" in name and isinstance(value, float) and value > 0 for name, value in settings.items())


def checkpoint_activations(model: PreTrainedModel, verb: Literal["enable", "disable"], compiled: bool = False) -> None:
    """Have activations computed again in the backward pass, or not; `compiled` layers leave quick products alone.

    Raises:
        InputError: the model does not support it.
    """
    # transformers 5 renamed these methods, and warns where it knows both names.
    current = f"activation_checkpointing_{verb}"
    change = getattr(model, current if hasattr(model, current) else f"gradient_checkpointing_{verb}")
    if verb == "disable":
        change()
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if not compiled and isinstance(quick_products(model), OneDnnProducts):
        options["context_fn"] = both_passes
    try:
        change(options)
    except ValueError as error:
        raise InputError(
            f"tuning.gradient_checkpointing=true: {type(model).__name__} does not support it; leave it out, and lower "
            f"tuning.micro_batch_tokens"
        ) from error
