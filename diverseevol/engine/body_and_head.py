"""A causal language model in two parts: its body, which makes hidden states, and its head, which makes logits of them.

Most positions of a batch need no logits, and logits are what fills memory: training and probing run the body once, and
the head only where logits are used.
"""

import inspect
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from transformers import PreTrainedModel

from diverseevol.engine import fast_path
from diverseevol.engine.padding import reads_padding_after
from diverseevol.errors import InputError

INPUTS = ("input_ids", "attention_mask")  # of a batch, as models name them


class BodyAndHead:
    """A causal language model whose parts run one after the other."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._body = body_of(model)
        takes_cache = "use_cache" in inspect.signature(self._body.forward).parameters
        self._no_cache = {"use_cache": False} if takes_cache else {}
        self._last: tuple[torch.Tensor, int, torch.Tensor] = torch.empty(0), -1, torch.empty(0)
        # Both are tested at the first batch.
        self._ignores_padding = False
        self._logits_equal_head_output: bool | None = None

    def hidden(self, batch: Mapping[str, torch.Tensor]) -> Float[torch.Tensor, "batch length dim"]:
        """The last hidden states of a right-padded batch, after the final norm; of padding, anything.

        Raises:
            InputError: the model reads padding, so that its results for a row depend on the rest of the batch.
        """
        if not self._ignores_padding:
            if self._without_dropout(lambda model: reads_padding_after(model, self._padded_states)):
                raise InputError(
                    f"model.path: {type(self.model).__name__} reads the padding after a row, so that a row's embedding "
                    f"and loss would depend on the rows beside it; give a model of another architecture"
                )
            self._ignores_padding = True
        return self._states(self.inputs(batch))

    def inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What a model reads of a batch."""
        return {name: batch[name] for name in INPUTS}

    def _states(self, inputs: Mapping[str, torch.Tensor]) -> Float[torch.Tensor, "batch length dim"]:
        # The last hidden states come first, whatever the body calls them, be it an object or a tuple.
        hidden: torch.Tensor = self._body(**inputs, **self._no_cache)[0]
        return hidden

    def _padded_states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self._states({"input_ids": ids, "attention_mask": mask})

    def _without_dropout(self, ask: Callable[[PreTrainedModel], bool]) -> bool:
        """Test the model without gradients, and without dropout, which would make any two passes differ."""
        training = self.model.training
        with torch.no_grad():
            answer = ask(self.model.eval())
        self.model.train(training)
        return answer

    def logits(
        self,
        batch: Mapping[str, torch.Tensor],
        hidden: Float[torch.Tensor, "batch length dim"],
        part: Int[torch.Tensor, "positions 2"],
    ) -> Float[torch.Tensor, "positions vocabulary"]:
        """The logits at some positions, in order: each is a row of the batch and a token of the row."""
        if not self.logits_equal_head_output(batch):  # soft-capped or scaled logits: the complete model makes them
            return self._logits_by_row(batch, part)
        logits: torch.Tensor = self.model.get_output_embeddings()(hidden[part[:, 0], part[:, 1]])
        return logits

    def logits_equal_head_output(self, batch: Mapping[str, torch.Tensor]) -> bool:
        """Whether the head alone makes the model's logits: nothing is done to them afterwards."""
        if self._logits_equal_head_output is None:
            self._logits_equal_head_output = fast_path.enabled() and self._without_dropout(
                lambda model: self._head_makes_logits(model, batch)
            )
        return self._logits_equal_head_output

    def _head_makes_logits(self, model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> bool:
        head = model.get_output_embeddings()
        if head is None:
            return False
        beginning = {name: tensor[:1, :8] for name, tensor in self.inputs(batch).items()}
        logits = model(**beginning, use_cache=False).logits
        # The same arithmetic gives the same bits; a cap on small logits would pass for rounding.
        return torch.equal(logits, head(self._states(beginning)))

    def _logits_by_row(self, batch: Mapping[str, torch.Tensor], part: torch.Tensor) -> torch.Tensor:
        """The model's own logits, a row at a time. Positions come in order: only the last row may be needed again."""
        pieces = []
        for row in part[:, 0].unique().tolist():
            last_ids, last_row, logits = self._last
            if last_ids is not batch["input_ids"] or last_row != row:
                ids, mask = (batch[name][row : row + 1] for name in ("input_ids", "attention_mask"))
                logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]
                self._last = batch["input_ids"], row, logits
            pieces.append(logits[part[part[:, 0] == row, 1]])
        return torch.cat(pieces)


def body_of(model: PreTrainedModel) -> torch.nn.Module:
    """The part of a model that makes hidden states.

    Raises:
        InputError: several parts could be it.
    """
    body: torch.nn.Module = model.base_model
    if body is not model:
        return body
    # The class names another attribute as its base model than it has (Llama 4's text models).
    inside = [child for child in model.children() if isinstance(child, PreTrainedModel)]
    if len(inside) != 1:
        raise InputError(
            f"model.path: {type(model).__name__} has {len(inside)} parts that could be its body, the part "
            f"that makes hidden states, where exactly one is needed; give a model of another architecture"
        )
    (body,) = inside
    return body


def width(model: PreTrainedModel) -> int:
    """How many numbers a hidden state has where it enters the head; some models project it first (OPT)."""
    head = model.get_output_embeddings()
    return int(model.config.get_text_config().hidden_size if head is None else head.weight.shape[1])
