"""The contract fails for samplers that break it, each clause in words that say what is wrong."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from diverseevol.samplers import Features, Longest, Needs, Sampler, Selection
from diverseevol.testing import SamplerContract

Spoil = Callable[[Selection, Features, np.ndarray], Selection]
LENGTHS = Needs(lengths=True)
AS_MANY = "as_many_rows_as_asked_for_are_chosen_once_and_from_those_left"


@dataclass
class Spoilt:
    """The longest rows, but for one mistake."""

    spoil: Spoil
    needs: Needs = LENGTHS

    def select(self, features, taken, n, rng):
        return self.spoil(Longest().select(features, taken, n, rng), features, taken)


def remembering() -> Spoil:
    calls: list[int] = []
    return lambda selection, *_: calls.append(1) or replace(selection, score=selection.score + len(calls))


def change(selection: Selection, features: Features, taken: np.ndarray) -> Selection:
    if features.response_tokens.flags.writeable:
        features.response_tokens[selection.rows] += 1
    return selection


def in_half_precision(selection: Selection, features: Features, taken: np.ndarray) -> Selection:
    """The longest embeddings, added up in the precision that they lie in."""
    X = features.embedding
    length = (X * X).sum(axis=1, dtype=X.dtype)
    rows = np.flatnonzero(~taken)
    rows = rows[np.argsort(-length[rows], kind="stable")[: len(selection.rows)]]
    return Selection(rows, length[rows].astype(float), "squared length")


BROKEN: dict[str, tuple[Spoil, Needs, str, str]] = {
    "NaN": (lambda s, f, t: replace(s, score=s.score * np.nan), LENGTHS, AS_MANY, "is not a finite number"),
    "meaning": (lambda s, f, t: Selection(s.rows, s.score), LENGTHS, AS_MANY, "needs a meaning"),
    "too few": (
        lambda s, f, t: Selection(s.rows[:1], s.score[:1], "tokens"),
        LENGTHS,
        AS_MANY,
        "1 distinct rows of 1 instead of 7",
    ),
    "twice": (lambda s, f, t: replace(s, rows=s.rows * 0 + 1), LENGTHS, AS_MANY, "1 distinct rows of 7"),
    "taken": (lambda s, f, t: replace(s, rows=np.flatnonzero(t)[: len(s.rows)]), LENGTHS, AS_MANY, "are taken"),
    "state": (remembering(), LENGTHS, "the_same_randomness_chooses_the_same_rows", "not equal"),
    "changes": (change, LENGTHS, "features_and_mask_stay_as_they_are", "not equal"),
    "row numbers": (
        lambda s, f, t: replace(s, rows=np.flatnonzero(~t)[: len(s.rows)]),
        LENGTHS,
        "the_choice_does_not_depend_on_how_rows_are_numbered",
        "not equal",
    ),
    "mean of all rows": (
        lambda s, f, t: replace(s, score=s.score - f.response_tokens.mean()),
        LENGTHS,
        "rows_that_cannot_be_trained_on_change_neither_picks_nor_scores",
        "Not equal",
    ),
    "half precision": (
        in_half_precision,
        Needs(space="current"),
        "features_on_disk_choose_as_the_same_numbers_in_memory",
        "not equal",
    ),
    "looks away": (
        lambda s, f, t: s,
        Needs(lengths=True, space="current"),
        "what_is_needed_is_looked_at",
        "needs names space",
    ),
    "unknown statistic": (
        lambda s, f, t: s,
        Needs(lengths=True, statistics=frozenset({"moon"})),
        "needs_are_stated_in_terms_that_the_loop_knows",
        r"computes \['moon'\]",
    ),
    "one row": (lambda s, f, t: replace(s, rows=s.rows * 0 + 40), LENGTHS, "one_row_left_is_the_one_chosen", "taken"),
}


def check(sampler: Sampler, clause: str, *arguments: object) -> None:
    contract = SamplerContract()
    contract.sampler = lambda: sampler
    getattr(contract, f"test_{clause}")(*arguments)


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_broken_sampler_fails_the_clause_that_it_breaks(mistake, tmp_path):
    spoil, needs, clause, message = BROKEN[mistake]
    arguments = (tmp_path,) if "on_disk" in clause else ()
    with pytest.raises((AssertionError, RuntimeError), match=f"(?i){message}"):
        check(Spoilt(spoil, needs), clause, *arguments)


def test_what_has_no_select_is_no_sampler():
    with pytest.raises(AssertionError, match="no method select"):
        check(object(), "it_is_a_sampler")


def test_a_test_without_a_sampler_says_what_to_add():
    with pytest.raises(NotImplementedError, match=r"SamplerContract: give it a method sampler\(self\)"):
        SamplerContract().test_it_is_a_sampler()


def test_the_contract_is_imported_without_pytest_and_what_takes_seconds():
    script = "import sys, diverseevol.testing; print([name for name in ('pytest', 'torch') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600)
    assert ran.stdout == "[]\n"
