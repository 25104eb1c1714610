"""Models that read padding although it is masked, and so say other things of a row or a prompt in another batch."""

import itertools
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from transformers import GenerationConfig, PreTrainedModel

from diverseevol.engine.model_limits import positions

_known: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()

States = Callable[[Int[torch.Tensor, "batch length"], Int[torch.Tensor, "batch length"]], torch.Tensor]


def reads_padding_before(model: PreTrainedModel, prompt: Sequence[int]) -> bool:
    """Whether padding on the left of a prompt changes what a model answers (RWKV, RecurrentGemma, DeepSeek 4).

    A model is asked once, however often it answers: this is a matter of its architecture and not of its weights.

    Args:
        model: the model.
        prompt: any prompt; it is cut and repeated to the lengths that show it.
    """
    # A short prompt, because states forget padding, and a long one, because some models compress long prompts only.
    most = max(2, positions(model) or 1000) - 2  # less a token of the answer
    if model not in _known:
        _known[model] = any(
            _moves(model, prompt, min(length, most), pads) for length, pads in ((8, 3), (64, 17)) if most > pads
        )
    return _known[model]


@torch.no_grad()
def _moves(model: PreTrainedModel, prompt: Sequence[int], length: int, pads: int) -> bool:
    """Whether the logits after a prompt move where it has some padding and is as long as that together with it."""
    ids = list(itertools.islice(itertools.cycle(prompt), length - pads))
    padded = torch.tensor([[ids[0]] * pads + ids], device=model.device)
    mask = torch.tensor([[0] * pads + [1] * len(ids)], device=model.device)
    configuration = GenerationConfig(max_new_tokens=1, do_sample=False, pad_token_id=ids[0])
    wanted = {"generation_config": configuration, "output_logits": True, "return_dict_in_generate": True}
    with_padding, alone = (
        model.generate(tokens, attention_mask=seen, **wanted).logits[0]
        for tokens, seen in ((padded, mask), (padded[:, pads:], mask[:, pads:]))
    )
    return _differ(model, with_padding, alone)


def reads_padding_after(model: PreTrainedModel, states: States) -> bool:
    """Whether padding on the right of a row changes what a model says of the row (CPM-Ant).

    Args:
        model: the model.
        states: its hidden states [batch, length, dim] of ids and mask.
    """
    row = torch.arange(8, device=model.device)[None] % model.config.get_text_config().vocab_size
    like_the_row = torch.cat([row[:, :4], row[:, :4]], dim=1)
    mask = torch.tensor([[1] * 4 + [0] * 4], device=model.device)
    return _differ(model, states(row, mask)[:, :4], states(like_the_row, mask)[:, :4])


def _differ(model: PreTrainedModel, first: Float[torch.Tensor, "..."], second: Float[torch.Tensor, "..."]) -> bool:
    """Whether numbers differ by more than rounding: by a millionth of their spread, in bfloat16 by hundredths."""
    rounded = model.dtype != torch.float32 or torch.is_autocast_enabled(model.device.type)
    first, second = first.float(), second.float()
    return bool((first - second).abs().max() > (0.2 if rounded else 2e-3) * second.std())
