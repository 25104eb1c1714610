"""Pretraining: what the foundation model reads, how it is noted down, and when it passes the gate."""

import itertools
import json
import re
from dataclasses import asdict
from pathlib import Path

import card
import numpy as np
import pretrain
import pytest
import tokens
from gate import LEAST, MEAN
from text import Writer

from diverseevol.data.alpaca import ALPACA, ALPACA_WITH_INPUT
from diverseevol.errors import InputError
from diverseevol.lab.model import SHIPPED
from diverseevol.lab.skill import Skill
from diverseevol.lab.world import WORLD

STUDIES = Path(__file__).parents[2] / "experiments/lab"
NOTES = STUDIES / "pretraining.json"
SMALL = tuple(
    Skill(
        name, tuple((str(n),) for n in range(80)), lambda n: n[::-1], ("Turn {0}. " + name, name + " | {0}"),
        ("Turning {0} gives {a}.",),
    )
    for name in ("turn", "twist", "whirl")
)  # fmt: skip


def documents(seed: int, n: int) -> list[str]:
    return list(itertools.islice(Writer(WORLD, np.random.default_rng(seed)).documents(), n))


def asks(text: str, skill: Skill, phrasing: str) -> bool:
    """Whether the instruction of a phrasing stands in a text, about anything that the skill can be asked about."""
    instruction = phrasing.partition(" | ")[0]
    named = [int(n) for n in re.findall(r"\{(\d)\}", instruction)]
    known = {tuple(x[i] for i in named) for x in skill.arguments}
    parts = re.split(r"\{\d\}", instruction)
    return any(match.groups() in known for match in re.finditer("(.{1,60}?)".join(map(re.escape, parts)), text))


def test_one_seed_writes_one_text_and_another_seed_another():
    assert documents(1, 300) == documents(1, 300)
    assert not set(documents(1, 300)) & set(documents(2, 300))


def test_the_text_holds_statements_of_every_skill_and_no_question_and_no_template():
    text = "\n".join(documents(0, 4000))
    for skill in WORLD:
        assert any(statement.partition("{")[0] in text for statement in skill.statements), skill.name
        for i, phrasing in enumerate(skill.phrasings):
            assert asks(skill.ask(skill.arguments[0], i)[0], skill, phrasing)  # it would be found
            assert not asks(text, skill, phrasing), phrasing
    lines = [line for frame in (ALPACA, ALPACA_WITH_INPUT) for line in frame.split("\n") if line and "{" not in line]
    assert len(lines) >= 4
    assert [line for line in lines if line in text] == []


def test_the_card_is_what_is_made_of_the_notes(tmp_path):
    card.main(NOTES, tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == (SHIPPED / "README.md").read_text()


def test_the_notes_are_of_this_recipe_and_this_world_and_pass_the_gate():
    notes = json.loads(NOTES.read_text())
    assert notes["recipe"] == asdict(pretrain.Recipe())
    known = {skill.name: notes["gate"][skill.name] for skill in WORLD}
    assert pretrain.below_the_gate(known) is None
    assert (LEAST, MEAN) == (0.5, 0.8)
    assert min(known.values()) >= 0.5
    assert np.mean(list(known.values())) >= 0.8


@pytest.mark.parametrize(
    ("known", "failure"),
    [
        ({"a": 0.5, "b": 1.0, "c": 0.95}, None),
        ({"a": 0.4, "b": 1.0, "c": 1.0}, "mean 0.800 (at least 0.8); below 0.5: a 0.40"),
        ({"a": 0.7, "b": 0.7}, "mean 0.700 (at least 0.8)"),
        ({"a": 0.2, "b": 0.1}, "mean 0.150 (at least 0.8); below 0.5: b 0.10, a 0.20"),
    ],
)
def test_the_gate_names_the_mean_and_the_skills_that_are_not_known(known, failure):
    assert pretrain.below_the_gate(known) == failure


def test_a_short_run_warms_up_for_a_third_of_its_steps_and_a_long_one_as_ever():
    assert pretrain.Recipe.of(300_000, 0).warmup == 300_000 // 1280 // 3 == 78
    assert pretrain.Recipe.of(1_000_000, 0).warmup == 200
    assert pretrain.Recipe.of(5_000_000, 0) == pretrain.Recipe()
    with pytest.raises(InputError, match="--tokens is 1279; one step takes 1,280"):
        pretrain.Recipe.of(1279, 0)


@pytest.mark.slow
def test_pretraining_twice_gives_equal_weights_and_what_is_below_the_gate_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tokens, "DOCUMENTS", 500)
    monkeypatch.setattr(pretrain, "find_world", lambda name: SMALL)
    monkeypatch.setattr(pretrain, "untuned_scores", lambda world, model, tokenizer: {})

    def made(name: str, *options: str) -> tuple[int, bytes]:
        code = pretrain.main(["--tokens", "6000", "--out", str(tmp_path / name), *options])
        return code, (tmp_path / name / "model.safetensors").read_bytes()

    one, same, other = made("one"), made("same", "--ungated"), made("other", "--seed", "1", "--ungated")
    assert one[1] == same[1] != other[1]
    assert (one[0], same[0]) == (1, 0)
    said = capsys.readouterr().err
    assert "one is below the gate: mean 0." in said
    assert "turn 0." in said
    notes = json.loads((tmp_path / "one/pretraining.json").read_text())
    assert notes["recipe"]["warmup"] == 6000 // 1280 // 3
    assert notes["loss"][0][1] > notes["loss"][-1][1]
