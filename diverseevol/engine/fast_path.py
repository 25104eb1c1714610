"""The fast path: what makes fits, probes and answers faster and smaller, and can be left out.

`DIVERSEEVOL_FAST_PATH=0` leaves it out everywhere. The plain path gives the same results up to rounding, and the same
greedy answers. experiments/LOG.md (2026-11-28) has what each piece brings.

    batches side by side    of small models, each on a thread of its own                     side_by_side.py
    products by oneDNN      of wide models in float32, on AMD processors with AVX-512        products.py
    the head alone          computes the logits that are used, and no others                 body_and_head.py
    ended answers           leave their batch, so that they cost no more time                answering/generation.py
"""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import PreTrainedModel

from diverseevol.engine.batch_dependence import batch_independent_length
from diverseevol.engine.products import OneDnnProducts, mkl_is_slow

SWITCH = "DIVERSEEVOL_FAST_PATH"
SMALL = 256  # hidden states of this width or narrower: a second thread gains little inside a matrix product


def enabled() -> bool:
    """Whether the fast path is taken."""
    return os.environ.get(SWITCH, "1") != "0"


def is_small(model: PreTrainedModel) -> bool:
    """Whether the products of a model are too small for several threads, and its memory not worth saving."""
    return bool(model.config.get_text_config().hidden_size <= SMALL)


def batches_at_once(model: PreTrainedModel) -> int:
    """The number of batches that pass through a model side by side: one for each thread of a small model on a CPU."""
    # A model that scales its positions by the batch stores the last batch's scale, which another thread would read.
    independent = batch_independent_length(model) is None
    # Likewise peft changes the module of a mixture's experts for the time of a pass, where they have adapters.
    adapters = getattr(model, "peft_config", {}).values()
    independent &= not any(getattr(adapter, "target_parameters", None) for adapter in adapters)
    gains = independent and is_small(model) and model.device.type == "cpu"
    return torch.get_num_threads() if enabled() and gains else 1


def quick_products(model: PreTrainedModel) -> AbstractContextManager[Any]:
    """A context in which the linear layers of a wide model use the faster library; results differ by rounding alone."""
    return OneDnnProducts() if enabled() and not is_small(model) and mkl_is_slow() else nullcontext()
