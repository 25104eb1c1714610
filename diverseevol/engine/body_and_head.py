"""A causal language model in two parts: its body, which makes hidden states, and its head, which makes logits of them.

Most positions of a batch need no logits, and logits are what fills memory: training and probing run the body once, and
the head only where logits are used.
"""

import inspect
import logging
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from diverseevol.engine import fast_path
from diverseevol.engine.model_limits import positions
from diverseevol.engine.packing import keep_rows_apart, row_ends
from diverseevol.engine.padding import reads_padding_after
from diverseevol.errors import InputError, warn_once

log = logging.getLogger(__name__)

Head = Callable[[Float[torch.Tensor, "positions dim"]], Float[torch.Tensor, "positions vocabulary"]]

INPUTS = ("input_ids", "attention_mask", "position_ids")  # of a batch, as models name them

Answer = TypeVar("Answer")


class BodyAndHead:
    """A causal language model whose parts run one after the other."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._body = body_of(model)
        takes_cache = "use_cache" in inspect.signature(self._body.forward).parameters
        self._no_cache = {"use_cache": False} if takes_cache else {}
        self._last: tuple[torch.Tensor, int, torch.Tensor] = torch.empty(0), -1, torch.empty(0)
        # All are found out at the first batch.
        self._ignores_padding = self._keeps_rows_apart = False
        self._heads: list[Head] | None = None  # one, or none

    def hidden(self, batch: Mapping[str, torch.Tensor]) -> Float[torch.Tensor, "batch length dim"]:
        """The last hidden states of a right-padded or packed batch, after the final norm; of padding, anything.

        Raises:
            InputError: the model reads padding, or the rows before a packed one, so that its results for a row depend
                on the rest of the batch.
        """
        if "attention_mask" in batch and not self._ignores_padding:
            if self._without_dropout(lambda model: reads_padding_after(model, self._padded_states)):
                raise InputError(
                    f"model.path: {type(self.model).__name__} reads the padding after a row, so that a row's embedding "
                    f"and loss would depend on the rows beside it; give a model of another architecture"
                )
            self._ignores_padding = True
        return self._states(self.inputs(batch))

    def inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """What the model reads of a batch: ids, and which of them are padding, or where packed rows begin and end.

        Raises:
            InputError: the model reads the rows before a packed one.
        """
        if "position_ids" in batch and not self._keeps_rows_apart:
            self._without_dropout(lambda model: keep_rows_apart(model, lambda rows: self._states(self._inputs(rows))))
            self._keeps_rows_apart = True
        return self._inputs(batch)

    def _inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        ends = row_ends(self.model, batch["position_ids"]) if "position_ids" in batch else {}
        return {name: batch[name] for name in INPUTS if name in batch} | ends

    def _states(self, inputs: Mapping[str, Any]) -> Float[torch.Tensor, "batch length dim"]:
        # The last hidden states come first, whatever the body calls them, be it an object or a tuple.
        hidden: torch.Tensor = self._body(**inputs, **self._no_cache)[0]
        return hidden

    def _padded_states(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self._states({"input_ids": ids, "attention_mask": mask})

    def _without_dropout(self, ask: Callable[[PreTrainedModel], Answer]) -> Answer:
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
        head = self.head(batch)
        return self._logits_by_row(batch, part) if head is None else head(hidden[part[:, 0], part[:, 1]])

    def head(self, batch: Mapping[str, torch.Tensor]) -> Head | None:
        """What makes the model's logits of hidden states at any positions; None where only the complete model does."""
        if self._heads is None:
            self._heads = []
            if fast_path.enabled():
                right = (head for head in self._possible_heads() if self._makes_logits(head, batch))
                self._heads = list(islice(right, 1))
                if not self._heads:
                    warn_once(
                        log,
                        f"{type(self.model).__name__} makes logits of more than its last hidden states, so that those "
                        f"of all tokens are held in memory; lower tuning.micro_batch_tokens if memory is short",
                    )
        return self._heads[0] if self._heads else None

    def _possible_heads(self) -> list[Head]:
        # The first is the output layer alone. Of families that cap or scale its output, what the model itself does
        # after its body, with all the constants of its configuration, does the same at any positions.
        output_layer = self.model.get_output_embeddings()
        inside = [name for name, child in self.model.named_children() if child is self._body]
        after_body = [self._after_body] if len(inside) == 1 else []
        return [*([] if output_layer is None else [output_layer]), *after_body]

    def _makes_logits(self, head: Head, batch: Mapping[str, torch.Tensor]) -> bool:
        # The same ids in every process: where weights are sharded, all have to try the same heads.
        count, vocabulary = min(8, positions(self.model) or 8), self.model.config.get_text_config().vocab_size
        order = torch.arange(count, device=batch["input_ids"].device)[None]
        row = {"input_ids": order % vocabulary, "attention_mask": torch.ones_like(order), "position_ids": order}
        inputs = self.inputs({name: row[name] for name in INPUTS if name in batch})

        def equal(model: PreTrainedModel) -> bool:
            logits = model(**inputs, use_cache=False).logits
            try:
                # The same arithmetic gives the same bits; a cap on small logits would pass for rounding.
                return torch.equal(logits[0], head(self._states(inputs)[0]))
            except torch.OutOfMemoryError:
                raise
            except Exception:  # code of any family
                return False

        return self._without_dropout(equal)

    def _after_body(self, hidden: Float[torch.Tensor, "positions dim"]) -> Float[torch.Tensor, "positions vocabulary"]:
        """Logits by the model's own code, of hidden states that are there already."""
        # A model of the same class with the same parts, but for its body; one for each call, for the sake of threads.
        # Its hooks are left out with `__call__`.
        parts = {
            name: _StatesGiven(self._body, hidden[None]) if part is self._body else part
            for name, part in self.model._modules.items()
        }
        rest: Any = object.__new__(type(self.model))
        vars(rest).update(vars(self.model), _modules=parts)
        ids = torch.zeros((1, len(hidden)), dtype=torch.long, device=hidden.device)
        logits: torch.Tensor = rest.forward(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        return logits[0]

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


class _StatesGiven:
    """In the place of a model's body: gives hidden states that the body made before."""

    def __init__(self, body: torch.nn.Module, states: Float[torch.Tensor, "1 positions dim"]) -> None:
        self._body = body
        self._states = states

    def __call__(self, *args: object, **kwargs: object) -> BaseModelOutput:
        return _OnlyStates(last_hidden_state=self._states)

    def __getattr__(self, name: str) -> Any:
        """A number or a configuration that the body has, but none of its layers: they would compute states anew."""
        value = getattr(self._body, name)
        if isinstance(value, torch.nn.Module):
            raise AttributeError(name)
        return value


class _OnlyStates(BaseModelOutput):  # type: ignore[misc]
    """Hidden states alone; whatever else families read of their body's output, and pass on, is None."""

    def __getattr__(self, name: str) -> None:
        return None


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
