"""Per-row token statistics that uncertainty samplers choose by, reduced over the vocabulary as they stream past.

Two families, by name. `reference_*` follow the authors' code: raw logits (entropy: softmax), averaged over every
token position. `response_*` are the textbook definitions: probabilities, averaged over the response tokens only. Both
are finite for any finite logits: the entropy is taken as log Z - <p, z>, never as p · log p of a probability that may
have underflowed.
"""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional

REFERENCE = ("reference_confidence", "reference_margin", "reference_entropy")
RESPONSE = ("response_confidence", "response_margin", "response_entropy", "response_loss")
NAMES = frozenset(REFERENCE + RESPONSE)

BLOCK_LOGITS = 2**19  # reduced at once on a processor: two megabytes of float32 stay in its cache


def token_statistics(
    logits: Float[torch.Tensor, "tokens vocabulary"],
    next_ids: Int[torch.Tensor, " tokens"],
    names: Iterable[str],
) -> dict[str, Float[torch.Tensor, " tokens"]]:
    """Statistics of each position's prediction of its next token.

    Args:
        logits: [tokens, vocabulary] in any floating type.
        next_ids: [tokens] the token that follows each position; anything where none does.
        names: which of `NAMES`.

    Returns:
        name -> [tokens] float32: `*_confidence` is the top raw logit or the top probability, `*_margin` the first
        minus the second of them, `*_entropy` the entropy of the prediction in nats, `response_loss` the negative
        log-likelihood of the next token in nats.
    """
    wanted = set(names)
    out = {name: torch.empty(len(logits), device=logits.device) for name in NAMES if name in wanted}
    for part in blocks(logits):
        for name, value in _reduced(logits[part].float(), next_ids[part], wanted).items():
            out[name][part] = value
    return out


def double_device(device: torch.device) -> torch.device:
    """Where sums in double precision are taken: on the device itself, but for Apple's, which have no such numbers."""
    return torch.device("cpu") if device.type == "mps" else device


def blocks(logits: Float[torch.Tensor, "tokens vocabulary"]) -> Iterator[slice]:
    """Positions that are reduced together: few on a processor, all of them on a device, where launches cost."""
    tokens, vocabulary = logits.shape
    step = max(1, BLOCK_LOGITS // vocabulary) if logits.device.type == "cpu" else max(1, tokens)
    return (slice(start, start + step) for start in range(0, tokens, step))


def _reduced(
    z: Float[torch.Tensor, "block vocabulary"], next_ids: Int[torch.Tensor, " block"], wanted: set[str]
) -> dict[str, Float[torch.Tensor, " block"]]:
    out: dict[str, torch.Tensor] = {}
    margins = any(name.endswith("margin") for name in wanted)
    top = z.topk(2, dim=-1).values if margins else z.amax(dim=-1, keepdim=True)
    if "reference_confidence" in wanted:
        out["reference_confidence"] = top[:, 0]
    if "reference_margin" in wanted:
        out["reference_margin"] = top[:, 0] - top[:, 1]
    if wanted - {"reference_confidence", "reference_margin"}:
        z = z - top[:, :1]  # shifted by the maximum: exp cannot overflow, and the top logit is 0
        e = z.exp()
        Z = e.sum(dim=-1)
        if "response_confidence" in wanted:
            out["response_confidence"] = 1 / Z
        if "response_margin" in wanted:
            out["response_margin"] = (1 - (top[:, 1] - top[:, 0]).exp()) / Z
        if entropies := wanted & {"reference_entropy", "response_entropy"}:
            # `sum` adds up pairwise; a matrix product would not, and err a hundred times as much.
            entropy = (Z.log() - e.mul_(z).sum(dim=-1) / Z).clamp(min=0)
            out |= dict.fromkeys(entropies, entropy)
        if "response_loss" in wanted:
            out["response_loss"] = Z.log() - z.gather(1, next_ids[:, None])[:, 0]
    return out


def positions(
    name: str,
    attention_mask: Int[torch.Tensor, "batch length"],
    learned: Bool[torch.Tensor, "batch length"],
) -> Bool[torch.Tensor, "batch length"]:
    """Where a statistic is averaged: at every token, or at the positions whose next token is learned."""
    if name in REFERENCE:
        return attention_mask.bool()
    return functional.pad(learned[:, 1:], (0, 1))  # nothing follows the last position
