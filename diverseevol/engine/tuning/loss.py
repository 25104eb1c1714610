"""The loss of fine-tuning: the sum of the response tokens' cross entropies, without the logits of all of them at once.

The logits of a micro-batch can take more memory than all else: 4,096 tokens of a vocabulary of 152,000 are 2.5 GB in
float32, and softmax and its gradient as much each. Only learned positions go through the head, and where these are many
in chunks whose logits are computed again in the backward pass, which costs one more product of the head.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from diverseevol.engine.arithmetic import CHUNK_BYTES
from diverseevol.engine.body_and_head import BodyAndHead, Head
from diverseevol.engine.products import both_passes
from diverseevol.engine.tuning.batches import IGNORED


class SummedLoss:
    """Sums the cross entropies of what a micro-batch teaches a model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.parts = BodyAndHead(model)

    def __call__(self, micro: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the cross entropies of a micro-batch's response tokens, a scalar in nats."""
        labels = micro["labels"][:, 1:]
        learned = labels != IGNORED
        head = self.parts.head(micro)
        if head is None:
            logits = self.model(**self.parts.inputs(micro), use_cache=False).logits
            return _cross_entropy(logits[:, :-1][learned], labels[learned])
        hidden = self.parts.hidden(micro)[:, :-1][learned]
        # Smaller chunks would add up the head's gradient more often.
        chunk = max(1, CHUNK_BYTES // (4 * self.model.config.get_text_config().vocab_size))
        return sum_in_chunks(head, hidden, labels[learned], chunk)


def sum_in_chunks(
    head: Head, hidden: Float[torch.Tensor, "positions dim"], ids: Int[torch.Tensor, " positions"], chunk: int
) -> torch.Tensor:
    """Sum of the cross entropies of `ids` under the logits of hidden states, no more than `chunk` of them at a time."""

    def of(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return _cross_entropy(head(states), targets)

    if len(ids) <= chunk:  # nothing is computed twice
        return of(hidden, ids)
    parts = zip(hidden.split(chunk), ids.split(chunk), strict=True)
    return torch.stack([checkpoint(of, *part, use_reentrant=False, context_fn=both_passes) for part in parts]).sum()


def _cross_entropy(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.float(), ids, reduction="sum")
