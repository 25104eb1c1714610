"""Quotas around any sampler: the contract, the shares that they keep, and what the sampler within sees."""

import logging

import numpy as np
import pytest

from diverseevol.errors import InputError
from diverseevol.samplers import (
    FacilityLocation,
    KCenter,
    KMeans,
    Longest,
    Quota,
    Random,
    Sampler,
    Selection,
    UncertainKCenter,
    Uncertainty,
    Vendi,
)
from diverseevol.samplers.base import Needs, choose, pool_of
from diverseevol.samplers.features import Features
from diverseevol.samplers.quota import quotas
from diverseevol.testing import SamplerContract

INNER = [
    KCenter(), KCenter(whiten=5), KCenter(drop=0.3), FacilityLocation(), KMeans(), Longest(), Random(),
    Uncertainty("entropy"), UncertainKCenter(among=3), Vendi(greedy=True), Vendi(batches=5),
]  # fmt: skip
SHARES = ["proportional", "equal", {"a": 0.6, "b": 0.3, "": 0.1}]


@pytest.mark.parametrize("shares", SHARES, ids=str)
@pytest.mark.parametrize("inner", INNER, ids=str)
class TestQuota(SamplerContract):
    @pytest.fixture(autouse=True)
    def _chosen(self, inner: Sampler, shares: object) -> None:
        self.quota = Quota(inner, "source", shares)
        self.ties = isinstance(inner, FacilityLocation)

    def sampler(self) -> Sampler:
        return self.quota


def features(labels: list[str], ineligible: tuple[int, ...] = ()) -> Features:
    X = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    tokens = np.ones(len(labels), dtype=np.int64)
    tokens[list(ineligible)] = 0
    return Features(tokens, X, columns={"source": np.array(labels)})


def shares_of(labels: list[str], rows: list[int]) -> dict[str, int]:
    picked = [labels[row] for row in rows]
    return {name: picked.count(name) for name in sorted(set(labels))}


def test_quotas_hold_over_pool_and_picks_together():
    labels = ["web"] * 60 + ["wiki"] * 30 + ["books"] * 10
    pool = [*range(0, 12), 60]  # 12 of web, 1 of wiki
    taken = np.isin(np.arange(100), pool)

    def counts(shares: object, n: int) -> dict[str, int]:
        rows = choose(Quota(Random(), "source", shares), features(labels), taken, n, np.random.default_rng(0)).rows
        return shares_of(labels, [*pool, *rows.tolist()])

    assert counts("equal", 11) == {"books": 6, "web": 12, "wiki": 6}  # web has too many already
    assert counts("equal", 17) == {"books": 9, "web": 12, "wiki": 9}
    assert counts("equal", 26) == {"books": 10, "web": 15, "wiki": 14}  # books has no more
    assert counts("proportional", 37) == {"books": 5, "web": 30, "wiki": 15}
    assert counts({"web": 0.5, "wiki": 0.5, "books": 0.0}, 27) == {"books": 0, "web": 20, "wiki": 20}
    assert counts({"web": 0.5, "wiki": 0.5}, 87) == {"books": 10, "web": 60, "wiki": 30}


def test_the_final_pool_holds_the_shares_though_the_first_was_drawn_without():
    rng = np.random.default_rng(3)
    labels = ["web"] * 900 + ["wiki"] * 80 + ["books"] * 20
    taken = np.zeros(1000, dtype=bool)
    taken[rng.permutation(1000)[:40]] = True
    for _ in range(5):
        taken[
            choose(
                Quota(Random(), "source", {"web": 0.5, "wiki": 0.4, "books": 0.1}), features(labels), taken, 20, rng
            ).rows
        ] = True
    assert shares_of(labels, np.flatnonzero(taken).tolist()) == {"books": 14, "web": 70, "wiki": 56}


def test_a_group_that_has_too_few_rows_is_told_and_the_others_give_the_rest(caplog):
    labels = ["a"] * 50 + ["b"] * 50 + ["c"] * 3
    with caplog.at_level(logging.WARNING):
        rows = choose(
            Quota(Random(), "source", {"a": 0.6, "b": 0.3, "c": 0.1}),
            features(labels),
            np.zeros(103, bool),
            48,
            np.random.default_rng(0),
        ).rows
    assert shares_of(labels, rows.tolist()) == {"a": 30, "b": 15, "c": 3}
    assert "sampler.quota=source: c has 3 rows left, and its share asks for 5; others give the rest" in caplog.text


@pytest.mark.parametrize(
    ("pool", "left", "share", "n", "expected"),
    [
        ([0, 0, 0], [9, 9, 9], [1 / 3, 1 / 3, 1 / 3], 4, [2, 1, 1]),  # of equal remainders the first
        ([0, 0, 0], [9, 9, 9], [0.5, 0.26, 0.24], 5, [3, 1, 1]),
        ([0, 0, 0], [9, 9, 9], [0.5, 0.26, 0.24], 0, [0, 0, 0]),
        ([5, 0, 0], [9, 0, 9], [0.2, 0.4, 0.4], 9, [0, 0, 9]),
        ([0, 0], [3, 9], [1.0, 0.0], 5, [3, 2]),
        ([0, 0], [3, 9], [1.0, 0.0], 12, [3, 9]),
        ([1, 1, 1], [7, 0, 2], [0.0, 0.0, 1.0], 9, [7, 0, 2]),
    ],
)  # fmt: skip
def test_quotas_by_hand(pool, left, share, n, expected):
    assert quotas(np.array(pool), np.array(left), np.array(share), n).tolist() == expected


def test_quotas_are_as_many_as_asked_for_within_what_is_left():
    rng = np.random.default_rng(1)
    for _ in range(300):
        size = int(rng.integers(1, 6))
        pool, left = rng.integers(0, 30, size), rng.integers(0, 30, size)
        share = rng.dirichlet(np.ones(size)) * (rng.random(size) < 0.8)
        share = share / share.sum() if share.any() else share
        n = int(rng.integers(0, left.sum() + 1))
        given = quotas(pool, left, share, n)
        assert given.sum() == n
        assert (given >= 0).all()
        assert (given <= left).all()


class Recorder:
    """Notes what it is given."""

    needs = Needs(space="current")

    def __init__(self) -> None:
        self.seen: list[tuple[list[int], list[int], list[int]]] = []

    def select(self, features: Features, taken: np.ndarray, n: int, rng: np.random.Generator) -> Selection:
        pool, candidates = pool_of(features, taken).tolist(), np.flatnonzero(~taken)
        self.seen.append((pool, candidates.tolist(), features.eligible.tolist()))
        return Selection(candidates[:n], np.zeros(n), "the first")


def test_the_sampler_within_sees_all_of_the_pool_and_of_other_rows_its_group_alone():
    recorder = Recorder()
    labels = ["b", "a", "b", "a", "a", "b", "a"]
    taken = np.isin(np.arange(7), [0, 1, 6])  # 6 is ineligible
    selection = choose(
        Quota(recorder, "source", "equal"), features(labels, (6,)), taken, 2, np.random.default_rng(0)
    )  # fmt: skip
    assert selection.rows.tolist() == [3, 2]
    assert selection.meaning == "the first (within each source)"
    # First a, with the pool of both; then b, with what a gave in the pool.
    assert recorder.seen == [([0, 1], [3, 4], [0, 1, 3, 4]), ([0, 1, 3], [2, 5], [0, 1, 2, 3, 5])]


def test_one_group_alone_is_chosen_from_as_without_quotas():
    same = features(["x"] * 40)
    taken = np.arange(40) < 5
    for inner in (KCenter(), Random(), KMeans()):
        alone, within = (choose(each, same, taken, 9, np.random.default_rng(2)) for each in (inner, Quota(inner)))
        np.testing.assert_array_equal(alone.rows, within.rows)
        np.testing.assert_array_equal(alone.score, within.score)


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        ({"a": 0.7, "b": 0.2}, "sampler.shares add up to 0.9; give shares that add up to 1"),
        ({"a": 1.5, "b": -0.5}, "sampler.shares: a has 1.5; a share is from 0 to 1"),
        ({"a": float("nan")}, "sampler.shares: a has nan; a share is from 0 to 1"),
        ({}, "sampler.shares add up to 0; give shares that add up to 1"),
    ],
)
def test_shares_that_are_none_are_refused(shares, sentence):
    with pytest.raises(InputError, match=sentence):
        Quota(Random(), "source", shares)


def test_shares_of_unknown_groups_are_refused():
    quota = Quota(Random(), "kind", {"web": 0.5, "wkii": 0.5})
    with pytest.raises(InputError, match=r"names 'wkii', and sampler\.quota=kind has the groups web, wiki; correct"):
        quota.check(np.array(["wiki", "web", "web"]))
