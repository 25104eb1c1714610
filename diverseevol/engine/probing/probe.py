"""One pass of a model over the rows: a mean-pooled embedding each, and token statistics where asked."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from transformers import PreTrainedModel

from diverseevol.engine.body_and_head import BodyAndHead
from diverseevol.engine.fast_path import batches_at_once
from diverseevol.engine.probing.token_statistics import NAMES, double_device, positions, token_statistics
from diverseevol.engine.side_by_side import side_by_side
from diverseevol.engine.trainers import StaysOnDevice
from diverseevol.engine.tuning.batches import IGNORED
from diverseevol.errors import InputError

TURNS = 4  # batches handed to each thread together: the others make up for a slow one


class Probe(StaysOnDevice):
    """Writes embeddings and token statistics straight into arrays that are aligned with the data set.

    The embedding is the masked mean of the last hidden state (after the final norm) of the model's body; the LM head
    runs only for statistics, over `head_tokens` positions at a time, so the logits of a batch are never held together.
    Sequences are padded on the right, where a causal model cannot see: a row's result does not depend on its batch.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        region: str,
        embedding: Float[np.ndarray, "rows dim"] | None,
        scores: Mapping[str, Float[np.ndarray, " rows"]],
        *,
        head_tokens: int = 512,
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Bind a model to the arrays it fills.

        Args:
            model: any causal language model of transformers.
            region: see `Embedding.region`.
            embedding: [rows, dim] filled at the rows that pass by, or None.
            scores: name of a token statistic -> [rows], filled likewise.
            head_tokens: positions whose logits are held at once.
            on_rows: called with the number of rows done since the last call.
        """
        super().__init__()
        unknown = set(scores) - NAMES
        if unknown:
            raise InputError(f"token statistics {sorted(unknown)} do not exist; choose from {sorted(NAMES)}")
        self.model = model
        self.region = region
        self.embedding = embedding
        self.scores = scores
        self.head_tokens = head_tokens
        self.on_rows = on_rows
        self.parts = BodyAndHead(model)
        self.waiting: list[dict[str, torch.Tensor]] = []

    def predict_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> int:
        """Embed right-padded batches, several at once where that is quicker; how many rows this one has."""
        self.waiting.append(batch)
        # The first batch runs alone, because `BodyAndHead` tests the model with it; the last one with all that wait.
        last = batch_idx + 1 == self.trainer.num_predict_batches[0]
        at_once = batches_at_once(self.model)
        if batch_idx == 0 or last or len(self.waiting) == (TURNS * at_once if at_once > 1 else 1):
            side_by_side(self._file, self.waiting)
            self.on_rows(sum(len(waiting["rows"]) for waiting in self.waiting))
            self.waiting.clear()
        return len(batch["rows"])  # Lightning warns of None

    def _file(self, batch: dict[str, torch.Tensor]) -> None:
        """Embed one batch and file the results under its rows."""
        rows = batch["rows"].cpu().numpy()
        hidden = self.parts.hidden(batch)
        if self.embedding is not None:
            learned = batch["labels"] != IGNORED
            self.embedding[rows] = pooled(hidden, batch["attention_mask"], learned, self.region).cpu().numpy()
        if self.scores:
            self._file_scores(hidden, batch, rows)

    def _file_scores(self, hidden: torch.Tensor, batch: dict[str, torch.Tensor], rows: np.ndarray) -> None:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        next_ids = torch.cat([ids[:, 1:], ids[:, -1:]], dim=1)
        where = {name: positions(name, mask, batch["labels"] != IGNORED) for name in self.scores}
        device = double_device(hidden.device)
        sums = {name: torch.zeros(len(rows), dtype=torch.float64, device=device) for name in self.scores}
        needed = torch.stack(list(where.values())).any(dim=0)
        for part in needed.nonzero().split(self.head_tokens):
            logits = self.parts.logits(batch, hidden, part)
            values = token_statistics(logits, next_ids[part[:, 0], part[:, 1]], self.scores)
            for name, value in values.items():
                counted = where[name][part[:, 0], part[:, 1]]
                sums[name].index_add_(0, part[counted, 0].to(device), value[counted].to(device).double())
        for name, target in self.scores.items():
            count = where[name].sum(dim=1).clamp(min=1).to(device)
            target[rows] = (sums[name] / count).cpu().numpy()


def pooled(
    hidden: Float[torch.Tensor, "batch length dim"],
    attention_mask: Int[torch.Tensor, "batch length"],
    learned: Bool[torch.Tensor, "batch length"],
    region: str,
) -> Float[torch.Tensor, "batch dim"]:
    """Mean of the hidden states over a region of each row, in float32; zeros where the region is empty.

    The response is what is learned of a row, the instruction all else.
    """
    mask = attention_mask.bool()
    if region == "response":
        mask = learned
    elif region == "instruction":
        mask = mask & ~learned
    # A product with the 0/1 mask as weights: one pass, no masked copy of the hidden states. Mixed precision would
    # take it in bfloat16, the mean with it.
    with torch.autocast(hidden.device.type, enabled=False):
        total = torch.einsum("bld,bl->bd", hidden.float(), mask.float())
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)
