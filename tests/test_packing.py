"""Packing: rows in one sequence teach a model what they teach it in padded batches."""

import dataclasses
from collections.abc import Iterator
from itertools import chain, pairwise

import families
import numpy as np
import pytest
import torch
from test_sft import POOL, SEED, gradient, planned, tuned, weights

from diverseevol.engine import packing
from diverseevol.engine.body_and_head import BodyAndHead
from diverseevol.engine.learner import Learner
from diverseevol.engine.packing import ROWS_APART, attention_restored
from diverseevol.engine.tuning.batches import (
    IGNORED,
    collate,
    length_sorted_batches,
    pack,
    packed_batches,
    step_loader,
)
from diverseevol.engine.tuning.loss import SummedLoss
from diverseevol.errors import InputError
from diverseevol.options import LoRA

ROWS = families.rows()
EVERY = range(len(ROWS))


def learned(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch's loss, and the gradients of all weights that are trained."""
    loss = SummedLoss(model)(batch)
    model.zero_grad()
    loss.backward()
    gradients = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    return loss.detach(), torch.cat(gradients)


def assert_packing_changes_nothing(model) -> None:
    loss, gradients = learned(model, collate(ROWS, EVERY, families.END))
    packed_loss, packed_gradients = learned(model, pack(ROWS, EVERY))
    torch.testing.assert_close(packed_loss, loss, rtol=1e-5, atol=0)
    assert (packed_gradients - gradients).norm() < 1e-5 * gradients.norm()


@pytest.mark.parametrize(
    ("family", "attention", "chosen"),
    [
        ("llama", "sdpa", ROWS_APART),
        ("llama", "eager", "eager"),
        ("mistral", "sdpa", ROWS_APART),  # windows in all layers
        ("qwen3", "sdpa", ROWS_APART),
        ("gemma3_text", "sdpa", ROWS_APART),  # windows in some layers
        ("gemma3_text", "eager", "eager"),
        ("gemma2", "eager", "eager"),  # caps attention scores and logits
        ("gpt2", "sdpa", ROWS_APART),  # learned positions
        ("deepseek_v3", "sdpa", ROWS_APART),  # values narrower than queries
        ("llama4_text", "sdpa", "sdpa"),  # chunks, of which the mask alone knows
    ],
)
def test_packed_rows_have_the_loss_and_the_gradients_of_padded_ones(family, attention, chosen):
    model = families.tiny(family)
    model.set_attn_implementation(attention)
    with attention_restored(model):
        assert_packing_changes_nothing(model)
        assert model.config._attn_implementation == chosen
    assert model.config._attn_implementation == attention


@pytest.mark.parametrize("family", ["mamba", "jamba", "lfm2", "qwen3_next", "rwkv", "bloom"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_families_whose_rows_read_those_before_are_refused(family, dtype):
    model = families.tiny(family).to(dtype)
    with pytest.raises(InputError, match=r"^tuning\.packing=true: rows of \w+ cannot be packed with model\.attention="):
        SummedLoss(model)(pack(ROWS, EVERY))


LEAKING = """
bailing_hybrid bamba bloom cpmant deepseek_v4 falcon falcon_h1 falcon_mamba gpt_oss granitemoehybrid inkling2_text
inkling_text jamba kimi_linear lfm2 lfm2_moe lfm3 mamba mamba2 minimax mpt nemotron_h olmo_hybrid openai-gpt
qwen3_5_moe_text qwen3_5_text qwen3_next qwen4_exp_text recurrent_gemma rwkv xglm xlstm zamba zamba2 zaya
"""


@pytest.mark.nightly
@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_is_packed_without_a_difference_or_refused(family):
    model = families.tiny(family)
    if family not in LEAKING.split():
        assert_packing_changes_nothing(model)
        return
    with pytest.raises(InputError, match=r"^tuning\.packing=true: rows of"):
        SummedLoss(model)(pack(ROWS, EVERY))


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_rounding_to_bfloat16_does_not_pass_for_a_leak(family):
    model = families.tiny(family).to(torch.bfloat16)
    loss, packed_loss = (SummedLoss(model)(b) for b in (collate(ROWS, EVERY, families.END), pack(ROWS, EVERY)))
    torch.testing.assert_close(packed_loss, loss, rtol=1e-2, atol=0)


def test_a_row_learns_nothing_from_the_one_before(monkeypatch):
    model = families.tiny("llama")
    batch = pack(ROWS, [3, 0, 3])
    starts = batch["position_ids"][0] == 0
    assert starts.sum() == 3
    assert (batch["labels"][0, starts] == IGNORED).all()
    states = BodyAndHead(model).hidden(batch)[0].split(ROWS.lengths[[3, 0, 3]].tolist())
    torch.testing.assert_close(states[2], states[0])


def reference(query, key, value, ends, ends_again, longest, longest_again, *, scale, window_size, enable_gqa):
    """torch's variable-length attention by its documentation: [tokens, heads, dim], inclusive windows."""
    assert torch.equal(ends, ends_again)
    assert longest == longest_again == max(stop - start for start, stop in pairwise(ends.tolist()))
    assert query.dtype == key.dtype == value.dtype
    groups = query.shape[1] // key.shape[1]
    assert enable_gqa == (groups > 1)
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) * (scale or query.shape[-1] ** -0.5)
    row = torch.bucketize(torch.arange(len(query)), ends[1:], right=True)
    back = torch.arange(len(query))[:, None] - torch.arange(len(query))
    left, right = window_size
    assert right == 0
    seen = (row[:, None] == row) & (back >= 0) & ((left < 0) | (back <= left))
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(dim=-1), value)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3_text"])
def test_the_kernel_gets_what_its_documentation_asks_for(family, monkeypatch):
    monkeypatch.setattr(packing, "_has_kernel", lambda query, value: True)
    monkeypatch.setattr(packing, "varlen_attn", reference)
    model = families.tiny(family)
    assert_packing_changes_nothing(model)
    assert model.config._attn_implementation == ROWS_APART


def test_only_a_device_has_the_kernel():
    assert not packing._has_kernel(torch.zeros(1, 2, 4, 8, dtype=torch.bfloat16), torch.zeros(1, 2, 4, 8))


def test_packed_batches_are_few_and_keep_to_their_budget(encoded):
    lengths, rows, budget = encoded.lengths, np.arange(8, 60), 250
    batches = packed_batches(lengths, rows, budget)
    assert sorted(np.concatenate(batches)) == sorted(rows)
    assert all(lengths[batch].sum() <= budget for batch in batches)
    assert -(-lengths[rows].sum() // budget) <= len(batches) < len(length_sorted_batches(lengths, rows, budget))
    assert lengths[batches[0][0]] == lengths[rows].max()
    assert [len(batch) for batch in packed_batches(lengths, POOL, 1)] == [1] * len(POOL)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_packed_step_learns_the_rows_of_a_padded_one_on_any_number_of_processes(learner, encoded, world):
    padded, packed = (planned(encoded, packing=packing) for packing in (False, True))
    for step, other in zip(padded, packed, strict=True):
        assert sorted(chain(*step.micro_batches)) == sorted(chain(*other.micro_batches))
        assert step.response_tokens == other.response_tokens
    pad = learner.prompt.end
    shares = [list(step_loader(encoded, packed, pad, rank, world, packing=True)) for rank in range(world)]
    for i, batches in enumerate(step_loader(encoded, padded, pad)):
        assert len({len(share[i]) for share in shares}) == 1  # backward passes of all processes meet
        assert all("attention_mask" not in micro for share in shares for micro in share[i])
        parts = sum(gradient(learner, share[i]) for share in shares)
        torch.testing.assert_close(parts, gradient(learner, batches), rtol=1e-4, atol=1e-7)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("threads", "engine_path")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_packed_fit_gives_the_weights_of_a_padded_one(learner, checkpointing):
    usual = tuned(learner, steps=4, learning_rate=1e-4, batch_size=6, gradient_checkpointing=checkpointing)
    padded, *packed = (
        tuned(usual, packing=packing, micro_batch_tokens=tokens).fit(POOL, SEED)
        for packing, tokens in ((False, 450), (True, 450), (True, 10**6))
    )
    for fit in packed:
        torch.testing.assert_close(weights(fit.model), weights(padded.model), rtol=0, atol=1e-6)
        assert [p["loss"] for p in fit.curve] == pytest.approx([p["loss"] for p in padded.curve], rel=1e-6)
        assert fit.model.config._attn_implementation == padded.model.config._attn_implementation


def test_adapters_learn_the_same_from_packed_rows(learner: Learner):
    options = LoRA(learning_rate=1e-3, steps=3, batch_size=6, rank=4, micro_batch_tokens=450)
    padded, packed = (
        dataclasses.replace(learner, tuning=dataclasses.replace(options, packing=packing)).fit(POOL, SEED)
        for packing in (False, True)
    )
    torch.testing.assert_close(weights(packed.model), weights(padded.model), rtol=0, atol=1e-6)
    assert [p["loss"] for p in packed.curve] == pytest.approx([p["loss"] for p in padded.curve], rel=1e-5)
