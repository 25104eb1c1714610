"""FSDP2 trains what one process trains, and what DDP does: each process holds a part of the weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import families
import pytest
import sharded_fits
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from diverseevol.engine.tuning.sharding import layers
from diverseevol.errors import InputError
from diverseevol.parallel.processes import Processes

CASES = [*sharded_fits.CASES]


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("llama", ["LlamaDecoderLayer"] * 2),
        ("gpt2", ["GPT2Block"] * 2),
        ("mamba", ["MambaMixer", "MambaBlock"] * 2),
        ("gemma2", ["Gemma2DecoderLayer"] * 2),
        ("zamba", ["ZambaMambaDecoderLayer"] * 3),  # beside them are layers that share weights
    ],
)
def test_the_layers_of_a_model_are_those_that_share_no_weight(family, names):
    assert [type(layer).__name__ for layer in layers(families.tiny(family))] == names


def test_a_model_without_layers_is_refused():
    model = families.tiny("llama")
    model._no_split_modules = None
    with pytest.raises(InputError, match=r"^trainer\.strategy=fsdp: LlamaForCausalLM has no layers that could be"):
        layers(model)


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fits of one process, and of two by DDP and by FSDP2."""
    folder = tmp_path_factory.mktemp("fits")
    sharded_fits.save(folder)
    for name in CASES:
        sharded_fits.run(folder, name, "alone", Processes())
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "sharded_fits", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ddp_and_fsdp_train_what_one_process_trains(fits, name):
    alone, ddp, fsdp = (json.loads((fits / strategy / name / "fit.json").read_text()) for strategy in WAYS)
    mixed = sharded_fits.CASES[name].precision != "32-true" or sharded_fits.CASES[name].dtype != "float32"
    kept = [load(fits / strategy / name) for strategy in WAYS]
    for record, weights in ((ddp, kept[1]), (fsdp, kept[2])):
        assert record["losses"] == pytest.approx(alone["losses"], rel=1e-3 if mixed else 1e-5)
        assert weights.keys() == kept[0].keys()
        if mixed:  # the sign of a gradient near 0, and with it AdamW's first step, is a matter of rounding
            apart = torch.cat([(weights[weight] - expected).abs().flatten() for weight, expected in kept[0].items()])
            assert apart.mean() < 1e-3, "of four steps of 1e-2"
        close = 1e-3 if name == "transposed" else 1e-5  # a key's bias changes nothing: its gradient is rounding alone
        for weight, expected in {} if mixed else kept[0].items():
            torch.testing.assert_close(weights[weight], expected, rtol=1e-4, atol=close, msg=weight)
        assert record["sums"][0] == record["sums"][1], "both processes have the same model afterwards"
        assert record["tied"] == alone["tied"]
    assert alone["losses"][-1] < alone["losses"][0]
    assert ddp["shares"] == [1, 1]
    assert sum(fsdp["shares"]) == pytest.approx(1)
    assert min(fsdp["shares"]) > 0.45, "each process holds its half"


WAYS = ("alone", "ddp", "fsdp")


def load(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


@pytest.mark.slow
def test_what_was_trained_in_parts_is_saved_like_any_other_model(fits):
    for name in ("tied", "untied"):
        model = AutoModelForCausalLM.from_pretrained(fits / "fsdp" / name, dtype=torch.float32)
        assert (model.lm_head.weight is model.model.embed_tokens.weight) == (name == "tied")
        assert {file.name for file in (fits / "fsdp" / name).iterdir()} == {
            file.name for file in (fits / "alone" / name).iterdir()
        }
        assert bool(torch.isfinite(model(torch.arange(3, 30)[None]).logits).all())
