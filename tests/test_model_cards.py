"""docs/models.md is what the arithmetic of `plan` says now, of models with the weights that they have."""

import pytest
from model_cards import MODELS, PAGE, on_card, page, shape_of, table_of_experiments, workload

from diverseevol.engine.arithmetic import Numbers, llama
from diverseevol.options import Generation, LoRA, Tuning


def test_the_page_is_current():
    assert PAGE.read_text("utf-8") == page(), "make model-cards makes it anew"


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("SmolLM2-135M", 134_515_008), ("Qwen2.5-0.5B", 494_032_768), ("Llama-3.2-1B", 1_235_814_400),
        ("Qwen2.5-1.5B", 1_543_714_304), ("Llama-3.2-3B", 3_212_749_824), ("LLaMA-7B", 6_738_415_616),
        ("Qwen2.5-7B", 7_615_616_512), ("Llama-3.1-8B", 8_030_261_248),
    ],
)  # fmt: skip
def test_models_have_the_weights_that_their_makers_count(model, weights):
    assert shape_of(MODELS[model]).weights == weights


def test_what_the_project_promises_fits_by_arithmetic():
    lines = {tuple(cell.strip() for cell in line.split("|")[1:3]): line for line in table_of_experiments().splitlines()}
    for experiment, cards in (
        ("`paper_dolly`", ("4 × A100-80GB", "4 × H100", "1 × H200")),
        ("`paper_dolly_lora`", ("1 × L4", "1 × A10G", "1 × RTX-3090", "1 × RTX-4090")),
    ):
        for card in cards:
            assert "–" not in lines[experiment, card], lines[experiment, card]
    assert "–" in lines["`paper_dolly`", "1 × H100"]


def test_a_cell_says_what_does_not_fit():
    seven, usual = llama(4096, 11008, 32, 32, 32000), Generation(batch_size=8)
    assert on_card(workload(seven, Tuning(), Numbers(), usual, 80), "L4") == "– (fit, probe, answer)"
    small = workload(llama(64, 128, 2, 2, 1000, rank=4), LoRA(rank=4), Numbers(2, 2), usual, 80)
    assert on_card(small, "L4").endswith(" h")
