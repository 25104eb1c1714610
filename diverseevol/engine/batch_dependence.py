"""Rotary positions scaled by the longest row of a batch: how a causal model's result for a row can depend on others."""

import logging

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedModel

from diverseevol.errors import warn_once

BY_THE_BATCH = ("dynamic", "longrope")  # transformers' names of the kinds whose frequencies follow the longest row

log = logging.getLogger(__name__)


def batch_independent_length(model: PreTrainedModel) -> int | None:
    """The length up to which a row's results do not depend on the rest of its batch; None: any length."""
    config = model.config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [kind for kind in (parameters, *parameters.values()) if isinstance(kind, dict)]  # one, or by kind of layer
    lengths = [
        kind.get("original_max_position_embeddings") or config.max_position_embeddings
        for kind in kinds
        if kind.get("rope_type") in BY_THE_BATCH
    ]
    return min(lengths, default=None)


def warn_if_batch_dependent(model: PreTrainedModel, lengths: Int[np.ndarray, " rows"]) -> None:
    """Warn where rows are so long that the model reads them differently in other batches."""
    limit = batch_independent_length(model)
    if limit is not None and lengths.max(initial=0) > limit:
        warn_once(
            log,
            "this model scales its rotary positions by the longest row of a batch, so rows longer than %d tokens, and "
            "the rows beside them, are read differently in other batches; prompt.max_length=%d avoids it",
            limit,
            limit,
        )
