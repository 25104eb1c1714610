"""Every family of text decoders that transformers can make small; docs/families.md says what became of each."""

import re

import pytest
from families import FAMILIES, FURTHER, LEFT_OUT, PAGE, page, tried
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

LINES = {match[1]: match[0] for match in re.finditer(r"^\| `([^`]+)` \|.*$", PAGE.read_text(), re.MULTILINE)}


def test_the_page_of_models_names_the_families_that_are_tried_and_those_that_are_left_out():
    assert tuple(LINES) == FAMILIES
    version = r"Made with transformers [\d.]+ and torch [\d.]+\."
    assert re.sub(version, "", PAGE.read_text()) == re.sub(version, "", page(LINES)), "make model-table makes it anew"


@pytest.mark.nightly
def test_no_family_of_transformers_is_forgotten():
    left_out = [name for names in LEFT_OUT.values() for name in names.split()]
    assert sorted([*FAMILIES, *left_out]) == sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert set(FURTHER) <= set(FAMILIES)


@pytest.mark.nightly
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_does_what_its_line_says(family, tmp_path):
    assert tried(family, tmp_path).line() == LINES[family]
