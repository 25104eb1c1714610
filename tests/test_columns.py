"""A sampler sees the rows' own fields only where it asks for them."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from diverseevol.data.dataset import load
from diverseevol.data.tokens import encode
from diverseevol.errors import InputError
from diverseevol.evolution.loop import evolve
from diverseevol.samplers.base import Needs, Selection
from diverseevol.samplers.features import Features
from diverseevol.samplers.stratified import Stratified

KINDS = ("count", "greet", "spell")


@pytest.fixture
def labelled(cache, learner, prompt, evolution, tmp_path):
    """`labelled(sampler)`: an evolution over rows of three kinds, nine in ten of them of the first."""
    file = tmp_path / "labelled.jsonl"
    kinds = [KINDS[0] if i % 10 < 8 else KINDS[i % 10 - 7] for i in range(40)]
    rows = [{"instruction": f"Do {i}.", "output": f"Done {i}.", "kind": kind} for i, kind in enumerate(kinds)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = load(file, cache=cache)
    here = replace(learner, encoded=encode(dataset, prompt, cache))
    space = here.foundation_embedding(tmp_path / "space")
    return lambda sampler: evolution(
        tmp_path / "run", dataset=dataset, learner=here, sampler=sampler, space=lambda: space
    )


@dataclass(frozen=True)
class Curious:
    """Notes what it is shown."""

    asks: frozenset[str]
    seen: list[Features] = field(default_factory=list)

    @property
    def needs(self) -> Needs:
        return Needs(columns=self.asks)

    def select(self, features, taken, n, rng) -> Selection:
        self.seen.append(features)
        return Selection(np.flatnonzero(~taken)[:n], np.zeros(n))


@pytest.mark.parametrize(("asks", "shown"), [((), set()), (("kind",), {"kind"})])
def test_columns_are_shown_to_who_asks_for_them_and_to_no_one_else(labelled, asks, shown):
    sampler = Curious(frozenset(asks))
    evolve(labelled(sampler))
    assert [set(features.columns) for features in sampler.seen] == [shown] * len(sampler.seen)
    for features in sampler.seen:
        for values in features.columns.values():
            assert values.tolist()[6:11] == ["count", "count", "greet", "spell", "count"]


def test_an_evolution_with_the_oracle_balances_what_the_rows_say_of_themselves(labelled):
    evolution = labelled(Stratified("kind"))
    rounds = evolve(evolution)
    kinds = [evolution.dataset[row].extra["kind"] for row in (*rounds[-1].trained_on,)]
    counts = [kinds.count(kind) for kind in KINDS]
    assert min(counts[1:]) == 4 or max(counts) - min(counts) <= 1  # all there are of the rare ones, or balance


def test_a_field_that_the_rows_lack_is_refused_before_anything_is_chosen(evolution, tmp_path):
    with pytest.raises(InputError, match="asks for the rows' field 'topic', but the rows have no further"):
        evolve(evolution(tmp_path / "run", sampler=Stratified("topic")))
