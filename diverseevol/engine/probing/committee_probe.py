"""One pass of a committee over the rows: how far its members disagree about each response, in one number a row."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from transformers import PreTrainedModel

from diverseevol.engine.probing.probe import Probe
from diverseevol.engine.probing.token_statistics import double_device, positions
from diverseevol.engine.trainers import StaysOnDevice
from diverseevol.engine.tuning.batches import IGNORED

DISAGREEMENTS = frozenset({"committee_kl", "committee_vote_entropy"})


class Committee(StaysOnDevice):
    """Writes the disagreement about each row straight into arrays, averaged over the positions of its response.

    The members see the same batch one after another, and only their hidden states are kept; then their heads run over
    `head_tokens` positions at a time. So of all members' logits no more than one chunk is ever in memory, and the
    weights of all members are.
    """

    def __init__(
        self,
        models: Sequence[PreTrainedModel],
        scores: Mapping[str, Float[np.ndarray, " rows"]],
        *,
        head_tokens: int = 256,
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Bind members of one vocabulary to the arrays of DISAGREEMENTS that are filled at the rows that pass by.

        `on_rows` is called with the number of rows done since the last call.
        """
        super().__init__()
        self.members = torch.nn.ModuleList(Probe(model, "all", None, {}) for model in models)
        self.scores = scores
        self.head_tokens = head_tokens
        self.on_rows = on_rows

    def predict_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> int:
        """Ask all members about one right-padded batch; how many rows these are."""
        rows = batch["rows"].cpu().numpy()
        members = [cast(Probe, member) for member in self.members]
        hidden = [member.parts.hidden(batch) for member in members]
        where = positions("committee", batch["attention_mask"], batch["labels"] != IGNORED)
        device = double_device(where.device)
        sums = {name: torch.zeros(len(rows), dtype=torch.float64, device=device) for name in self.scores}
        for part in where.nonzero().split(self.head_tokens):
            logits = (member.parts.logits(batch, states, part) for member, states in zip(members, hidden, strict=True))
            for name, value in disagreement(logits, self.scores).items():
                sums[name].index_add_(0, part[:, 0].to(device), value.to(device).double())
        count = where.sum(dim=1).clamp(min=1).to(device)
        for name, target in self.scores.items():
            target[rows] = (sums[name] / count).cpu().numpy()
        self.on_rows(len(rows))
        return len(rows)  # Lightning warns of None


def disagreement(
    logits: Iterable[Float[torch.Tensor, "tokens vocabulary"]], names: Iterable[str]
) -> dict[str, Float[torch.Tensor, " tokens"]]:
    """How far members disagree about the next token at each position, in nats.

    Args:
        logits: of each member, taken one after another: a generator keeps one at a time.
        names: which of DISAGREEMENTS.

    Returns:
        name -> [tokens] float32: `committee_kl` is the members' mean Kullback–Leibler divergence from the mean p̄ of
        their predictions p, which is H(p̄) less the mean H(p) (McCallum & Nigam 1998); `committee_vote_entropy` is
        the entropy of their votes for the most likely token (Dagan & Engelson 1995, not divided by log size).
    """
    wanted = set(names)
    votes: list[torch.Tensor] = []
    total, entropy = torch.zeros(()), torch.zeros(())
    for z in logits:
        votes.append(z.argmax(dim=-1))
        if "committee_kl" in wanted:
            log_p = z.float().log_softmax(dim=-1)
            p = log_p.exp()
            # log p of finite logits is finite, so a probability that underflowed adds 0. `sum` adds up pairwise; a
            # matrix product would not, and err by more than the models of two rounds disagree.
            entropy = entropy - log_p.mul_(p).sum(dim=-1)
            total = p if len(votes) == 1 else total.add_(p)
    size, out = len(votes), {}
    if "committee_kl" in wanted:
        consensus = torch.special.entr(total.div_(size)).sum(dim=-1)
        out["committee_kl"] = (consensus - entropy / size).clamp(min=0)
    if "committee_vote_entropy" in wanted:
        # Each member's vote is shared by as many as agree with it: no table of votes over the vocabulary.
        vote = torch.stack(votes)
        share = (vote[:, None] == vote[None]).float().mean(dim=1)
        out["committee_vote_entropy"] = -share.log().mean(dim=0)
    return out
