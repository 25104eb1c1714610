"""What to try where a fit needs more memory than a device has: settings, and what each would save by arithmetic."""

import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import replace

from diverseevol.engine.arithmetic import FLOAT32, Numbers, Shape, memory_of_fit, total
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.shapes import shape_without_weights
from diverseevol.options import LoRA, Tuning

log = logging.getLogger(__name__)
SETTINGS = 3  # that are named
PLAIN = "give a smaller tuning.micro_batch_tokens, tuning.gradient_checkpointing=true, or tuning=lora"


def what_saves_memory(
    foundation: Pretrained, tuning: Tuning, precision: str, processes: int = 1, sharded: bool = False
) -> str:
    """The settings that would save most of a fit's memory, and how much, for a sentence.

    Where the arithmetic knows nothing of the model, the sentence has no sizes.

    Args:
        foundation: the model that is trained; its weights are not read.
        tuning: how.
        precision: `trainer.precision`.
        processes: how many there are, a device each.
        sharded: whether each holds a part of the weights.
    """
    if (shape := _shape(foundation, tuning)) is None:
        return PLAIN
    numbers = Numbers.of(foundation.dtype, precision)
    needed = total(memory_of_fit(shape, tuning, numbers, processes, sharded))
    saved = {
        setting: needed - total(memory_of_fit(*changed, processes, shares))
        for setting, changed, shares in _settings(foundation, shape, tuning, precision, processes, sharded)
    }
    best = sorted((setting for setting in saved if saved[setting] > 0), key=lambda setting: -saved[setting])
    named = ", ".join(f"{setting} ({_gigabytes(saved[setting])})" for setting in best[:SETTINGS])
    return f"by arithmetic it takes {_gigabytes(needed)}; {f'try what would save most: {named}' if named else PLAIN}"


def _shape(foundation: Pretrained, tuning: Tuning) -> Shape | None:
    """The shape of the model as it would be trained; None where there is none, so that no sentence is lost over it."""
    try:
        return shape_without_weights(foundation, tuning)
    except Exception as error:  # families of models, and what peft does with them, are of every kind
        log.info("no memory is calculated of it: %s: %s", type(error).__name__, error)
        return None


def _settings(
    foundation: Pretrained, shape: Shape, tuning: Tuning, precision: str, processes: int, sharded: bool
) -> Iterator[tuple[str, tuple[Shape, Tuning, Numbers], bool]]:
    """Each setting as it is written, with what it makes of the fit, and whether weights are then shared out."""
    numbers, half = Numbers.of(foundation.dtype, precision), Numbers.of("bfloat16", precision)
    fewer = max(1, tuning.micro_batch_tokens // 2)
    yield (
        f"tuning.micro_batch_tokens={fewer}",
        (shape, replace(tuning, micro_batch_tokens=fewer), numbers),
        sharded,
    )
    if not tuning.gradient_checkpointing:
        recomputed = replace(tuning, gradient_checkpointing=True)
        yield "tuning.gradient_checkpointing=true", (shape, recomputed, numbers), sharded
    if processes > 1 and not sharded:
        yield "trainer.strategy=fsdp", (shape, tuning, numbers), True
    if isinstance(tuning, LoRA):
        if numbers.weight == FLOAT32:
            yield "model.dtype=bfloat16", (shape, tuning, half), sharded
        return
    if tuning.moments != "bfloat16":
        yield "tuning.moments=bfloat16", (shape, replace(tuning, moments="bfloat16"), numbers), sharded
    if numbers.weight == FLOAT32:
        rounded = replace(tuning, rounding="stochastic")
        yield "model.dtype=bfloat16 with tuning.rounding=stochastic", (shape, rounded, half), sharded
    if importlib.util.find_spec("peft") is not None:
        adapted = LoRA(
            micro_batch_tokens=tuning.micro_batch_tokens, gradient_checkpointing=tuning.gradient_checkpointing
        )
        if (with_adapters := _shape(foundation, adapted)) is not None:
            yield "tuning=lora", (with_adapters, adapted, numbers), sharded


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e6:.1f} MB"
