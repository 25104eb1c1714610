"""What a model cannot read: ids beyond its embedding, and positions beyond those that it knows."""

import logging

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from diverseevol.data.tokens import Tokens
from diverseevol.engine.batch_dependence import batch_independent_length
from diverseevol.errors import InputError, warn_once

log = logging.getLogger(__name__)


def check_readable(model: PreTrainedModel, encoded: Tokens) -> None:
    """Look whether a model can read the rows, before it fails in the middle of them.

    Raises:
        InputError: a row holds ids that the model has no embedding for, or has more tokens than the model has learned
            positions.
    """
    check_ids(model, encoded.largest_id)
    trained = positions(model)
    if trained is None or encoded.longest <= trained:
        return
    if learned_positions(model) is not None or not _reads(model, encoded.longest):
        raise InputError(
            f"prompt.max_length: the longest row has {encoded.longest:,} tokens, but the model has {trained:,} "
            f"positions and no others; give prompt.max_length={trained} or less"
        )
    if batch_independent_length(model) is None:  # scaled positions have a warning of their own
        warn_once(
            log,
            "rows have up to %d tokens, but the model was made for %d positions: it extrapolates beyond them, and may "
            "read them badly; prompt.max_length=%d avoids it",
            encoded.longest,
            trained,
            trained,
        )


def check_ids(model: PreTrainedModel, largest: int, option: str = "model.path") -> None:
    """Look whether a model, which an option names, has an embedding for the largest id that its tokeniser gave.

    Raises:
        InputError: it has none.
    """
    known = model.get_input_embeddings().weight.shape[0]
    if largest >= known:
        raise InputError(
            f"{option}: the tokeniser gives the id {largest}, but the model has {known:,} embeddings (0 "
            f"to {known - 1}): they do not match; give the tokeniser that the model was trained with"
        )


def positions(model: PreTrainedModel) -> int | None:
    """How many positions a model was made for, by its configuration; None where it does not say."""
    return positions_of(model.config)


def positions_of(configuration: PreTrainedConfig) -> int | None:
    """As `positions`, of a model that is not loaded."""
    config = configuration.get_text_config()
    count = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)  # MPT's name
    return int(count) if isinstance(count, int) and count > 0 else None


@torch.no_grad()
def _reads(model: PreTrainedModel, length: int) -> bool:
    """Whether a model can read a row of this length: tables computed once end, too (GPT-J, CodeGen, CTRL, MPT)."""
    if getattr(model.config.get_text_config(), "rope_parameters", None):  # angles are computed for any length
        return True
    row = torch.zeros((1, length), dtype=torch.long, device=model.device)
    try:
        hidden = model.base_model(input_ids=row, attention_mask=torch.ones_like(row))[0]
        hidden.sum().item()  # a device reports errors only when its results are read
    except torch.OutOfMemoryError:
        raise
    except (IndexError, RuntimeError):  # torch's errors for positions beyond a table, and for tables that are too short
        return False
    return True


def learned_positions(model: PreTrainedModel) -> int | None:
    """How many positions a model has learned, beyond which it has none; None where it computes them."""
    count = positions(model)
    if count is None:
        return None
    words = model.get_input_embeddings()
    # OPT's table has two more entries than positions.
    tables = [m for m in model.modules() if isinstance(m, torch.nn.Embedding) and m is not words]
    return count if any(count <= table.num_embeddings <= count + 2 for table in tables) else None
