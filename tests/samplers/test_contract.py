"""What every sampler owes the loop. Samplers are found in conf/sampler by themselves: a new YAML is a new candidate."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from diverseevol.engine.probing.token_statistics import NAMES
from diverseevol.errors import InputError
from diverseevol.samplers.base import Needs, Sampler, Selection, choose
from diverseevol.samplers.features import Features

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = [
    "entropy sampler.variant=probability",
    "kcenter sampler.drop=0.3",
    "kcenter sampler.metric=cosine",
    "kcenter sampler.whiten=5",
    "least_confidence sampler.variant=probability",
    "margin sampler.variant=probability",
    "oracle sampler.without=null",
    "qbc sampler.committee=rounds",
    "qbc sampler.disagreement=kl",
    "vendi sampler.greedy=true",
]
CHOICES = sorted(file.stem for file in (CONF / "sampler").glob("*.yaml")) + OPTIONS
ROWS, DIM = 90, 12
INELIGIBLE = np.arange(ROWS) % 13 == 5

pytestmark = pytest.mark.parametrize("choice", CHOICES)


@functools.cache
def made(choice: str) -> Sampler:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        sampler = instantiate(compose("evolve", f"sampler={choice}".split()).sampler, _convert_="all")
    assert isinstance(sampler, Sampler)
    return sampler


def facts(needs: Needs, ineligible: np.ndarray = INELIGIBLE) -> Features:
    """Random facts without ties, and of them only those that are needed; none can be written to."""
    rng = np.random.default_rng(7)
    # Real embeddings share a large mean; this one hides no difference from float32.
    embedding = (3 + rng.normal(size=(ROWS, DIM))).astype(np.float32)
    tokens = 1 + rng.permutation(ROWS) if needs.lengths else np.ones(ROWS, dtype=np.int64)
    scores = {name: (0.1 + rng.random(ROWS)).astype(np.float32) for name in sorted(needs.statistics)}
    columns = {name: rng.choice(["", "a", "b", "c"], ROWS) for name in sorted(needs.columns)}
    features = Features(np.where(ineligible, 0, tokens), embedding if needs.space != "none" else None, scores, columns)
    for array in arrays(features):
        array.flags.writeable = False
    return features


def arrays(features: Features) -> list[np.ndarray]:
    embedding = [] if features.embedding is None else [features.embedding]
    return [features.response_tokens, *embedding, *features.scores.values(), *features.columns.values()]


def pool(share: float, seed: int = 1) -> np.ndarray:
    """Rows taken: a scattered part of the eligible ones, and all that are ineligible."""
    taken = (np.random.default_rng(seed).random(ROWS) < share) | INELIGIBLE
    taken.flags.writeable = False
    return taken


def pick(sampler: Sampler, n: int, taken: np.ndarray, features: Features | None = None, seed: int = 0) -> Selection:
    features = features or facts(sampler.needs)
    selection = choose(sampler, features, taken, n, np.random.default_rng(seed))
    assert selection.rows.shape == selection.score.shape == (n,)
    assert np.issubdtype(selection.rows.dtype, np.integer)
    assert np.isfinite(selection.score).all()
    assert n == 0 or selection.meaning != Selection.meaning  # a reader has to know what the score is
    assert len(set(selection.rows.tolist())) == n
    assert not taken[selection.rows].any()
    return selection


def test_needs_are_stated_in_terms_that_the_loop_knows(choice):
    needs = made(choice).needs
    assert isinstance(needs, Needs)
    assert needs == made(choice).needs
    assert needs.committee >= 0
    assert needs.earlier >= 0
    if not needs.committee and not needs.earlier:
        assert needs.statistics <= NAMES


@pytest.mark.parametrize("share", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("n", [0, 1, 7, None])
def test_as_many_rows_as_asked_for_are_chosen_once_and_from_those_left(choice, share, n):
    taken = pool(share)
    left = int((~taken).sum())
    selection = pick(made(choice), left if n is None else min(n, left), taken)
    if n is None:
        assert set(selection.rows.tolist()) == set(np.flatnonzero(~taken).tolist())


@pytest.mark.parametrize("n", [0, 1, 9, ROWS])
def test_nothing_need_be_taken(choice, n):
    none = np.zeros(ROWS, dtype=bool)
    pick(made(choice), n, none, facts(made(choice).needs, none))


def test_one_row_left_is_the_one_chosen(choice):
    taken = np.arange(ROWS) != 41
    assert pick(made(choice), 1, taken).rows.tolist() == [41]


def test_the_same_randomness_chooses_the_same_rows(choice):
    first, again = (pick(made(choice), 20, pool(0.3), seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.rows, again.rows)
    np.testing.assert_array_equal(first.score, again.score)


def test_features_and_mask_stay_as_they_are(choice):
    features, taken = facts(made(choice).needs), pool(0.3)
    before = [array.copy() for array in (*arrays(features), taken)]
    for array in (*arrays(features), taken):  # writable now: a change would go through, and be seen
        array.flags.writeable = True
    pick(made(choice), 20, taken, features)
    for array, copy in zip((*arrays(features), taken), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_facts_on_disk_choose_as_the_same_numbers_in_memory(choice, tmp_path):
    sampler = made(choice)
    features = facts(sampler.needs)

    def on_disk(name: str, values: np.ndarray) -> np.ndarray:
        np.save(tmp_path / f"{name}.npy", values)
        return np.load(tmp_path / f"{name}.npy", mmap_mode="r")

    X = features.embedding
    half = None if X is None else on_disk("embedding", X.astype(np.float16))
    scores = {name: on_disk(name, values) for name, values in features.scores.items()}
    mapped = replace(features, embedding=half, scores=scores)
    loaded = replace(features, embedding=None if half is None else np.asarray(half, dtype=np.float32))
    found, expected = (pick(sampler, 20, pool(0.3), given) for given in (mapped, loaded))
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-5)


def test_the_choice_does_not_depend_on_how_rows_are_numbered(choice):
    sampler, taken = made(choice), pool(0.3)
    features = facts(sampler.needs)
    first, other = (pick(sampler, 20, taken, seed=seed) for seed in (0, 1))
    if first.rows.tolist() != other.rows.tolist():
        pytest.skip("random by nature: another generator chooses other rows from the same features")
    order = np.random.default_rng(5).permutation(ROWS)
    renumbered = Features(
        features.response_tokens[order],
        None if features.embedding is None else features.embedding[order],
        {name: values[order] for name, values in features.scores.items()},
        {name: values[order] for name, values in features.columns.items()},
    )
    found = pick(sampler, 20, taken[order], renumbered)
    np.testing.assert_allclose(found.score, first.score, rtol=1e-5)
    # Two rows that would serve no one but each other gain the same, and of them the lowest is picked.
    if choice != "facility_location":
        np.testing.assert_array_equal(order[found.rows], first.rows)
    np.testing.assert_allclose(found.score, first.score, rtol=1e-4)


@pytest.mark.parametrize("share", [0, 0.3])
def test_rows_that_cannot_be_trained_on_change_neither_picks_nor_scores(choice, share):
    sampler = made(choice)
    features, taken = facts(sampler.needs, np.zeros(ROWS, dtype=bool)), np.random.default_rng(1).random(ROWS) < share

    def longer(values: np.ndarray) -> np.ndarray:  # by a thousand rows without a response, and so without a mean of it
        return np.concatenate([values, np.zeros((1000, *values.shape[1:]), values.dtype)])

    more = Features(
        longer(features.response_tokens),
        None if features.embedding is None else longer(features.embedding),
        {name: longer(values) for name, values in features.scores.items()},
        {name: longer(values) for name, values in features.columns.items()},
    )
    first = pick(sampler, 20, taken, features)
    found = pick(sampler, 20, np.concatenate([taken, np.ones(1000, dtype=bool)]), more)
    np.testing.assert_array_equal(found.rows, first.rows)
    np.testing.assert_allclose(found.score, first.score, rtol=1e-5)


def test_what_is_needed_is_looked_at(choice):
    sampler, taken, few = made(choice), pool(0.3), 5  # hybrids look at one need only where they choose few
    features = facts(sampler.needs)
    first = pick(sampler, few, taken).rows.tolist()
    flipped = {
        "embedding": features.embedding is not None and replace(features, embedding=features.embedding[::-1].copy()),
        "lengths": sampler.needs.lengths
        and replace(features, response_tokens=np.where(INELIGIBLE, 0, 2 * ROWS - features.response_tokens)),
        **{
            name: replace(features, scores={**features.scores, name: 2 - values})
            for name, values in features.scores.items()
        },
        **{
            name: replace(features, columns={**features.columns, name: values[::-1].copy()})
            for name, values in features.columns.items()
        },
    }
    for name, changed in flipped.items():
        if changed:
            assert pick(sampler, few, taken, changed).rows.tolist() != first, name


def test_more_rows_than_are_left_are_refused(choice):
    taken = pool(0.9)
    left = int((~taken).sum())
    with pytest.raises(InputError, match=f"{left + 1} rows were asked for but {left} are left"):
        choose(made(choice), facts(made(choice).needs), taken, left + 1, np.random.default_rng(0))
