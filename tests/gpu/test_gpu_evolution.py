"""An evolution on a CUDA device: whole, the same twice, the same when cut, and short of memory in a sentence."""

import dataclasses
import functools
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_resume import Cut, Fragile, assert_same

from diverseevol.engine.learner import Learner
from diverseevol.engine.memory import Budgets
from diverseevol.errors import InputError
from diverseevol.evolution.loop import evolve
from diverseevol.options import Generation
from diverseevol.samplers.kcenter import KCenter
from diverseevol.samplers.qbc import QueryByCommittee
from diverseevol.storage.files import read_json

pytestmark = pytest.mark.gpu
PRECISIONS = ("32-true", "bf16-mixed")


@pytest.fixture(scope="session")
def on_device(evolution: Any, on_gpu: Any, cache: Path) -> Callable[..., Any]:
    """`on_device(folder, precision, **changes)`: the usual small evolution, on the device."""

    def make(folder: Path, precision: str = "32-true", **changes: Any) -> Any:
        learner = on_gpu(precision)
        space = functools.cache(lambda: learner.foundation_embedding(cache / f"foundation-cuda-{precision}"))
        return evolution(folder, **{"learner": learner, "space": space, "keep_models": "all", **changes})

    return make


@pytest.fixture(scope="module", params=PRECISIONS)
def finished(request: Any, on_device: Any, tmp_path_factory: Any) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("gpu") / request.param
    evolve(on_device(folder, request.param))
    return request.param, folder


def weights(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(folder.glob("rounds/*/model/model.safetensors"))]


def test_an_evolution_runs_to_its_end(finished: tuple[str, Path]) -> None:
    _, folder = finished
    for t in range(3):
        done = read_json(folder / f"rounds/{t:02d}/round.json")
        assert len(done["trained_on"]) == 6 + 4 * t
        assert all(np.isfinite(value) for value in done["metrics"].values())
        assert (folder / f"rounds/{t:02d}/answers/small.jsonl").exists()


def test_it_is_the_same_twice_to_the_last_bit(finished: tuple[str, Path], on_device: Any, tmp_path: Path) -> None:
    precision, folder = finished
    evolve(on_device(tmp_path, precision))
    assert_same(tmp_path, folder)
    assert weights(tmp_path) == weights(folder)
    assert len(weights(folder)) == 3


@pytest.mark.parametrize(
    ("method", "count", "after"), [("fit", 2, True), ("probe", 2, False), ("probe", 2, True), ("answer", 2, False)]
)
def test_cut_anywhere_it_ends_as_if_it_had_not_been(
    finished: tuple[str, Path], on_device: Any, tmp_path: Path, method: str, count: int, after: bool
) -> None:
    precision, folder = finished
    usual = on_device(tmp_path, precision)
    fields = {f.name: getattr(usual.learner, f.name) for f in dataclasses.fields(Learner)}
    with pytest.raises(Cut):
        evolve(dataclasses.replace(usual, learner=Fragile(**fields, method=method, count=count, after=after)))
    evolve(on_device(tmp_path, precision))
    assert_same(tmp_path, folder)
    assert weights(tmp_path) == weights(folder)


def test_in_float32_it_agrees_with_the_processor(
    finished: tuple[str, Path], evolution: Any, tmp_path: Path, capsys: Any
) -> None:
    precision, folder = finished
    evolve(evolution(tmp_path))
    ours, theirs = (read_json(run / "rounds/00/round.json") for run in (folder, tmp_path))
    assert ours["trained_on"] == theirs["trained_on"]  # P_0 knows no device
    tolerance = 1e-3 if precision == "32-true" else 0.1
    assert ours["metrics"]["train_loss"] == pytest.approx(theirs["metrics"]["train_loss"], rel=tolerance)
    with capsys.disabled():
        same = len(set(ours["chosen"]) & set(theirs["chosen"]))
        print(f"\n  {precision}: {same} of {len(ours['chosen'])} picks of round 0 as on the processor")


def test_a_committee_sits_on_the_device(on_device: Any, tmp_path: Path) -> None:
    sampler = QueryByCommittee(size=3, disagreement="kl")
    first, again = (evolve(on_device(tmp_path / name, sampler=sampler)) for name in ("first", "again"))
    assert [done.chosen for done in first] == [done.chosen for done in again]
    assert len(first[1].chosen) == 4


def test_kcenter_may_pick_on_the_device(finished: tuple[str, Path], on_device: Any, tmp_path: Path) -> None:
    precision, folder = finished
    rounds = evolve(on_device(tmp_path, precision, sampler=KCenter(device="cuda")))
    for done in rounds:
        assert list(done.chosen) == read_json(folder / f"rounds/{done.index:02d}/round.json")["chosen"]


def test_models_of_earlier_rounds_leave_the_device(lab: Callable[..., Learner]) -> None:
    learner, held = lab("cuda"), []
    for seed in range(4):
        model = learner.fit(np.arange(8), (0, seed)).model
        learner.answer(model, [("Why?", "")], [(0,)], Generation(max_new_tokens=2))
        held.append(torch.cuda.memory_allocated())
        del model
    assert held[-1] < 1.5 * held[0]


def test_a_full_device_ends_a_fit_in_a_sentence_and_halves_the_rest(
    lab: Callable[..., Learner], tmp_path: Path
) -> None:
    learner, rows = lab("cuda"), np.arange(400)
    large = dataclasses.replace(
        learner,
        tuning=dataclasses.replace(learner.tuning, micro_batch_tokens=10**6, batch_size=400),
        embedding=dataclasses.replace(learner.embedding, batch_tokens=10**6),
        budgets=Budgets(),
    )
    model = learner.foundation.load().eval()
    total = torch.cuda.get_device_properties(0).total_memory
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 64 * 2**20) / total)
    try:
        with pytest.raises(InputError, match=r"tuning.micro_batch_tokens=1000000: needs more memory"):
            large.fit(rows, (0, 0))
        halved, _ = large.probe(model, rows, tmp_path / "large", statistics=["response_entropy"])
        assert large.budgets.halved["embedding.batch_tokens"] < 10**6
        questions = [("Name three animals. " * 40, "")] * 400
        options = Generation(max_new_tokens=64, batch_size=400)
        assert len(large.answer(model, questions, [(0,)] * 400, options)) == 400
        assert large.budgets.halved["generation.batch_size"] < 400
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        model.cpu()
        gc.collect()
        torch.cuda.empty_cache()
    embedding, _ = learner.probe(model, rows, tmp_path / "small")  # and what follows has its room again
    np.testing.assert_allclose(halved, embedding, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("choice", ["auto", "bf16"])
def test_the_command_runs_there_and_resumes(choice: str, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "diverseevol", "evolve", "data=lab", "data.size=400", "model=lab", f"trainer={choice}",
        "schedule.rounds=1", "schedule.seed_size=20", "schedule.step_size=10", "benchmark=lab_development",
        "logger=none", f"folder={tmp_path}/run", f"cache={tmp_path}/cache", "sampler=kcenter",
    ]  # fmt: skip
    for said in ("round 1/1: 30 rows", "nothing to do: all rounds are complete"):
        ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
        assert ran.returncode == 0, ran.stderr
        assert said in ran.stderr
