import numpy as np
import pytest

from diverseevol.data.columns import columns_of
from diverseevol.data.conversation import Conversation, exchange
from diverseevol.errors import InputError
from diverseevol.samplers.features import Features
from diverseevol.samplers.stratified import Stratified

#                   0    1    2    3    4    5    6    7
SKILL = np.array(["a", "a", "a", "a", "b", "b", "c", "c"])
NOISY = np.array(["", "", "", "words", "", "", "", "other"])
POOL = np.array([0, 1, 7])  # two rows of a, and a spoiled one of c


def features(ineligible: tuple[int, ...] = ()) -> Features:
    tokens = np.ones(len(SKILL), dtype=np.int64)
    tokens[list(ineligible)] = 0
    return Features(tokens, columns={"skill": SKILL, "noisy": NOISY})


def picks(n: int, seed: int, without: str | None = "noisy", ineligible: tuple[int, ...] = ()):
    taken = np.isin(np.arange(len(SKILL)), [*POOL, *ineligible])
    rng = np.random.default_rng(seed)
    return Stratified("skill", without).select(features(ineligible), taken, n, rng)


@pytest.mark.parametrize("seed", range(20))
def test_the_rarest_label_comes_first_and_spoiled_rows_last(seed):
    found = picks(5, seed)
    first, second, third, fourth, last = SKILL[found.rows]
    assert {first, second} == {"b", "c"}  # neither has a sound row in the pool
    assert (third, fourth) == ("b", "a")  # b has one then, a has two; c has none left that is sound
    assert (last, found.rows[-1]) == ("a", 3)
    assert found.score.tolist() == [0, 0, 1, 2, 3]


def test_without_a_field_that_rules_out_a_spoiled_row_counts_as_any_other():
    for seed in range(20):
        found = picks(5, seed, without=None)
        assert SKILL[found.rows[0]] == "b"  # c has its spoiled row already
        assert set(SKILL[found.rows[1:3]]) == {"b", "c"}
        assert found.score.tolist() == [0, 1, 1, 2, 3]


def test_chance_decides_among_equally_rare_labels_and_among_the_rows_of_one():
    chosen = {tuple(picks(2, seed).rows.tolist()) for seed in range(40)}
    assert chosen == {(4, 6), (5, 6), (6, 4), (6, 5)}


def test_rows_that_cannot_be_trained_on_are_no_rows_of_their_label():
    assert {SKILL[picks(1, seed, ineligible=(4,)).rows[0]] for seed in range(20)} == {"b", "c"}


def rows(*extras: dict[str, object]) -> list[list[Conversation]]:
    return [[exchange("Ask", "", "Say", extra)] for extra in extras]


def test_columns_are_text_and_empty_where_a_row_says_nothing():
    extras: list[dict[str, object]] = [{"skill": "a", "flag": True}, {"flag": False}, {"skill": None, "flag": "x"}]
    batches = rows(*extras, {"skill": 3, "flag": 0})
    found = columns_of(batches, {"skill", "flag"})
    assert found["skill"].tolist() == ["a", "", "", "3"]
    assert found["flag"].tolist() == ["True", "", "x", ""]


def test_rows_are_not_even_read_for_who_asks_for_no_column():
    def never():
        pytest.fail("a row was read")
        yield

    assert columns_of(never(), frozenset()) == {}


@pytest.mark.parametrize(
    ("extra", "said"),
    [({"topic": "x", "id": 1}, "field 'skill', but the rows' further fields are id, topic"), ({}, "have no further")],
)
def test_a_field_that_no_row_has_is_refused_by_name(extra, said):
    with pytest.raises(InputError, match=said):
        columns_of(rows(extra), {"skill"})
