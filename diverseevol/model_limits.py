"""What a model cannot read: ids beyond its embedding, and positions beyond those that it knows."""

import functools
import logging

import torch
from transformers import PreTrainedModel

from diverseevol.errors import InputError
from diverseevol.prompt import Encoded
from diverseevol.rotary import read_alike_up_to

log = logging.getLogger(__name__)


def check_readable(model: PreTrainedModel, encoded: Encoded) -> None:
    """Look whether a model can read the rows, before it fails in the middle of them.

    Args:
        model: the model.
        encoded: the rows.

    Raises:
        InputError: a row holds ids that the model has no embedding for, or has more tokens than the model has learned
            positions.
    """
    known = model.get_input_embeddings().weight.shape[0]
    if encoded.largest_id >= known:
        raise InputError(
            f"model.path: the tokeniser gives the id {encoded.largest_id}, but the model has {known:,} embeddings (0 "
            f"to {known - 1}): they do not belong together; give the tokeniser that the model was trained with"
        )
    learned, trained = learned_positions(model), positions(model)
    if learned is not None and encoded.longest > learned:
        raise InputError(
            f"prompt.max_length: the longest row has {encoded.longest:,} tokens, but the model has {learned:,} "
            f"positions and no others; give prompt.max_length={learned} or less"
        )
    # Positions that are scaled by the longest row are warned of by themselves.
    computed = learned is None and read_alike_up_to(model) is None
    if computed and trained is not None and encoded.longest > trained:
        _warn_of_length(encoded.longest, trained)


def positions(model: PreTrainedModel) -> int | None:
    """For how many positions a model was made, by its configuration; None where it counts none."""
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(most) if isinstance(most, int) and most > 0 else None


def learned_positions(model: PreTrainedModel) -> int | None:
    """How many positions a model has learned by heart, beyond which it has none; None where it computes them."""
    most = positions(model)
    if most is None:
        return None
    words = model.get_input_embeddings()
    # OPT's table has two more entries than positions.
    tables = [m for m in model.modules() if isinstance(m, torch.nn.Embedding) and m is not words]
    return most if any(most <= table.num_embeddings <= most + 2 for table in tables) else None


@functools.cache  # said once, and not in every round
def _warn_of_length(longest: int, trained: int) -> None:
    log.warning(
        "rows have up to %d tokens, but the model was made for %d positions: it extrapolates beyond them, and may read "
        "them badly; prompt.max_length=%d avoids it",
        longest,
        trained,
        trained,
    )
