"""The loss in chunks: what it says, and what it holds in memory."""

import dataclasses

import numpy as np
import pytest
import torch
from families import prompt, rows, tiny
from torch.utils._python_dispatch import TorchDispatchMode

from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.tuning import loss
from diverseevol.engine.tuning.batches import IGNORED, collate
from diverseevol.engine.tuning.loss import SummedLoss
from diverseevol.errors import warn_once
from diverseevol.options import LoRA, Tuning

VOCABULARY = 320  # of the families' small models
MODELS = {
    "llama": {},
    "llama, tied": {"tie_word_embeddings": True},
    "gemma2": {"final_logit_softcapping": 0.5},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 8.0},
    "minicpm3": {"dim_model_base": 8},
    "falcon_h1": {"lm_head_multiplier": 3.0},
    "modernbert-decoder": {},
    "gpt2": {},
    "opt": {},
}


def model_of(name: str):
    return tiny(name.partition(",")[0], **MODELS[name])  # without dropout, which some have when they are trained


def batch():
    return collate(rows(), range(len(rows())), 0)


def chunks_of(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK_BYTES", 4 * VOCABULARY * positions)


def of_all_logits(model, micro) -> torch.Tensor:
    """The same loss, of the complete model's logits of all tokens."""
    out = model(input_ids=micro["input_ids"], attention_mask=micro["attention_mask"], use_cache=False)
    labels = micro["labels"][:, 1:]
    return torch.nn.functional.cross_entropy(
        out.logits[:, :-1].float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def gradients(model, value: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    value.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor of logits that any function of torch makes, forward or backward."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.ndim and tensor.shape[-1] == VOCABULARY:
                self.positions = max(self.positions, tensor.numel() // VOCABULARY)
        return out


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_in_chunks_are_those_of_all_logits(name, monkeypatch):
    model, micro = model_of(name), batch()
    chunks_of(7, monkeypatch)
    sums = SummedLoss(model)
    in_chunks, plain = sums(micro), of_all_logits(model, micro)
    assert sums.parts.head(micro) is not None
    assert in_chunks.item() == pytest.approx(plain.item(), rel=1e-5)
    ours, expected = gradients(model, in_chunks), gradients(model, plain)
    assert set(ours) == set(expected)
    for weight, gradient in expected.items():
        torch.testing.assert_close(ours[weight], gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()) + 1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_no_tensor_holds_the_logits_of_more_than_a_chunk(name, monkeypatch):
    model, micro = model_of(name), batch()
    sums = SummedLoss(model)
    sums(micro)  # the model is tested at the first batch
    most, learned = {}, int((micro["labels"] != IGNORED).sum())
    for positions in (40, learned):
        chunks_of(positions, monkeypatch)
        with Largest() as largest:
            sums(micro).backward()
        most[positions] = largest.positions
    # The head's own weight has as many columns as the model is wide, transposed or not.
    assert most == {40: 40, learned: learned}


def test_few_positions_are_one_chunk_and_the_same_bits_as_without_chunks(monkeypatch):
    model, micro = model_of("llama"), batch()
    learned = micro["labels"][:, 1:] != IGNORED
    hidden = model.model(input_ids=micro["input_ids"], attention_mask=micro["attention_mask"], use_cache=False)[0]
    logits = model.lm_head(hidden[:, :-1][learned])
    plain = torch.nn.functional.cross_entropy(logits, micro["labels"][:, 1:][learned], reduction="sum")
    monkeypatch.setattr(loss, "checkpoint", lambda *args, **options: pytest.fail("computes logits twice"))
    value = SummedLoss(model)(micro)
    assert torch.equal(value, plain)
    ours, expected = gradients(model, value), gradients(model, plain)
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_without_anything_to_learn_has_no_loss(name):
    micro = batch()
    micro["labels"] = torch.full_like(micro["labels"], IGNORED)
    value = SummedLoss(model_of(name))(micro)
    value.backward()
    assert value.item() == 0


def test_the_head_is_tried_on_the_same_ids_whatever_the_batch(monkeypatch):
    """Sharded processes, each with a batch of its own, have to come to the same end, or they wait for each other."""
    model, micro = model_of("llama"), batch()
    forward, tried = type(model).forward, []

    def noted(self, input_ids, **options):
        tried.append(input_ids.tolist())
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(type(model), "forward", noted)
    for part in (micro, {name: values[1:, :5] for name, values in micro.items() if values.ndim == 2}):
        assert SummedLoss(model).parts.head(part) is not None
    assert tried == [[[*range(8)]]] * 2


def test_a_model_whose_logits_need_more_than_its_hidden_states_learns_from_its_own_logits(monkeypatch, caplog):
    model, micro = model_of("llama"), batch()
    plain_forward = type(model).forward

    def of_the_ids_too(self, input_ids, **options):
        out = plain_forward(self, input_ids=input_ids, **options)
        out.logits = out.logits + input_ids[..., None] / 100 * torch.arange(VOCABULARY) / VOCABULARY
        return out

    monkeypatch.setattr(type(model), "forward", of_the_ids_too)
    chunks_of(7, monkeypatch)
    warn_once.cache_clear()
    sums = SummedLoss(model)
    values = [sums(micro).item() for _ in range(2)]
    assert values == pytest.approx([of_all_logits(model, micro).item()] * 2, rel=1e-6)
    (warned,) = [record.message for record in caplog.records if "logits" in record.message]
    assert warned.startswith("LlamaForCausalLM makes logits of more than its last hidden states")
    assert "lower tuning.micro_batch_tokens" in warned


@pytest.mark.parametrize("tuning", [Tuning, LoRA])
def test_chunks_go_with_activation_checkpointing_and_adapters(tuning, tmp_path, monkeypatch):
    tiny("llama").save_pretrained(tmp_path)
    options = tuning(learning_rate=1e-3, steps=3, batch_size=6, warmup_ratio=0)
    learner = Learner(foundation=Pretrained(str(tmp_path)), prompt=prompt(), encoded=rows(), tuning=options)
    curves = []
    for positions, checkpointing in ((10**6, False), (7, True)):
        chunks_of(positions, monkeypatch)
        changed = dataclasses.replace(options, gradient_checkpointing=checkpointing)
        fit = dataclasses.replace(learner, tuning=changed).fit(np.arange(len(rows())), (0,))
        curves.append([point["loss"] for point in fit.curve])
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)
    assert curves[0][-1] < curves[0][0]
