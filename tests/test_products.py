"""float32 products by oneDNN: the same results up to rounding, for layers that have something to gain."""

import dataclasses
import functools
import gc
from contextlib import nullcontext

import lightning
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from diverseevol.engine import fast_path, products
from diverseevol.engine.answering.generation import generate
from diverseevol.engine.fast_path import SWITCH, quick_products
from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import TinyLlama
from diverseevol.engine.products import MIN_TOKENS, OneDnnProducts, Product
from diverseevol.engine.trainers import start
from diverseevol.engine.tuning import loss
from diverseevol.engine.tuning.loss import SummedLoss
from diverseevol.engine.tuning.sft import checkpoint_activations
from diverseevol.options import Embedding, Generation, Tuning


@pytest.fixture
def asked(monkeypatch) -> list[tuple[int, ...]]:
    """The shapes of the inputs that go to oneDNN."""
    shapes: list[tuple[int, ...]] = []
    real = products.by_onednn

    def watched(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        shapes.append(tuple(inputs.shape))
        return real(inputs, weight, bias)

    monkeypatch.setattr(products, "by_onednn", watched)
    return shapes


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(MIN_TOKENS, 24), (4, MIN_TOKENS, 24)])
def test_results_and_gradients_are_the_same_up_to_rounding(asked, bias, shape):
    layer = torch.nn.Linear(24, 40, bias=bias)
    inputs = torch.randn(*shape, requires_grad=True)

    def results(context):
        layer.zero_grad()
        inputs.grad = None
        with context:
            output = layer(inputs)
            output.square().sum().backward()
        return [output.detach(), inputs.grad.clone(), *(weight.grad.clone() for weight in layer.parameters())]

    expected = results(nullcontext())
    assert not asked
    for got, wanted in zip(results(OneDnnProducts()), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert len(asked) == 3  # the product, and the gradients of inputs and weight


def test_layers_that_are_computed_again_in_the_backward_pass_are_computed_in_the_same_way(asked, monkeypatch):
    """Activation checkpointing, and a loss in chunks."""
    config = LlamaConfig(
        hidden_size=320, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, vocab_size=99
    )
    monkeypatch.setattr(fast_path, "mkl_is_slow", lambda: True)
    model, ids = LlamaForCausalLM(config).train(), torch.arange(3 * MIN_TOKENS).reshape(2, -1)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    gradients = []
    for chunk, verb in ((10**9, None), (4 * 99 * MIN_TOKENS, None), (4 * 99 * MIN_TOKENS, "enable")):
        if verb:
            checkpoint_activations(model, verb)
        monkeypatch.setattr(loss, "CHUNK_BYTES", chunk)
        model.zero_grad()
        asked.clear()
        with quick_products(model):
            SummedLoss(model)(batch).backward()
        assert len(asked) > 3 * 2 * 7
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    for changed in gradients[1:]:
        torch.testing.assert_close(changed, gradients[0], rtol=1e-3, atol=1e-4)
    assert not OneDnnProducts.on


def test_gradients_are_those_of_finite_differences(monkeypatch):
    monkeypatch.setattr(products, "by_onednn", torch.nn.functional.linear)  # in float64, which oneDNN does not take
    sizes = ((2, 3, 4), (5, 4), (5,))
    given = [torch.randn(*size, dtype=torch.float64, requires_grad=True) for size in sizes]
    assert torch.autograd.gradcheck(Product.apply, given)
    assert torch.autograd.gradcheck(Product.apply, given[:2])
    given[1].requires_grad_(False)
    assert torch.autograd.gradcheck(Product.apply, given)


def test_other_layers_are_left_alone(asked):
    layer = torch.nn.Linear(24, 40)
    with OneDnnProducts(), torch.no_grad():
        layer(torch.randn(MIN_TOKENS - 1, 24))
        layer(torch.randn(24))
        layer.double()(torch.randn(MIN_TOKENS, 24, dtype=torch.float64))
        layer.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(torch.randn(MIN_TOKENS, 24)).dtype is torch.bfloat16
        layer.bfloat16()(torch.randn(MIN_TOKENS, 24, dtype=torch.bfloat16))
        assert not asked
        layer.float()(torch.randn(MIN_TOKENS, 24))
    assert asked == [(MIN_TOKENS, 24)]


def test_small_models_and_other_processors_are_left_alone(foundation, monkeypatch):
    model = foundation.load()
    monkeypatch.setattr(fast_path, "mkl_is_slow", lambda: True)
    assert isinstance(quick_products(model), nullcontext)
    model.config.hidden_size = 2048
    assert isinstance(quick_products(model), OneDnnProducts)
    monkeypatch.setenv(SWITCH, "0")
    assert isinstance(quick_products(model), nullcontext)
    monkeypatch.delenv(SWITCH)
    monkeypatch.setattr(fast_path, "mkl_is_slow", lambda: False)
    assert isinstance(quick_products(model), nullcontext)


def test_fit_probe_and_answers_of_a_wide_model_are_the_same_up_to_rounding(
    dataset, prompt, encoded, cache, tmp_path, asked
):
    wide = TinyLlama(hidden=288, layers=1, heads=2, vocabulary=300).prepare(dataset, cache)
    trainer = functools.partial(lightning.Trainer, accelerator="cpu")
    own = Learner(
        foundation=wide, prompt=prompt, encoded=encoded, trainer=trainer,
        tuning=Tuning(learning_rate=1e-3, steps=3, batch_size=4),
    )  # fmt: skip
    rows = np.flatnonzero(encoded.eligible)[:12]

    def results(slow: bool, folder: str) -> tuple[list[float], np.ndarray, list[list[int]]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fast_path, "mkl_is_slow", lambda: slow)
            gc.collect()  # what other tests left
            fit = own.fit(rows, (0,))
            assert not any(type(thing) is torch.optim.AdamW for thing in gc.get_objects())  # nor its memory
            embedding, _ = own.probe(fit.model, rows, tmp_path / folder)
            before = len(asked)
            prompts, options = [list(range(2, 40))] * 2, Generation(max_new_tokens=4, temperature=0)
            answers = generate(fit.model, prompts, [()] * 2, options, [299])
            assert (len(asked) > before) == slow
        return [point["loss"] for point in fit.curve], np.array(embedding), answers

    losses, vectors, answers = results(False, "mkl")
    assert not asked
    quick_losses, quick_vectors, quick_answers = results(True, "onednn")
    assert quick_losses == pytest.approx(losses, abs=1e-5)
    np.testing.assert_allclose(quick_vectors, vectors, atol=1e-4)
    assert quick_answers == answers
    again_losses, again_vectors, _ = results(True, "again")
    assert again_losses == quick_losses
    np.testing.assert_array_equal(again_vectors, quick_vectors)


def test_a_deterministic_trainer_does_not_fill_new_memory(learner, encoded):
    own = start(functools.partial(lightning.Trainer, accelerator="cpu", deterministic=True), learner.processes)
    try:
        assert own is not None
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("grows", [1, 3])
def test_mixed_precision_casts_each_weight_once_for_a_pass(learner, foundation, tmp_path, grows):
    """However many batches there are, and however many tokens an answer has."""
    trainer = functools.partial(lightning.Trainer, accelerator="cpu", precision="bf16-mixed")
    own = dataclasses.replace(learner, trainer=trainer, embedding=Embedding(batch_tokens=1))  # a row a batch
    model = foundation.load().eval()
    weights = {weight.data_ptr() for weight in model.parameters()}
    casts: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in weights:
                casts.append(args[0].data_ptr())
            return func(*args, **(kwargs or {}))

    with Watch():
        own.probe(model, np.arange(grows), tmp_path / "embedding")
    assert casts
    assert len(casts) == len(set(casts))
    casts.clear()
    with Watch():
        own.answer(model, [("Say it.", "")], [(0,)], Generation(max_new_tokens=grows, temperature=0))
    assert casts
    assert len(casts) == len(set(casts))
