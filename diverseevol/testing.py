"""What every sampler owes the loop, as tests to run on one of your own.

    class TestMine(SamplerContract):
        def sampler(self):
            return Mine()

pytest runs them as methods of `TestMine`; nothing here imports pytest. `diverseevol new sampler NAME` writes this.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import SkipTest

import numpy as np
from jaxtyping import Bool

from diverseevol.errors import InputError
from diverseevol.samplers.base import Needs, Sampler, Selection, choose
from diverseevol.samplers.features import Features

ROWS, DIM = 90, 12
INELIGIBLE = np.arange(ROWS) % 13 == 5
Mask = Bool[np.ndarray, " rows"]


class SamplerContract:
    """The contract between a sampler and the loop, a test for each of its clauses.

    Attributes:
        ties: whether two rows may gain exactly the same, of which the one with the lowest number is picked: then the
            scores must not depend on how rows are numbered, but the picks may.
    """

    ties: bool = False

    def sampler(self) -> Sampler:
        """The sampler under test, the same options each time; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__}: give it a method sampler(self) that returns your sampler")

    def test_it_is_a_sampler(self) -> None:
        sampler = self.sampler()
        assert isinstance(sampler, Sampler), f"{sampler!r} has no needs, or no method select"

    def test_needs_are_stated_in_terms_that_the_loop_knows(self) -> None:
        from diverseevol.engine.probing.token_statistics import NAMES

        sampler = self.sampler()
        needs = sampler.needs
        assert isinstance(needs, Needs), f"needs is {needs!r}, expected diverseevol.samplers.Needs(…)"
        assert needs == sampler.needs, "needs must be the same whenever it is read"
        assert needs.committee >= 0
        assert needs.earlier >= 0
        if not needs.committee and not needs.earlier:
            unknown = sorted(needs.statistics - NAMES)
            assert not unknown, f"no probing pass computes {unknown}; needs.statistics may name {sorted(NAMES)}"

    def test_as_many_rows_as_asked_for_are_chosen_once_and_from_those_left(self) -> None:
        sampler = self.sampler()
        for share in (0.05, 0.4, 0.9):
            taken = pool(share)
            left = np.flatnonzero(~taken)
            for n in (0, 1, 7, len(left)):
                rows = pick(sampler, min(n, len(left)), taken).rows
                assert n < len(left) or sorted(rows.tolist()) == left.tolist()

    def test_nothing_need_be_taken(self) -> None:
        sampler, nothing = self.sampler(), np.zeros(ROWS, dtype=bool)
        for n in (0, 1, 9, ROWS):
            pick(sampler, n, nothing, random_features(sampler.needs, nothing))

    def test_one_row_left_is_the_one_chosen(self) -> None:
        assert pick(self.sampler(), 1, np.arange(ROWS) != 41).rows.tolist() == [41]

    def test_the_same_randomness_chooses_the_same_rows(self) -> None:
        sampler = self.sampler()
        selection, again = (pick(sampler, 20, pool(0.3), seed=3) for _ in range(2))
        np.testing.assert_array_equal(selection.rows, again.rows)
        np.testing.assert_array_equal(selection.score, again.score)

    def test_features_and_mask_stay_as_they_are(self) -> None:
        sampler, taken = self.sampler(), pool(0.3)
        features = random_features(sampler.needs)
        arrays = [*_arrays(features), taken]
        before = [array.copy() for array in arrays]
        for array in arrays:  # writable now: a change would go through, and be seen
            array.flags.writeable = True
        pick(sampler, 20, taken, features)
        for array, copy in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, copy)

    def test_features_on_disk_choose_as_the_same_numbers_in_memory(self, tmp_path: Path) -> None:
        sampler = self.sampler()
        features = random_features(sampler.needs)

        def on_disk(name: str, values: np.ndarray) -> np.ndarray:
            np.save(tmp_path / f"{name}.npy", values)
            mapped: np.ndarray = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
            return mapped

        X = features.embedding
        half = None if X is None else on_disk("embedding", X.astype(np.float16))
        scores = {name: on_disk(name, values) for name, values in features.scores.items()}
        mapped = replace(features, embedding=half, scores=scores)
        loaded = replace(features, embedding=None if half is None else np.asarray(half, dtype=np.float32))
        from_disk, from_memory = (pick(sampler, 20, pool(0.3), source) for source in (mapped, loaded))
        np.testing.assert_array_equal(from_disk.rows, from_memory.rows)
        np.testing.assert_allclose(from_disk.score, from_memory.score, rtol=1e-5)

    def test_the_choice_does_not_depend_on_how_rows_are_numbered(self) -> None:
        sampler, taken = self.sampler(), pool(0.3)
        features = random_features(sampler.needs)
        selection, reseeded = (pick(sampler, 20, taken, seed=seed) for seed in (0, 1))
        if selection.rows.tolist() != reseeded.rows.tolist():
            raise SkipTest("random by nature: another generator chooses other rows from the same features")
        order = np.random.default_rng(5).permutation(ROWS)
        renumbered = Features(
            features.response_tokens[order],
            None if features.embedding is None else features.embedding[order],
            {name: values[order] for name, values in features.scores.items()},
            {name: values[order] for name, values in features.columns.items()},
        )
        permuted = pick(sampler, 20, taken[order], renumbered)
        np.testing.assert_allclose(permuted.score, selection.score, rtol=1e-5)
        if not self.ties:
            np.testing.assert_array_equal(order[permuted.rows], selection.rows)

    def test_rows_that_cannot_be_trained_on_change_neither_picks_nor_scores(self) -> None:
        sampler = self.sampler()
        features = random_features(sampler.needs, np.zeros(ROWS, dtype=bool))

        def longer(values: np.ndarray) -> np.ndarray:  # by a thousand rows without a response, and so without its mean
            return np.concatenate([values, np.zeros((1000, *values.shape[1:]), values.dtype)])

        with_ineligible = Features(
            longer(features.response_tokens),
            None if features.embedding is None else longer(features.embedding),
            {name: longer(values) for name, values in features.scores.items()},
            {name: longer(values) for name, values in features.columns.items()},
        )
        for share in (0, 0.3):
            taken = np.random.default_rng(1).random(ROWS) < share
            selection = pick(sampler, 20, taken, features)
            among_more = pick(sampler, 20, np.concatenate([taken, np.ones(1000, dtype=bool)]), with_ineligible)
            np.testing.assert_array_equal(among_more.rows, selection.rows)
            np.testing.assert_allclose(among_more.score, selection.score, rtol=1e-5)

    def test_what_is_needed_is_looked_at(self) -> None:
        sampler, taken, few = self.sampler(), pool(0.3), 5  # hybrids look at one need only where they choose few
        rows = pick(sampler, few, taken).rows.tolist()
        for name, changed in _changed(random_features(sampler.needs), sampler.needs):
            message = f"needs names {name}, and the picks are the same whatever it is: leave it out of needs"
            assert pick(sampler, few, taken, changed).rows.tolist() != rows, message

    def test_more_rows_than_are_left_are_refused(self) -> None:
        sampler, taken = self.sampler(), pool(0.9)
        left = int((~taken).sum())
        refusal = ""
        try:
            choose(sampler, random_features(sampler.needs), taken, left + 1, np.random.default_rng(0))
        except InputError as error:
            refusal = str(error)
        assert f"{left + 1} rows were asked for but {left} are left" in refusal, "more rows were chosen than are left"


def random_features(needs: Needs, ineligible: Mask = INELIGIBLE) -> Features:
    """Random features without ties, and of them only those that are needed; none can be written to."""
    rng = np.random.default_rng(7)
    # Real embeddings share a large mean; this one hides no difference from float32.
    embedding = (3 + rng.normal(size=(ROWS, DIM))).astype(np.float32)
    tokens = 1 + rng.permutation(ROWS) if needs.lengths else np.ones(ROWS, dtype=np.int64)
    scores = {name: (0.1 + rng.random(ROWS)).astype(np.float32) for name in sorted(needs.statistics)}
    columns = {name: rng.choice(["", "a", "b", "c"], ROWS) for name in sorted(needs.columns)}
    features = Features(np.where(ineligible, 0, tokens), embedding if needs.space != "none" else None, scores, columns)
    for array in _arrays(features):
        array.flags.writeable = False
    return features


def pool(share: float, seed: int = 1) -> Mask:
    """Rows taken: a scattered part of the eligible ones, and all that are ineligible."""
    taken: np.ndarray = (np.random.default_rng(seed).random(ROWS) < share) | INELIGIBLE
    taken.flags.writeable = False
    return taken


def pick(sampler: Sampler, n: int, taken: Mask, features: Features | None = None, seed: int = 0) -> Selection:
    """Choose n rows, of random features where none are given, and check what the sampler returns."""
    name = type(sampler).__name__
    features = random_features(sampler.needs) if features is None else features
    selection = choose(sampler, features, taken, n, np.random.default_rng(seed))
    rows, score = selection.rows, selection.score
    assert rows.shape == score.shape == (n,), f"{name}: expected {n} rows and scores, got {rows.shape}, {score.shape}"
    assert np.issubdtype(rows.dtype, np.integer), f"{name}: rows are {rows.dtype}, expected whole numbers"
    assert np.isfinite(score).all(), f"{name}: a score is not a finite number: {score}"
    assert len(set(rows.tolist())) == n, f"{name}: a row was chosen twice: {rows}"
    assert not taken[rows].any(), f"{name}: chose rows that are taken: {rows}"
    # A reader has to know what the score is.
    assert n == 0 or selection.meaning != Selection.meaning, f"{name}: Selection(rows, score, MEANING) needs a meaning"
    return selection


def _arrays(features: Features) -> list[np.ndarray]:
    embedding = [] if features.embedding is None else [features.embedding]
    return [features.response_tokens, *embedding, *features.scores.values(), *features.columns.values()]


def _changed(features: Features, needs: Needs) -> Iterator[tuple[str, Features]]:
    """Each thing that is needed, and the features with that alone turned around."""
    if features.embedding is not None:
        yield "space", replace(features, embedding=features.embedding[::-1].copy())
    if needs.lengths:
        tokens = np.where(INELIGIBLE, 0, 2 * ROWS - features.response_tokens)
        yield "lengths", replace(features, response_tokens=tokens)
    for name, values in features.scores.items():
        yield name, replace(features, scores={**features.scores, name: 2 - values})
    for name, values in features.columns.items():
        yield name, replace(features, columns={**features.columns, name: values[::-1].copy()})
