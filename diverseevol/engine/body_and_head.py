"""The two halves of a causal language model: its body, which makes hidden states, and its head, which makes logits.

Most of the positions of a batch need no logits, and logits are what fills memory: both training and probing run
the body once and the head only where it is wanted.
"""

import inspect
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from transformers import PreTrainedModel

from diverseevol.engine.padding import reads_padding_after
from diverseevol.errors import InputError


class BodyAndHead:
    """A causal language model, asked by halves."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._body = body_of(model)
        takes_cache = "use_cache" in inspect.signature(self._body.forward).parameters
        self._no_cache = {"use_cache": False} if takes_cache else {}
        self._last: tuple[torch.Tensor, int, torch.Tensor] = torch.empty(0), -1, torch.empty(0)
        # Found out at the first batch: whether logits are just head(hidden), and whether no token sees a later one.
        self._logits_equal_head_output: bool | None = None
        self._causal: bool | None = None

    def hidden(
        self, ids: Int[torch.Tensor, "batch length"], mask: Int[torch.Tensor, "batch length"]
    ) -> Float[torch.Tensor, "batch length dim"]:
        """The last hidden states of a right-padded batch, after the final norm; of padding, anything.

        Raises:
            InputError: what the model says of a row depends on its padding.
        """
        if self._causal is None:
            self._causal = self._quietly(lambda model: self._is_causal(ids.device))
            if not self._causal and self._quietly(lambda model: reads_padding_after(model, self._states)):
                raise InputError(
                    f"model.path: {type(self.model).__name__} reads the padding after a row, so that a row's embedding "
                    f"and loss would depend on the rows beside it; give a model of another architecture"
                )
        # What follows a token does not reach it, padding neither. Without a mask the attention kernels skip the half
        # of the products that lies in the future, and no [length, length] mask is made for each row.
        return self._states(ids, None if self._causal else mask)

    def _states(
        self, ids: Int[torch.Tensor, "batch length"], mask: Int[torch.Tensor, "batch length"] | None
    ) -> Float[torch.Tensor, "batch length dim"]:
        # The last hidden states come first, whatever the body calls them, be it an object or a tuple.
        hidden: torch.Tensor = self._body(input_ids=ids, attention_mask=mask, **self._no_cache)[0]
        return hidden

    def _is_causal(self, device: torch.device) -> bool:
        one = torch.arange(8, device=device)[None] % self.model.config.get_text_config().vocab_size
        other = torch.cat([one[:, :4], one[:, :4]], dim=1)
        return torch.equal(self._states(one, None)[:, :4], self._states(other, None)[:, :4])

    def _quietly(self, ask: Callable[[PreTrainedModel], bool]) -> bool:
        """Ask without gradients, and without dropout, which would make any two passes differ."""
        training = self.model.training
        with torch.no_grad():
            answer = ask(self.model.eval())
        self.model.train(training)
        return answer

    def logits(
        self,
        batch: Mapping[str, torch.Tensor],
        hidden: Float[torch.Tensor, "batch length dim"],
        part: Int[torch.Tensor, "positions two"],
    ) -> Float[torch.Tensor, "positions vocabulary"]:
        """The logits at some positions, each given by its place in the batch and in the row."""
        if not self.logits_equal_head_output(batch):  # soft-capped or scaled logits: only the whole model knows them
            return self._whole_logits(batch, part)
        logits: torch.Tensor = self.model.get_output_embeddings()(hidden[part[:, 0], part[:, 1]])
        return logits

    def logits_equal_head_output(self, batch: Mapping[str, torch.Tensor]) -> bool:
        """Whether the model does nothing to the logits that its head makes of the hidden states."""
        if self._logits_equal_head_output is None:
            self._logits_equal_head_output = self._quietly(lambda model: self._same(model, batch))
        return self._logits_equal_head_output

    def _same(self, model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> bool:
        head = model.get_output_embeddings()
        if head is None:
            return False
        ids, mask = batch["input_ids"][:1, :8], batch["attention_mask"][:1, :8]
        whole = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        # The same arithmetic gives the same bits; a cap on small logits would pass for rounding.
        return torch.equal(whole, head(self._states(ids, mask)))

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


def body_of(model: PreTrainedModel) -> torch.nn.Module:
    """The part of a model that makes hidden states.

    Raises:
        InputError: it cannot be told from the rest.
    """
    body: torch.nn.Module = model.base_model
    if body is not model:
        return body
    # The name that its class has for its body is not the body's (Llama 4's text models): it is what is a model in it.
    inside = [child for child in model.children() if isinstance(child, PreTrainedModel)]
    if len(inside) != 1:
        raise InputError(
            f"model.path: {type(model).__name__} has {len(inside)} parts that could be its body, where the one that "
            f"makes hidden states has to be found; give a model of another architecture"
        )
    (body,) = inside
    return body


def width(model: PreTrainedModel) -> int:
    """How many numbers a hidden state has where it enters the head; some are projected on the way (OPT's)."""
    head = model.get_output_embeddings()
    return int(model.config.get_text_config().hidden_size if head is None else head.weight.shape[1])
