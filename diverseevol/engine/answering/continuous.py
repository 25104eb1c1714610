"""Greedy answers by transformers' continuous batching: a question takes the place of one that has ended, at once."""

from collections.abc import Sequence

import torch
from transformers import GenerationConfig, PreTrainedModel

from diverseevol.engine.answering.generation import until
from diverseevol.errors import InputError


def check_continuous(device: torch.device, *, autocast: bool) -> None:
    """Check that answers can be made so here.

    Args:
        device: where the model is.
        autocast: whether the trainer casts weights as they are used; continuous batching, on threads of its own, would
            compute in the weights' own precision instead.

    Raises:
        InputError: they cannot.
    """
    if device.type != "cuda":
        raise InputError(
            f"generation.continuous=true is for CUDA, and the model is on {device.type}; give generation.continuous="
            f"false"
        )
    if autocast:
        raise InputError(
            "generation.continuous=true computes in the weights' precision, and the trainer's is mixed; give "
            "model.dtype=bfloat16 with trainer.precision=bf16-true or 32-true, or generation.continuous=false"
        )


def generate_continuously(
    model: PreTrainedModel, prompts: Sequence[list[int]], max_new_tokens: int, stop_tokens: list[int]
) -> list[list[int]]:
    """Complete prompts greedily.

    Args:
        model: any causal language model whose attention transformers can page.
        prompts: token ids of each prompt.
        max_new_tokens: an answer's greatest length.
        stop_tokens: ids at which an answer ends.

    Returns:
        The new token ids of each prompt, in the prompts' order, without the stop token.

    Raises:
        InputError: transformers cannot do it with this model.
    """
    configuration = GenerationConfig(max_new_tokens=max_new_tokens, **until(stop_tokens))
    attention = model.config._attn_implementation
    try:
        outputs = model.eval().generate_batch(list(prompts), generation_config=configuration)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of many kinds: layers that keep states, attention that cannot be paged
        raise _refusal(f"{type(error).__name__}: {error}") from error
    finally:
        if model.config._attn_implementation != attention:
            model.set_attn_implementation(attention)
    if failed := next((output.error for output in outputs.values() if output.error), None):
        raise _refusal(failed)
    if len(outputs) < len(prompts):
        raise _refusal(f"{len(outputs)} of {len(prompts)} questions came back")
    by_number = sorted(outputs.items(), key=lambda item: int(item[0].rpartition("_")[2]))
    return [[token for token in output.generated_tokens if token not in stop_tokens] for _, output in by_number]


def _refusal(reason: object) -> InputError:
    shortened = " ".join(str(reason).split())[:300]
    return InputError(
        f"generation.continuous=true: transformers' continuous batching fails with this model ({shortened}); give "
        f"generation.continuous=false"
    )
