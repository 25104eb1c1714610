"""What a round must not do twice: load a model, tokenise rows, embed rows."""

import collections
import dataclasses

import pytest
from transformers import PreTrainedModel

from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import Pretrained
from diverseevol.evolution.loop import evolve
from diverseevol.options import Schedule
from diverseevol.samplers.kcenter import KCenter
from diverseevol.samplers.qbc import QueryByCommittee
from diverseevol.samplers.random import Random
from diverseevol.samplers.uncertain_kcenter import UncertainKCenter


@pytest.fixture
def calls(prompt, monkeypatch):
    """What is done while a test runs: how often, and to what."""
    done = collections.Counter()

    def count(owner, name, what):
        original = getattr(owner, name)

        def counted(self, *given, **options):
            for key in what(self, *given, **options):
                done[key] += 1
            return original(self, *given, **options)

        monkeypatch.setattr(owner, name, counted)

    count(Pretrained, "load", lambda self, folder=None: ["load the foundation" if folder is None else "load a round's"])
    count(Pretrained, "tokenizer", lambda self: ["load a tokeniser"])
    count(type(prompt.tokenizer), "__call__", lambda self, texts, **options: [("tokenise", text) for text in texts])
    count(Learner, "fit", lambda self, rows, *given, **options: ["fit"])
    count(Learner, "probe", lambda self, model, rows, *given, **options: [("probe", id(model), int(r)) for r in rows])
    count(PreTrainedModel, "save_pretrained", lambda self, *given, **options: ["save a model"])
    return done


SAMPLERS = {
    "kcenter": KCenter(),
    "uncertain_kcenter": UncertainKCenter(),
    "random": Random(),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_round_loads_the_foundation_once_and_its_own_model_never(evolution, tmp_path, calls, name):
    this = evolution(tmp_path, sampler=SAMPLERS[name], schedule=Schedule(2, 6, 4))
    this.space()
    calls.clear()
    rounds = evolve(this)
    assert calls["fit"] == calls["load the foundation"] == calls["save a model"] == len(rounds)
    assert calls["load a round's"] == calls["load a tokeniser"] == 0


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_phase_tokenises_a_row_and_each_question_is_tokenised_once_a_round(
    evolution, dataset, tmp_path, calls, name
):
    this = evolution(tmp_path, sampler=SAMPLERS[name], schedule=Schedule(1, 6, 4))
    rounds = evolve(this)
    texts = {key[1]: times for key, times in calls.items() if key[0] == "tokenise" and key[1]}
    questions = [question.instruction for bench in this.exam.benchmarks for question in bench.questions]
    assert len(texts) == len(questions)  # nothing else was: no instruction and no response of the data set
    assert all(any(question in text for text in texts) for question in questions)
    assert set(texts.values()) == {len(rounds)}


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_row_passes_the_same_model_twice(evolution, tmp_path, calls, name):
    this = evolution(tmp_path, sampler=SAMPLERS[name], schedule=Schedule(0, 6, 0))
    this.space()
    calls.clear()
    evolve(this)
    probed = [times for key, times in calls.items() if key[0] == "probe"]
    assert probed
    assert set(probed) == {1}


def test_a_committee_of_the_last_rounds_loads_each_of_its_models_once(evolution, tmp_path, calls):
    this = evolution(tmp_path, sampler=QueryByCommittee(3, committee="rounds"), schedule=Schedule(2, 6, 4))
    this.space()
    calls.clear()
    evolve(this)
    assert calls["fit"] == calls["load the foundation"] == 3
    assert (
        calls["load a round's"] == 1
    )  # round 0 has no round before it, round 1 has round 0, and the last selects none


def test_a_second_start_does_nothing_again(evolution, tmp_path, calls, idle):
    this = evolution(tmp_path, schedule=Schedule(1, 6, 4))
    evolve(this)
    calls.clear()
    evolve(dataclasses.replace(this, learner=idle))
    assert not calls
