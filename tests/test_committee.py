"""Query by committee: what members disagree about, who sits on a committee, and what a crash leaves of it."""

import dataclasses
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.probing.committee_probe import DISAGREEMENTS, Committee, disagreement
from diverseevol.evolution.committee import Member, committee
from diverseevol.evolution.loop import evolve
from diverseevol.options import Schedule
from diverseevol.samplers.qbc import QueryByCommittee
from diverseevol.storage.files import read_jsonl

BOTH = sorted(DISAGREEMENTS)


def test_three_members_by_hand():
    # At the first position two of three favour token 0; at the second all agree, the third by a hair.
    p = torch.tensor([[[0.9, 0.1], [0.8, 0.2]], [[0.6, 0.4], [0.8, 0.2]], [[0.3, 0.7], [0.51, 0.49]]])
    found = disagreement(iter(p.log()), BOTH)
    votes = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    np.testing.assert_allclose(found["committee_vote_entropy"], [votes, 0], atol=1e-6)
    mean = p.double().mean(dim=0)
    divergence = (p.double() * (p.double() / mean).log()).sum(dim=2).mean(dim=0)
    np.testing.assert_allclose(found["committee_kl"], divergence, atol=1e-6)


def test_equal_members_do_not_disagree_and_far_ones_by_the_logarithm_of_their_number():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    for value in disagreement([logits] * 3, BOTH).values():
        np.testing.assert_allclose(value, np.zeros(5), atol=1e-6)
    sure = torch.stack([torch.nn.functional.one_hot(torch.tensor([m]), 4).float() * 200 for m in range(4)])
    for value in disagreement(list(sure), BOTH).values():  # probabilities underflow to 0
        np.testing.assert_allclose(value, [np.log(4)], rtol=1e-6)


def test_a_small_disagreement_over_a_large_vocabulary_is_not_lost_in_rounding():
    noise = torch.Generator().manual_seed(0)
    common = torch.randn(20, 32_000, generator=noise) * 3
    logits = [common + 0.05 * torch.randn(20, 32_000, generator=noise) for _ in range(3)]
    p = torch.stack(logits).double().softmax(dim=2)
    divergence = (p * (p / p.mean(dim=0)).log()).sum(dim=2).mean(dim=0)
    np.testing.assert_allclose(disagreement(logits, BOTH)["committee_kl"], divergence, rtol=5e-3)


@pytest.fixture(scope="module")
def models(learner: Learner) -> list[Any]:
    return [learner.fit(np.arange(10, 30), (0, m)).model for m in range(3)]


@pytest.mark.usefixtures("engine_path")
def test_disagreement_is_averaged_over_the_positions_that_predict_the_response(learner, encoded, models, tmp_path):
    rows = np.array([0, 3, 4, 7, 19, 41])  # row 7 has no response left
    found = learner.disagreement(models, rows, tmp_path / "probe", BOTH)
    for row in rows.tolist():
        ids = torch.as_tensor(np.array(encoded.row(row)), dtype=torch.int64)[None]
        start = int(encoded.lengths[row] - encoded.response_tokens[row])
        with torch.no_grad():
            p = torch.stack([model(ids).logits[0, start - 1 : -1].double().softmax(dim=1) for model in models])
        if row == 7:
            assert [found[name][row] for name in BOTH] == [0, 0]
            continue
        kl = (p * (p / p.mean(dim=0)).log()).sum(dim=2).mean()
        votes = torch.stack([(p.argmax(dim=2) == token).double().mean(dim=0) for token in range(p.shape[2])])
        vote_entropy = torch.special.entr(votes).sum(dim=0).mean()
        # A small difference of large entropies, in float32.
        np.testing.assert_allclose(found["committee_kl"][row], kl, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(found["committee_vote_entropy"][row], vote_entropy, rtol=1e-3, atol=1e-6)
    assert (found["committee_kl"][rows[:3]] > 0).all()


def test_disagreement_does_not_depend_on_how_positions_are_cut_up(learner, models, tmp_path, monkeypatch):
    rows = np.arange(0, 60, 5)
    whole = learner.disagreement(models, rows, tmp_path / "whole", BOTH)
    monkeypatch.setattr("diverseevol.engine.probing.prober.Committee", functools.partial(Committee, head_tokens=3))
    cut = learner.disagreement(models, rows, tmp_path / "cut", BOTH)
    for name in BOTH:
        np.testing.assert_allclose(cut[name], whole[name], rtol=1e-3, atol=1e-5)


def bagging(evolution: Callable[..., Any], folder: Path, **changes: Any) -> Any:
    sampler = QueryByCommittee(size=3, disagreement="kl")
    return evolution(folder, **{"sampler": sampler, "schedule": Schedule(1, 6, 4), **changes})


def rounds(evolution: Callable[..., Any], folder: Path, count: int, **changes: Any) -> Any:
    sampler = QueryByCommittee(size=3, disagreement="kl", committee="rounds")
    return evolution(folder, sampler=sampler, schedule=Schedule(count, 6, 4), **changes)


def members(t: int, pool: np.ndarray, evolution: Any) -> list[Member]:
    return committee(t, pool, evolution.sampler.needs, evolution.schedule, evolution.streams, evolution.run)


def test_bagging_members_are_resamples_of_the_pool_with_seeds_of_their_own(evolution, tmp_path):
    pool = np.arange(10, 40)
    first, second = members(2, pool, bagging(evolution, tmp_path))
    for member in (first, second):
        assert len(member.rows) == 30
        assert set(member.rows.tolist()) < set(pool.tolist())  # a resample of 30 has some 19 different rows
    assert first.rows.tolist() != second.rows.tolist()
    assert first.seed != second.seed
    again = members(2, pool, bagging(evolution, tmp_path))
    assert [member.rows.tolist() for member in again] == [first.rows.tolist(), second.rows.tolist()]
    assert members(3, pool, bagging(evolution, tmp_path))[0].rows.tolist() != first.rows.tolist()


def test_a_member_that_is_made_again_is_rounded_as_its_round_was(evolution, learner, tmp_path):
    half = tmp_path / "checkpoint in bfloat16"
    learner.foundation.load().to(torch.bfloat16).save_pretrained(half)
    learner.prompt.tokenizer.save_pretrained(half)
    of_half = dataclasses.replace(learner, foundation=Pretrained(str(half)))
    space = functools.cache(lambda: of_half.foundation_embedding(tmp_path / "space"))
    changes = {"learner": of_half, "space": space, "keep_models": "all", "keep_dtype": "source"}
    run = bagging(evolution, tmp_path / "run", **changes)
    _, second = evolve(run)
    (again,) = members(1, np.array(second.trained_on), rounds(evolution, tmp_path / "run", 1))
    weights = again.folder.model / "model.safetensors"
    before = load_file(weights)
    shutil.rmtree(again.folder.model)
    again.train_and_save(run.learner, run.keep_dtype)
    after = load_file(weights)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_bagging_committee_chooses_and_leaves_nothing_behind(evolution, tmp_path):
    (first, _) = evolve(bagging(evolution, tmp_path))
    receipt = read_jsonl(tmp_path / "rounds/00/chosen.jsonl")
    scores = [line["score"] for line in receipt]
    assert min(scores) > 0
    assert scores == sorted(scores, reverse=True)
    assert {"committee 1", "committee 2", "disagreement"} <= set(first.seconds)
    assert not (tmp_path / "rounds/00/committee").exists()
    assert not (tmp_path / "rounds/00/probe").exists()


def test_a_member_that_is_on_disk_is_not_trained_again(evolution, tmp_path, monkeypatch):
    expected = evolve(bagging(evolution, tmp_path / "whole"))[0].chosen
    fits: list[Any] = []
    fit, ask = Learner.fit, Learner.disagreement

    def counted(self: Learner, rows: np.ndarray, *rest: Any, **options: Any) -> Any:
        fits.append(rows)
        if len(fits) == 3:
            raise KeyboardInterrupt  # in the middle of the second member's training
        return fit(self, rows, *rest, **options)

    monkeypatch.setattr(Learner, "fit", counted)
    with pytest.raises(KeyboardInterrupt):
        evolve(bagging(evolution, tmp_path / "cut"))
    fits += [None]

    def cut(self: Learner, *rest: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "disagreement", cut)
    with pytest.raises(KeyboardInterrupt):
        evolve(bagging(evolution, tmp_path / "cut"))
    assert len(fits) == 5  # the second member, and nothing else
    monkeypatch.setattr(Learner, "disagreement", ask)
    assert evolve(bagging(evolution, tmp_path / "cut"))[0].chosen == expected
    assert len(fits) == 6  # round 1's own model


def test_in_round_0_nobody_disagrees_and_a_committee_of_rounds_chooses_at_random(evolution, tmp_path):
    evolve(rounds(evolution, tmp_path, 2))
    first, second = (read_jsonl(tmp_path / f"rounds/{t:02d}/chosen.jsonl") for t in (0, 1))
    assert [line["score"] for line in first] == [0] * 4
    assert [line["row"] for line in first] != sorted(line["row"] for line in first)
    assert min(line["score"] for line in second) > 0


def test_a_committee_of_rounds_keeps_the_models_that_sit_on_it(evolution, tmp_path):
    evolve(rounds(evolution, tmp_path, 3, keep_models="none"))
    assert [(tmp_path / f"rounds/{t:02d}/model").exists() for t in range(4)] == [False, True, True, True]


def test_more_rounds_choose_as_if_they_had_been_asked_for_at_once(evolution, tmp_path, monkeypatch):
    expected = [done.chosen for done in evolve(rounds(evolution, tmp_path / "whole", 3))]
    evolve(rounds(evolution, tmp_path / "grown", 2))
    shutil.rmtree(tmp_path / "grown/rounds/01/model")  # someone has tidied up: it is trained again, to the same bits
    pools: list[int] = []
    fit = Learner.fit

    def noted(self: Learner, pool: np.ndarray, *rest: Any, **options: Any) -> Any:
        pools.append(len(pool))
        return fit(self, pool, *rest, **options)

    monkeypatch.setattr(Learner, "fit", noted)
    found = evolve(rounds(evolution, tmp_path / "grown", 3))
    assert [done.chosen for done in found] == expected
    assert pools == [10, 18]  # round 1 again, and the new round 3
