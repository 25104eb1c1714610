"""Rotary positions that are scaled by the longest row of a batch: the one way in which rows meet in a causal model."""

import functools
import logging

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedModel

BY_THE_BATCH = ("dynamic", "longrope")  # transformers' names of the kinds whose frequencies follow the longest row

log = logging.getLogger(__name__)


def batch_independent_length(model: PreTrainedModel) -> int | None:
    """The length up to which a batch's rows do not change what the model says of one another; None: any length."""
    config = model.config.get_text_config()
    given = getattr(config, "rope_parameters", None) or {}
    kinds = [kind for kind in (given, *given.values()) if isinstance(kind, dict)]  # one for all layers, or by kind
    lengths = [
        kind.get("original_max_position_embeddings") or config.max_position_embeddings
        for kind in kinds
        if kind.get("rope_type") in BY_THE_BATCH
    ]
    return min(lengths, default=None)


def warn_if_batch_dependent(model: PreTrainedModel, lengths: Int[np.ndarray, " rows"]) -> None:
    """Say, once, that rows so long are read differently in other batches, where they are."""
    most = batch_independent_length(model)
    if most is not None and lengths.max(initial=0) > most:
        _warn(most)


@functools.cache  # said once, and not in every pass
def _warn(most: int) -> None:
    log.warning(
        "this model scales its rotary positions by the longest row of a batch, so rows longer than %d tokens, and "
        "those beside them, are read differently in other batches; prompt.max_length=%d avoids it",
        most,
        most,
    )
