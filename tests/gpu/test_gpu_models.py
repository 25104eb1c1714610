"""What a model says on a CUDA device is what it says on the processor, as far as the precision goes."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diverseevol.engine import packing
from diverseevol.engine.learner import Learner
from diverseevol.engine.probing.committee_probe import DISAGREEMENTS
from diverseevol.engine.probing.token_statistics import NAMES, token_statistics
from diverseevol.lab import development
from diverseevol.options import Generation

pytestmark = pytest.mark.gpu
PRECISIONS = ("32-true", "bf16-mixed")
ROWS = np.arange(0, 600, 4)
Lab = Callable[..., Learner]


@pytest.fixture(scope="module")
def tuned(lab: Lab) -> Any:
    """Trained on the processor, so that both devices are asked about the same weights."""
    return lab("cpu").fit(np.arange(60), (0, 1)).model


def probed(learner: Learner, model: Any, folder: Path, statistics: Sequence[str] = (), **changes: Any) -> Any:
    learner = dataclasses.replace(learner, embedding=dataclasses.replace(learner.embedding, **changes))
    embedding, scores = learner.probe(model, ROWS, folder, statistics=statistics)
    return np.array(embedding), {name: np.array(values) for name, values in scores.items()}


@pytest.mark.parametrize("region", ["all", "response", "instruction"])
def test_embeddings_in_float32_are_the_processors(lab: Lab, tuned: Any, tmp_path: Path, region: str) -> None:
    ours, _ = probed(lab("cuda"), tuned, tmp_path / "gpu", region=region)
    theirs, _ = probed(lab("cpu"), tuned, tmp_path / "cpu", region=region)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_padding_changes_nothing_beyond_the_precision(lab: Lab, tuned: Any, tmp_path: Path, precision: str) -> None:
    learner = lab("cuda", precision)
    alone, _ = probed(learner, tuned, tmp_path / "alone", batch_tokens=1)
    together, _ = probed(learner, tuned, tmp_path / "together", batch_tokens=10**5)
    apart = np.linalg.norm(alone[:, None] - alone[None], axis=2)
    nearest = np.median(np.where(apart > 0, apart, np.inf).min(axis=1))
    moved = np.linalg.norm(together - alone, axis=1)
    assert moved.max() < (1e-4 if precision == "32-true" else 0.1) * nearest


def test_bfloat16_keeps_the_geometry(lab: Lab, tuned: Any, tmp_path: Path) -> None:
    half, _ = probed(lab("cuda", "bf16-mixed"), tuned, tmp_path / "half")
    full, _ = probed(lab("cuda"), tuned, tmp_path / "full")
    centred = full - full.mean(axis=0)
    error = np.linalg.norm(half - full, axis=1)
    assert error.max() < 0.1 * np.median(np.linalg.norm(centred, axis=1))
    assert error.max() > 0  # it was bfloat16


def test_token_statistics_are_the_processors(lab: Lab, tuned: Any, tmp_path: Path) -> None:
    _, ours = probed(lab("cuda"), tuned, tmp_path / "gpu", sorted(NAMES))
    _, theirs = probed(lab("cpu"), tuned, tmp_path / "cpu", sorted(NAMES))
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_reductions_over_a_large_vocabulary_are_exact_there_too(device: torch.device) -> None:
    z = 3 * torch.randn(300, 32_000, generator=torch.Generator().manual_seed(0))
    z[0] = -1e4
    z[0, 7] = 1e4  # peaked: all other probabilities underflow
    next_ids = torch.arange(300)
    exact = token_statistics(z, next_ids, NAMES)
    found = token_statistics(z.to(device), next_ids.to(device), NAMES)
    for name, values in found.items():
        assert values.device.type == "cuda"
        assert torch.isfinite(values).all()
        torch.testing.assert_close(values.cpu(), exact[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_committees_disagreement_is_the_processors(lab: Lab, tuned: Any, tmp_path: Path) -> None:
    other = lab("cpu").fit(np.arange(40, 100), (0, 2)).model
    both = sorted(DISAGREEMENTS)
    ours = lab("cuda").disagreement([tuned, other], ROWS, tmp_path / "gpu", both)
    theirs = lab("cpu").disagreement([tuned, other], ROWS, tmp_path / "cpu", both)
    for name in both:  # a vote near a tie may fall the other way
        close = np.isclose(ours[name], theirs[name], rtol=1e-2, atol=1e-4)
        assert close.mean() > 0.95, name
        assert np.asarray(theirs[name]).max() > 0


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_answers_are_the_processors_but_for_near_ties(
    lab: Lab, tuned: Any, cache: Path, temperature: float, capsys: Any
) -> None:
    questions = [(q.instruction, q.input) for q in development(cache=cache)[0].questions[:80]]
    seeds, options = [(3, i) for i in range(len(questions))], Generation(24, temperature, 80)
    ours = lab("cuda").answer(tuned, questions, seeds, options)
    theirs = lab("cpu").answer(tuned, questions, seeds, options)
    one = lab("cuda").answer(tuned, questions[:16], seeds, dataclasses.replace(options, batch_size=1))
    same, alone = (sum(map(str.__eq__, left, right)) for left, right in ((ours, theirs), (one, ours)))
    with capsys.disabled():
        print(f"\n  temperature {temperature}: {same} of {len(questions)} answers as on the processor")
    assert same >= 0.9 * len(questions)
    assert alone >= 14


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_moves_every_weight_and_is_the_same_twice(lab: Lab, precision: str) -> None:
    learner = lab("cuda", precision)
    before = learner.foundation.load().state_dict()
    first, again = (learner.fit(np.arange(24), (0, 5)) for _ in range(2))
    assert first.curve == again.curve
    assert first.curve[-1]["loss"] < first.curve[0]["loss"]
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
        assert not torch.equal(value.cpu(), before[name]), name
    loss = lab("cpu").fit(np.arange(24), (0, 5)).curve[0]["loss"]
    assert first.curve[0]["loss"] == pytest.approx(loss, rel=1e-4 if precision == "32-true" else 2e-2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_packed_rows_are_learned_as_padded_ones_are(lab: Lab, precision: str) -> None:
    learner = lab("cuda", precision)
    padded, packed = (
        dataclasses.replace(learner, tuning=dataclasses.replace(learner.tuning, packing=wanted)).fit(
            np.arange(24), (0, 5)
        )
        for wanted in (False, True)
    )
    tolerance = 1e-4 if precision == "32-true" else 2e-2
    assert [p["loss"] for p in packed.curve] == pytest.approx([p["loss"] for p in padded.curve], rel=tolerance)


def test_the_kernel_for_rows_of_different_lengths_attends_as_row_by_row(device: torch.device) -> None:
    torch.manual_seed(0)
    ends = torch.tensor([0, 70, 71, 200], dtype=torch.int32, device=device)
    shapes = ((1, 4, 200, 64), (1, 2, 200, 64), (1, 2, 200, 64))
    for window in (None, 16):
        tensors = [torch.randn(shape, device=device, dtype=torch.bfloat16, requires_grad=True) for shape in shapes]
        assert packing._has_kernel(tensors[0], tensors[2])
        results = []
        for out in (
            packing._by_kernel(*tensors, ends, 129, None, window),
            packing._row_by_row(*tensors, ends, None, 0.0, window),
        ):
            gradients = torch.autograd.grad(out.float().square().sum(), tensors)
            results.append([out, *gradients])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
