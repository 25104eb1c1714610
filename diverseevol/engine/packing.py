"""Packing: rows that lie one after another in one sequence, without padding, and do not see each other.

A packed batch says where a row begins by `position_ids`, which start at 0 there. transformers confines the attention of
such a batch to each row by a mask of the complete sequence, which costs the square of its length. Where a family has
all that attention depends on passed to a function (as it must for flash attention), `rows_apart` takes its place.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_flash_attention_utils import prepare_fa_kwargs_from_position_ids

from diverseevol.engine.model_limits import positions
from diverseevol.errors import InputError

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None  # type: ignore[assignment]

ROWS_APART = "diverseevol_rows_apart"  # our attention's name in transformers
NOT_OURS = ("attention_mask", "softcap", "s_aux", "position_bias")  # what `rows_apart` does not do
# Rows of the self-check: long enough for windows and chunks, and a short one, all of which sees what leaks into it.
CHECKED_LENGTHS = (17, 64, 4)

States = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]


def row_ends(model: PreTrainedModel, position_ids: Int[torch.Tensor, "1 length"]) -> dict[str, Any]:
    """Where the rows of a packed batch end, as attention by rows wants it; nothing for attention with a mask."""
    attention = model.config._attn_implementation
    if attention != ROWS_APART and "flash" not in attention:
        return {}
    (ends, _), (longest, _) = prepare_fa_kwargs_from_position_ids(position_ids)
    lengths = dict.fromkeys(("max_length_q", "max_length_k"), int(longest))
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, **lengths}


@contextmanager
def attention_restored(model: PreTrainedModel) -> Iterator[None]:
    """Give a model its own attention back afterwards, where packing has changed it."""
    own = model.config._attn_implementation
    yield
    if model.config._attn_implementation != own:
        model.set_attn_implementation(own)


def keep_rows_apart(model: PreTrainedModel, states: States) -> None:
    """Choose an attention with which packed rows have the hidden states that each has alone, if there is one.

    Args:
        model: the model, without dropout.
        states: its hidden states of a batch.

    Raises:
        InputError: there is none.
    """
    own = model.config._attn_implementation
    lengths = [min(length, positions(model) or length) for length in CHECKED_LENGTHS]
    ids = torch.arange(sum(lengths), device=model.device)[None] % model.config.get_text_config().vocab_size
    places = torch.cat([torch.arange(length, device=model.device) for length in lengths])[None]
    alone = [states({"input_ids": row, "attention_mask": torch.ones_like(row)}) for row in ids.split(lengths, dim=1)]
    takes_place = own == "sdpa" and model._supports_flash_attn
    for attention in (ROWS_APART, own) if takes_place else (own,):
        model.set_attn_implementation(attention)
        try:
            packed = states({"input_ids": ids, "position_ids": places}).split(lengths, dim=1)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # code of any family: it takes no positions, or says itself that it cannot do it
            reason = " ".join(str(error).split())[:300]
            continue
        if not any(_differ(model, row, reference) for row, reference in zip(packed, alone, strict=True)):
            return
        reason = "it reads the rows before a row that lie in the same sequence"
    raise InputError(
        f"tuning.packing=true: rows of {type(model).__name__} cannot be packed with model.attention={own} ({reason}); "
        f"give tuning.packing=false"
    )


def _differ(model: PreTrainedModel, row: Float[torch.Tensor, "..."], alone: Float[torch.Tensor, "..."]) -> bool:
    """Whether a row's states differ by more than rounding."""
    # A leak changes the first states of a row by tenths, rounding by millionths, in bfloat16 by hundredths.
    rounded = model.dtype != torch.float32 or torch.is_autocast_enabled(model.device.type)
    row, alone = row.float(), alone.float()
    return bool((row - alone).norm() > (0.1 if rounded else 2e-3) * alone.norm())


def rows_apart(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row of a packed batch, as transformers calls it.

    Shapes are not annotated: torch traces this function where it compiles layers, and their check with it.

    Args:
        module: the layer of attention.
        query: [1, heads, tokens, dim]; key and value may have fewer heads, and value another dim.
        key: [1, key heads, tokens, dim].
        value: [1, key heads, tokens, value dim].
        attention_mask: None.
        scaling: of the scores; None for one over the root of dim.
        dropout: of attention weights.
        sliding_window: how many tokens are seen, the token itself included; None for all before it.
        cu_seq_lens_q: [rows + 1] where each row ends, after a 0.
        max_length_q: tokens of the longest row.
        options: more, for other kinds of attention.

    Returns:
        [1, tokens, heads, value dim].

    Raises:
        NotImplementedError: the family's attention does more than this one, or does not pass on where rows end.
    """
    asked = {"attention_mask": attention_mask, **options}
    if cu_seq_lens_q is None or any(asked.get(name) is not None for name in NOT_OURS):
        raise NotImplementedError(f"{ROWS_APART} does not do what {type(module).__name__} asks for")
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # rotary positions are added in float32
        query, key, value = (tensor.to(torch.get_autocast_dtype(kind)) for tensor in (query, key, value))
    if dropout == 0 and _has_kernel(query, value):
        return _by_kernel(query, key, value, cu_seq_lens_q, max_length_q, scaling, sliding_window), None
    return _row_by_row(query, key, value, cu_seq_lens_q, scaling, dropout, sliding_window), None


AttentionInterface.register(ROWS_APART, rows_apart)


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """The same by torch's kernel for rows of different lengths."""
    grouped, behind = query.shape[1] != key.shape[1], -1 if window is None else window - 1
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    out = varlen_attn(q, k, v, ends, ends, longest, longest, scale=scaling, window_size=(behind, 0), enable_gqa=grouped)
    assert isinstance(out, torch.Tensor)  # nothing else was asked for
    return out[None]


def _has_kernel(query: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether that kernel takes such queries and values: on CUDA, in 16 bits, with heads of usual widths."""
    # What else it needs of a device and of torch, the self-check finds out.
    wide = query.shape[-1]
    fits = query.dtype in (torch.bfloat16, torch.float16) and wide == value.shape[-1] <= 256 and wide % 8 == 0
    return varlen_attn is not None and query.is_cuda and fits


@torch.compiler.disable
def _row_by_row(
    query: Float[torch.Tensor, "1 heads length dim"],
    key: Float[torch.Tensor, "1 key_heads length dim"],
    value: Float[torch.Tensor, "1 key_heads length value_dim"],
    ends: Int[torch.Tensor, " rows_and_one"],
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> Float[torch.Tensor, "1 length heads value_dim"]:
    """The same by torch's usual attention, once for each row."""
    lengths = [stop - start for start, stop in pairwise(ends.tolist())]
    grouped, pieces = query.shape[1] != key.shape[1], []
    for q, k, v in zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True):
        length, mask = q.shape[2], None
        if window is not None and length > window:
            mask = torch.ones(length, length, dtype=torch.bool, device=q.device).tril_().triu_(1 - window)
        out = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling, enable_gqa=grouped
        )
        pieces.append(out.transpose(1, 2))
    return torch.cat(pieces, dim=1)
