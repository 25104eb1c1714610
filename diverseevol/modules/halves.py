"""The two halves of a causal language model: its body, which makes hidden states, and its head, which makes logits.

Most of the positions of a batch need no logits, and logits are what fills memory: both training and probing run
the body once and the head only where it is wanted.
"""

import inspect
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from transformers import PreTrainedModel


class Halves:
    """A causal language model, asked by halves."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._body = model.base_model
        takes_cache = "use_cache" in inspect.signature(self._body.forward).parameters
        self._no_cache = {"use_cache": False} if takes_cache else {}
        self._last: tuple[torch.Tensor, int, torch.Tensor] = torch.empty(0), -1, torch.empty(0)
        self._head_is_all: bool | None = None  # whether logits are just head(hidden); found out at the first batch

    def hidden(
        self, ids: Int[torch.Tensor, "batch length"], mask: Int[torch.Tensor, "batch length"]
    ) -> Float[torch.Tensor, "batch length dim"]:
        """The last hidden states of a right-padded batch, after the final norm."""
        hidden: torch.Tensor = self._body(input_ids=ids, attention_mask=mask, **self._no_cache).last_hidden_state
        return hidden

    def logits(
        self,
        batch: Mapping[str, torch.Tensor],
        hidden: Float[torch.Tensor, "batch length dim"],
        part: Int[torch.Tensor, "positions two"],
    ) -> Float[torch.Tensor, "positions vocabulary"]:
        """The logits at some positions, each given by its place in the batch and in the row."""
        if not self.head_is_all(batch):  # soft-capped or scaled logits: only the whole model knows them
            return self._whole_logits(batch, part)
        logits: torch.Tensor = self.model.get_output_embeddings()(hidden[part[:, 0], part[:, 1]])
        return logits

    def head_is_all(self, batch: Mapping[str, torch.Tensor]) -> bool:
        """Whether the model does nothing to the logits that its head makes of the hidden states."""
        if self._head_is_all is None:
            training = self.model.training
            with torch.no_grad():  # and without dropout, which would make any two passes differ
                self._head_is_all = self._same(self.model.eval(), batch)
            self.model.train(training)
        return self._head_is_all

    def _same(self, model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> bool:
        head = model.get_output_embeddings()
        if head is None:
            return False
        ids, mask = batch["input_ids"][:1, :8], batch["attention_mask"][:1, :8]
        whole = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        # The same arithmetic gives the same bits; a cap on small logits would pass for rounding.
        return torch.equal(whole, head(self.hidden(ids, mask)))

    def _whole_logits(self, batch: Mapping[str, torch.Tensor], part: torch.Tensor) -> torch.Tensor:
        """A row at a time, and each once: positions come in order, so only the last row can be asked for again."""
        pieces = []
        for row in part[:, 0].unique().tolist():
            ids, known, logits = self._last
            if ids is not batch["input_ids"] or known != row:
                mask = batch["attention_mask"][row : row + 1]
                given = batch["input_ids"][row : row + 1]
                logits = self.model(input_ids=given, attention_mask=mask, use_cache=False).logits[0]
                self._last = batch["input_ids"], row, logits
            pieces.append(logits[part[part[:, 0] == row, 1]])
        return torch.cat(pieces)
