from dataclasses import dataclass, field

import numpy as np
import pytest

from diverseevol.samplers.base import Needs, Selection, choose
from diverseevol.samplers.features import Features

TAKEN = np.array([True, False, False, True, False])


@dataclass(frozen=True)
class Stubborn:
    """Chooses what it was told to, whatever is asked for."""

    rows: list[int]
    needs: Needs = field(default_factory=Needs)

    def select(self, features, taken, n, rng):
        return Selection(np.array(self.rows, dtype=np.int64), np.zeros(len(self.rows)))


def chosen(rows: list[int], n: int) -> list[int]:
    features = Features(np.ones(len(TAKEN), dtype=np.int64))
    return choose(Stubborn(rows), features, TAKEN, n, np.random.default_rng(0)).rows.tolist()


def test_a_right_choice_passes_in_its_order():
    assert chosen([4, 1], 2) == [4, 1]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([1], "Stubborn gave 1 distinct rows of 1 instead of 2"),
        ([1, 2, 4], "Stubborn gave 3 distinct rows of 3 instead of 2"),
        ([1, 1], "Stubborn gave 1 distinct rows of 2 instead of 2"),
        ([1, 3], r"Stubborn chose rows that are taken or do not exist: \[1, 3\]"),
        ([1, 5], r"Stubborn chose rows that are taken or do not exist: \[1, 5\]"),
        ([1, -1], r"Stubborn chose rows that are taken or do not exist: \[1, -1\]"),
    ],
)
def test_a_sampler_that_breaks_the_contract_is_named(rows, sentence):
    with pytest.raises(RuntimeError, match=sentence):
        chosen(rows, 2)
