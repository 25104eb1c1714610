"""Models that read padding although it is masked, so that their results for a row depend on its batch."""

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

    Tested once for each model: it depends on the architecture and not on the weights. Any prompt will do; it is cut and
    repeated to the lengths that show it.
    """
    # A short prompt, because states forget padding, and a long one, because some models compress long prompts only.
    longest = max(2, positions(model) or 1000) - 2  # less a token of the answer
    if model not in _known:
        _known[model] = any(
            _moves(model, prompt, min(length, longest), pads) for length, pads in ((8, 3), (64, 17)) if longest > pads
        )
    return _known[model]


@torch.no_grad()
def _moves(model: PreTrainedModel, prompt: Sequence[int], length: int, pads: int) -> bool:
    """Whether padding changes the logits after a prompt; `length` is of prompt and padding together."""
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
    """Whether padding on the right of a row changes the hidden states of the row (CPM-Ant)."""
    row = torch.arange(8, device=model.device)[None] % model.config.get_text_config().vocab_size
    like_the_row = torch.cat([row[:, :4], row[:, :4]], dim=1)
    mask = torch.tensor([[1] * 4 + [0] * 4], device=model.device)
    return _differ(model, states(row, mask)[:, :4], states(like_the_row, mask)[:, :4])


def _differ(model: PreTrainedModel, states: Float[torch.Tensor, "..."], reference: Float[torch.Tensor, "..."]) -> bool:
    """Whether numbers differ by more than rounding: by a millionth of their spread, in bfloat16 by hundredths."""
    rounded = model.dtype != torch.float32 or torch.is_autocast_enabled(model.device.type)
    states, reference = states.float(), reference.float()
    return bool((states - reference).abs().max() > (0.2 if rounded else 2e-3) * reference.std())
