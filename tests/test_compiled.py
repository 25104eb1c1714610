"""Layers that torch compiles for a fit: the same results, and a model like any other afterwards."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator

import families
import pytest
import torch
from test_sft import POOL, SEED, tuned, weights

from diverseevol.engine.learner import Learner
from diverseevol.engine.tuning import compiled
from diverseevol.engine.tuning.compiled import check_compiler, layers_compiled
from diverseevol.errors import InputError
from diverseevol.options import LoRA

# torch looks at gradients while it traces, and keeps its own warning of that to itself unless warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")

Graphs = list[torch.fx.GraphModule]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graphs]:
    """What torch would compile: here it traces layers, and runs what it traced as it is."""
    graphs: Graphs = []

    def note(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(compiled, "BACKEND", note)
    torch.compiler.reset()
    yield graphs
    torch.compiler.reset()


def fits(learner: Learner, **options):
    """The same fit without and with compiled layers."""
    usual = tuned(learner, steps=3, batch_size=6, micro_batch_tokens=450, **options)
    return [tuned(usual, compile=wanted).fit(POOL, SEED) for wanted in (False, True)]


@pytest.mark.parametrize("options", [{}, {"packing": True}, {"gradient_checkpointing": True}], ids=str)
def test_a_fit_with_compiled_layers_gives_the_same_losses_and_weights(learner, traced, options):
    plain, fast = fits(learner, learning_rate=1e-3, **options)
    assert traced
    assert [p["loss"] for p in fast.curve] == pytest.approx([p["loss"] for p in plain.curve], rel=1e-5)
    torch.testing.assert_close(weights(fast.model), weights(plain.model), rtol=0, atol=1e-6)
    assert list(fast.model.state_dict()) == list(plain.model.state_dict())
    assert not any(module._compiled_call_impl for module in fast.model.modules())


@pytest.mark.slow
def test_adapters_are_trained_in_compiled_layers(learner, traced):
    options = LoRA(learning_rate=1e-3, rank=4)
    plain, fast = fits(dataclasses.replace(learner, tuning=options), packing=True)
    assert traced
    torch.testing.assert_close(weights(fast.model), weights(plain.model), rtol=0, atol=1e-6)


def test_layers_that_are_alike_and_later_rounds_share_what_is_compiled(learner, traced):
    compiling = tuned(learner, steps=2, batch_size=len(POOL), compile=True)
    compiling.fit(POOL, SEED)
    first = len(traced)
    compiling.fit(POOL, (0, 0, 2))
    assert 0 < first == len(traced)


def test_only_training_runs_what_is_compiled(traced):
    model, ids = families.tiny("llama"), torch.arange(2, 20)[None]
    with layers_compiled(model):
        alone = model(ids).logits
        assert not traced
        torch.testing.assert_close(model.train()(ids).logits, alone)
        assert traced


def test_a_family_without_known_layers_is_refused():
    with (
        pytest.raises(InputError, match=r"^tuning\.compile=true: transformers does not say which parts of GPTNeoXJap"),
        layers_compiled(families.tiny("gpt_neox_japanese")),
    ):
        pass


def test_a_machine_without_a_compiler_is_refused_before_the_model_is_read(learner, monkeypatch):
    def missing(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(compiled, "BACKEND", missing)
    monkeypatch.setattr(type(learner.foundation), "load", lambda self: pytest.fail("read the model"))
    with pytest.raises(
        InputError, match=r"^tuning\.compile=true: torch cannot compile for this cpu \(.*No working C\+\+"
    ):
        tuned(learner, compile=True).fit(POOL, SEED)
    torch.compiler.reset()


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch by torch
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("packing", [False, True])
def test_code_that_torch_really_compiles_gives_the_same_losses(learner, packing):
    plain, fast = fits(learner, packing=packing)
    assert [p["loss"] for p in fast.curve] == pytest.approx([p["loss"] for p in plain.curve], rel=1e-4)
    check_compiler(torch.device("cpu"))
