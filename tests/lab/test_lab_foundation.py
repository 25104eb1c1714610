"""The foundation model that ships: small, offline, with a short template, and it knows its world."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gate import LEAST, MEAN, known_share, untuned_score
from safetensors import safe_open

from diverseevol.data.prompt import Prompt
from diverseevol.errors import InputError
from diverseevol.lab import benchmark, development, foundation_model
from diverseevol.lab.model import SHIPPED
from diverseevol.lab.world import WORLD
from diverseevol.options import PromptOptions


@pytest.fixture(scope="module")
def foundation():
    return foundation_model()


@pytest.fixture(scope="module")
def prompt(foundation):
    return Prompt(foundation.tokenizer(), PromptOptions())


def test_it_is_small_and_held_in_16_bits_but_computed_with_in_32(foundation):
    model = foundation.load()
    assert model.num_parameters() <= 3_000_000
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    (file,) = SHIPPED.glob("*.safetensors")
    assert file.stat().st_size <= 8_000_000
    with safe_open(file, "pt") as tensors:
        assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {torch.float16}  # noqa: SIM118


def test_its_card_names_every_skill():
    card = (SHIPPED / "README.md").read_text()
    assert [skill.name for skill in WORLD if f"`{skill.name}`" not in card] == []


def test_the_template_costs_few_tokens(prompt):
    plain, with_input = (len(prompt.ids(["x"], [given])[0]) for given in ("", "x"))
    assert plain <= 33
    assert with_input <= 51


def test_rows_are_short_and_every_word_of_them_can_be_written(prompt):
    lengths = []
    for skill in WORLD:
        for arguments in skill.arguments[:10]:
            for phrasing in range(len(skill.phrasings)):
                (ids,) = prompt.ids(*([text] for text in skill.ask(arguments, phrasing)))
                lengths.append(len(ids))
            response = skill.respond(arguments)
            assert prompt.tokenizer.decode(prompt.tokenizer(response)["input_ids"]).strip() == response
    assert np.mean(lengths) < 60


def test_a_skill_is_known_only_where_the_completion_is_right_word_for_word(foundation):
    model, tokenizer = foundation.load().eval(), foundation.tokenizer()
    world = tuple(skill for skill in WORLD if skill.name in ("first_item", "swap", "capital"))
    assert np.mean(list(known_share(world, model, tokenizer, probes=8).values())) > 0.5
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()
    assert set(known_share(world, model, tokenizer, probes=8).values()) == {0.0}


@pytest.mark.slow
def test_every_kept_skill_passes_the_gate(foundation):
    known = known_share(WORLD, foundation.load().eval(), foundation.tokenizer(), seed=1)
    assert min(known.values()) >= LEAST - 0.1, known  # other probes than those that decided
    assert np.mean(list(known.values())) >= MEAN


@pytest.mark.slow
def test_it_has_as_much_before_it_is_tuned_as_its_card_says(foundation, cache):
    noted = json.loads((Path(__file__).parents[2] / "experiments/lab/pretraining.json").read_text())["untuned"]
    for (asked,) in (benchmark(cache=cache), development(cache=cache)):
        found = untuned_score(asked, foundation.load().eval(), foundation.tokenizer())
        assert found["relative_score"] == pytest.approx(noted[asked.name]["relative_score"], abs=0.3)
        assert found["exact"] == noted[asked.name]["exact"] == 0


def test_the_shipped_model_is_not_for_another_world():
    with pytest.raises(InputError, match=r"data\.world=mine\.WORLD: .* give model\.path=FOLDER"):
        foundation_model(world="mine.WORLD")
    assert foundation_model("some/folder", "mine.WORLD").path == "some/folder"
