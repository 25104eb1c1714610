"""The loss of fine-tuning: the sum of the response tokens' cross entropies."""

from collections.abc import Mapping

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from diverseevol.engine.body_and_head import BodyAndHead
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
        if self.parts.logits_equal_head_output(micro):
            # The head and the softmax, a large part of a small model, run over the response tokens alone.
            hidden = self.parts.hidden(micro)
            logits = self.model.get_output_embeddings()(hidden[:, :-1][learned])
        else:
            logits = self.model(**self.parts.inputs(micro), use_cache=False).logits[:, :-1][learned]
        return functional.cross_entropy(logits.float(), labels[learned], reduction="sum")
