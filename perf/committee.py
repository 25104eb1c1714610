"""The disagreement of a committee, streamed, beside all members' predictions in one stack.

python -m perf --only committee
"""

import torch

from diverseevol.engine.probing.committee_probe import DISAGREEMENTS, disagreement
from perf.token_statistics import TOKENS, TURNS, VOCABULARY
from perf.turns import Report, in_turns

MEMBERS, HIDDEN = 4, 256


def run(size: str, report: Report) -> None:
    """Time, memory and error of mean KL and vote entropy; the members' heads are run by both."""
    generator = torch.Generator().manual_seed(0)
    heads = [torch.randn(VOCABULARY, HIDDEN, generator=generator) for _ in range(MEMBERS)]
    states = [0.2 * torch.randn(TOKENS, HIDDEN, generator=generator) for _ in range(MEMBERS)]

    def streamed() -> dict[str, torch.Tensor]:
        return disagreement((x @ head.T for x, head in zip(states, heads, strict=True)), DISAGREEMENTS)

    def naive() -> dict[str, torch.Tensor]:
        return stacked(torch.stack([x @ head.T for x, head in zip(states, heads, strict=True)]))

    def heads_alone() -> None:
        for x, head in zip(states, heads, strict=True):
            x @ head.T

    taken = in_turns(
        {"ours, streamed": streamed, "a stack of all members": naive, "the heads alone": heads_alone}, TURNS[size]
    )
    exact = stacked(torch.stack([x.double() @ head.double().T for x, head in zip(states, heads, strict=True)]))
    report.table(
        f"{MEMBERS} members, {TOKENS} positions × {VOCABULARY:,} logits, mean KL and vote entropy",
        [
            {
                "": name,
                "ms": 1000 * its.typical,
                "its time / ours": its.ratio(taken["ours, streamed"]),
                "extra MB": its.extra_mb,
                **{
                    f"error of {kind}": float((its.result[kind] - exact[kind]).abs().max()) if its.result else ""
                    for kind in sorted(DISAGREEMENTS)
                },
            }
            for name, its in taken.items()
        ],
    )


def stacked(logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """As the definitions say: p̄ log-ratios of [members, tokens, vocabulary], and votes counted over the vocabulary."""
    p = logits.softmax(dim=-1)
    mean = p.mean(dim=0)
    kl = (p * (p.log() - mean.log())).nan_to_num().sum(dim=-1).mean(dim=0)
    votes = torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(p.dtype).mean(dim=0)
    return {"committee_kl": kl, "committee_vote_entropy": torch.special.entr(votes).sum(dim=-1)}
