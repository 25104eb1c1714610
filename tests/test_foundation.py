"""The foundation model: what it is known by, and in which precision it comes back."""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from diverseevol.engine.pretrained import Pretrained, TinyLlama
from diverseevol.errors import InputError
from diverseevol.storage.cache import content_digest


@pytest.fixture
def model(foundation: Pretrained, tmp_path: Path) -> Path:
    shutil.copytree(foundation.path, tmp_path / "model")
    return tmp_path / "model"


def test_the_identity_is_of_content_not_of_names_or_times(foundation, model):
    os.utime(model / "model.safetensors", (1, 1))
    assert Pretrained(str(model)).identity() == foundation.identity()
    assert dataclasses.replace(foundation, dtype="bfloat16").identity() != foundation.identity()


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_changed_byte_in_the_middle_of_any_file_is_another_model(foundation, model, file):
    with (model / file).open("r+b") as stream:
        middle = (model / file).stat().st_size // 2
        stream.seek(middle)
        byte = stream.read(1)[0]
        stream.seek(middle)
        stream.write(bytes([byte ^ 1]))
    assert Pretrained(str(model)).identity() != foundation.identity()


def test_the_digest_of_a_large_file_is_read_once_and_again_when_the_file_changes(tmp_path, monkeypatch):
    file, cache = tmp_path / "weights", tmp_path / "cache"
    file.write_bytes(b"a" * 100)
    first = content_digest(file, cache, large=100)
    assert first == content_digest(file)
    with monkeypatch.context() as patch:
        original = hashlib.file_digest

        def small(stream, name):
            assert os.fstat(stream.fileno()).st_size != 100, "the file was read again"
            return original(stream, name)

        patch.setattr("hashlib.file_digest", small)
        assert content_digest(file, cache, large=100) == first
    os.utime(file, (1, 1))
    file.write_bytes(b"b" * 100)
    assert content_digest(file, cache, large=100) != first


def test_a_rounds_model_comes_back_in_the_precision_it_was_saved_in(foundation, tmp_path):
    foundation.load().to(torch.bfloat16).save_pretrained(tmp_path)
    assert foundation.load().dtype == torch.float32
    assert foundation.load(tmp_path).dtype == torch.bfloat16
    assert isinstance(foundation.load(tmp_path), LlamaForCausalLM)


def test_the_sources_precision_is_that_of_its_weights_whatever_its_configuration_says(foundation, tmp_path):
    foundation.load().to(torch.bfloat16).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    (tmp_path / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    assert Pretrained(str(tmp_path)).source_dtype() == torch.bfloat16
    wide = load_file(tmp_path / "model.safetensors")
    save_file({**wide, "model.norm.weight": wide["model.norm.weight"].float()}, tmp_path / "model.safetensors")
    assert Pretrained(str(tmp_path)).source_dtype() == torch.float32


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layers": -1}, "model.layers is -1; it must be at least 1"),
        ({"heads": 0}, "model.heads is 0; it must be at least 1"),
        ({"hidden": 18}, "model.hidden=18 must be a multiple of twice model.heads=2; change either"),
        ({"layers": 513}, "model.layers is 513; of model=tiny it must be at most 512"),
    ],
)
def test_a_tiny_model_that_cannot_be_is_refused_by_the_option_that_is_wrong(options, sentence):
    with pytest.raises(InputError) as caught:
        TinyLlama(**options)
    assert str(caught.value) == sentence
