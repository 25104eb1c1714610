"""Held-out rows: in no pool, the same for every sampler and seed; the loss on them, with its interval."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import torch

from diverseevol.data.conversation import exchange
from diverseevol.data.dataset import load
from diverseevol.data.tokens import encode
from diverseevol.errors import InputError
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question, check_references, with_references
from diverseevol.evolution.loop import evolve
from diverseevol.evolution.metrics import DEFAULT, ReferenceLoss
from diverseevol.evolution.metrics.losses import mean_loss
from diverseevol.samplers.random import Random


@pytest.fixture
def rows_file(tmp_path):
    rows = [
        {"instruction": f"Name {i}.", "input": "", "output": "cod " * (1 + i % 5),
         "split": "test" if i % 10 == 3 else "train", "kept": i % 7 == 0}
        for i in range(60)
    ]  # fmt: skip
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_number_of_rows_is_drawn_with_a_seed_of_its_own(rows_file, tmp_path):
    few, many, other = (
        load(rows_file, cache=tmp_path, held_out=n, held_out_seed=seed).held_out.tolist()
        for n, seed in ((5, 0), (9, 0), (5, 1))
    )
    assert len(set(few)) == 5
    assert set(few) < set(many)
    assert set(few) != set(other)
    assert few == sorted(few)
    assert load(rows_file, cache=tmp_path).held_out.tolist() == []


def test_a_field_or_a_file_says_which_rows_are_held_out(rows_file, tmp_path):
    assert load(rows_file, cache=tmp_path, held_out="split:test").held_out.tolist() == [3, 13, 23, 33, 43, 53]
    for kept in ("kept", "kept:true", "kept:True"):
        assert load(rows_file, cache=tmp_path, held_out=kept).held_out.tolist() == list(range(0, 60, 7))
    (tmp_path / "held.json").write_text("[7, 2]")
    assert load(rows_file, cache=tmp_path, held_out=str(tmp_path / "held.json")).held_out.tolist() == [2, 7]


@pytest.mark.parametrize(
    ("held_out", "sentence"),
    [
        (60, "data.held_out is 60, but there are 60 rows; give 0 to 59"),
        (-1, "data.held_out is -1"),
        ("nothing", "data.held_out=nothing: no row has a field 'nothing' besides .* its other fields .kept, split"),
        ("output", "data.held_out=output: no row has a field 'output' besides those of its instruction, input and"),
        ("split", "data.held_out=split: every row has a true value in its field 'split' .its values: test, train"),
        ("split:tset", "data.held_out=split:tset: no row has 'tset' in its field 'split' .its values: test, train"),
        ("missing.json", "data.held_out=missing.json: no such file"),
    ],
)
def test_what_names_no_rows_is_one_sentence(rows_file, tmp_path, held_out, sentence):
    with pytest.raises(InputError, match=sentence):
        load(rows_file, cache=tmp_path, held_out=held_out)


def test_a_file_that_names_no_row_is_one_sentence(rows_file, tmp_path):
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(InputError, match=r"none\.json: names no row; give a file that names some, or data\.held_out=0"):
        load(rows_file, cache=tmp_path, held_out=str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("benchmarks", "sentence"),
    [
        ((), r"reference_loss=true: nothing is asked \(benchmark=none\); choose a benchmark="),
        ((Benchmark("toy", (Question("1", "Why?"),)),), "reference_loss=true: no question of toy has a reference or a"),
    ],
)
def test_a_loss_on_references_that_are_not_there_is_refused(benchmarks, sentence):
    with pytest.raises(InputError, match=sentence):
        check_references(benchmarks)


def test_the_mean_is_of_tokens_and_its_interval_over_rows():
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 60, size=400)
    losses = (2 + rng.standard_normal(400) * 0.5 + tokens / 60).astype(np.float32)
    loss = mean_loss(losses, tokens)
    assert loss.mean == pytest.approx((losses * tokens).sum() / tokens.sum())
    draws = rng.integers(0, 400, size=(4000, 400))
    resampled = (losses * tokens)[draws].sum(axis=1) / tokens[draws].sum(axis=1)
    np.testing.assert_allclose([loss.low, loss.high], np.percentile(resampled, [2.5, 97.5]), atol=0.01)
    alone = mean_loss(losses[:1], tokens[:1])
    assert alone.low == alone.mean == alone.high


@pytest.fixture
def held(evolution, learner, dataset, cache, tmp_path):
    """Makes an evolution of which 9 rows are held out; one of them has no response token."""
    ours = dataclasses.replace(dataset, held_out=np.array([2, 7, 11, 20, 31, 40, 41, 50, 59]))
    theirs = dataclasses.replace(learner, encoded=encode(ours, learner.prompt, cache))
    space = functools.cache(lambda: theirs.foundation_embedding(cache / "foundation-of-the-tests"))
    return functools.partial(evolution, dataset=ours, learner=theirs, space=space)


def test_held_out_rows_join_no_pool_and_are_measured_each_round(held, learner, dataset, tmp_path):
    benchmark = Benchmark("small", (Question("1", "What is 1?", reference="It is 1."), Question("2", "And 2?")))
    exam = dataclasses.replace(held(tmp_path).exam, benchmarks=())
    rounds = evolve(held(tmp_path / "kcenter", keep_models="all"))
    other = evolve(held(tmp_path / "random", sampler=Random(), exam=exam))
    out = set(held(tmp_path).dataset.held_out.tolist())
    assert all(not out & {*done.trained_on, *done.chosen} for done in (*rounds, *other))
    assert rounds[0].metrics["held_out_loss"] == other[0].metrics["held_out_loss"]  # the same rows, the same model
    assert "reference_loss/small" not in rounds[0].metrics
    model = learner.foundation.load(tmp_path / "kcenter/rounds/02/model").eval()
    sums, tokens = 0.0, 0
    for row in sorted(out - {7}):
        ids, start = (
            torch.tensor(learner.encoded.row(row).astype(np.int64))[None],
            int(learner.encoded.lengths[row] - learner.encoded.response_tokens[row]),
        )
        labels = torch.where(torch.arange(ids.shape[1]) < start, -100, ids)
        with torch.no_grad():
            loss = float(model(ids, labels=labels).loss)
        sums, tokens = sums + loss * (ids.shape[1] - start), tokens + ids.shape[1] - start
    last = rounds[-1].metrics
    assert last["held_out_loss"] == pytest.approx(sums / tokens, rel=1e-4)
    assert last["held_out_loss_low"] < last["held_out_loss"] < last["held_out_loss_high"]
    assert with_references(benchmark) == [exchange("What is 1?", "", "It is 1.")]


def test_the_loss_on_references_is_measured_where_it_is_asked_for(held, tmp_path):
    first, *_ = evolve(held(tmp_path / "run", metrics=[*DEFAULT[:-1], ReferenceLoss()]))
    assert 0 < first.metrics["reference_loss_low/small"] < first.metrics["reference_loss/small"]
    assert not list((tmp_path / "run").rglob("*loss*"))
