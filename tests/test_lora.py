"""LoRA: adapters alone are trained and kept, beside foundation weights that are read once and never change."""

import dataclasses
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.tuning.lora import Adapters
from diverseevol.errors import InputError
from diverseevol.evolution.loop import evolve
from diverseevol.options import LoRA, Schedule
from diverseevol.samplers.qbc import QueryByCommittee
from diverseevol.storage.files import read_json, read_jsonl

ROWS = np.arange(10, 30)
LAYERS = [
    f"model.layers.{i}.{part}_proj"
    for i in range(2)
    for part in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down")
]
OPTIONS = LoRA(learning_rate=5e-2, steps=3, batch_size=3, rank=4, alpha=8)


@pytest.fixture
def adapting(learner: Learner) -> Learner:
    """The learner of the tests, with adapters, and none made yet."""
    return dataclasses.replace(learner, tuning=OPTIONS)


def bits(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def adapter(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in bits(model).items() if "lora_" in name}


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.eval()(torch.arange(3, 40)[None]).logits
    return result


@pytest.mark.usefixtures("engine_path")
def test_a_fit_changes_adapters_of_all_linear_layers_and_nothing_else(adapting):
    before = bits(adapting.foundation.load())
    fit = adapting.fit(ROWS, (0, 1))
    trained = {name for name, weight in fit.model.named_parameters() if weight.requires_grad}
    assert trained == {f"{layer}.lora_{half}.default.weight" for layer in LAYERS for half in "AB"}
    shapes = {name: tuple(weight.shape) for name, weight in adapter(fit.model).items()}
    assert shapes["model.layers.0.mlp.down_proj.lora_A.default.weight"] == (4, 96)
    assert shapes["model.layers.0.mlp.down_proj.lora_B.default.weight"] == (32, 4)
    assert all(bool((weight != 0).any()) for weight in adapter(fit.model).values()), "all of them learned"
    after = {name.replace(".base_layer", ""): weight for name, weight in bits(fit.model).items() if "lora_" not in name}
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert [point["step"] for point in fit.curve] == [1, 2, 3]
    assert (logits(fit.model) - logits(adapting.foundation_model())).abs().max() > 1e-2


def test_each_fit_begins_with_a_new_adapter_that_its_seed_decides(adapting):
    first, again, unlike = (adapter(adapting.fit(ROWS, seed).model) for seed in ((0, 1), (0, 1), (0, 2)))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], unlike[name]) for name in first)
    torch.manual_seed(3)
    model = adapting.models.to_train()
    assert torch.equal(logits(model), logits(adapting.foundation_model())), "it changes nothing before it is trained"


def test_the_foundation_weights_are_read_once_and_shared(adapting, monkeypatch, tmp_path):
    loads = []
    load = Pretrained.load
    monkeypatch.setattr(Pretrained, "load", lambda self, *folder: loads.append(folder) or load(self, *folder))
    models = [adapting.fit(ROWS, (0, seed)).model for seed in range(2)]
    adapting.models.save(models[0], tmp_path)
    models += [adapting.models.load(tmp_path), adapting.foundation_model()]
    adapting.foundation_embedding(tmp_path / "space")
    assert loads == [()]
    weights = [
        [weight.data_ptr() for name, weight in model.named_parameters() if "lora_" not in name] for model in models
    ]
    assert weights == [weights[0]] * 4


def test_a_saved_adapter_is_safetensors_alone_gives_the_same_logits_and_the_same_files(adapting, tmp_path):
    model = adapting.fit(ROWS, (0, 1)).model
    for folder in ("a", "b"):
        adapting.models.save(model, tmp_path / folder)
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    read = adapting.models.load(tmp_path / "a")
    assert torch.equal(logits(read), logits(model))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")  # peft asks transformers by it
        peft = PeftModel.from_pretrained(adapting.foundation.load(), tmp_path / "a")
    assert torch.equal(logits(peft), logits(model)), "other programs read it, too"


@pytest.mark.parametrize("flaw", ["shape", "lacking", "more", "cut"])
def test_an_adapter_that_does_not_fit_is_refused(adapting, tmp_path, flaw):
    adapting.models.save(adapting.models.to_train(), tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[0]
    if flaw == "shape":
        tensors[name] = tensors[name][:1].clone()  # would be broadcast
    elif flaw == "lacking":
        del tensors[name]
    elif flaw == "more":
        tensors["base_model.model.lm_head.lora_A.weight"] = torch.zeros(4, 32)
    save_file(tensors, file)
    if flaw == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"its adapter cannot be loaded \(.*\); delete the folder to redo its step"):
        adapting.models.load(tmp_path)


@pytest.mark.usefixtures("engine_path")
def test_embeddings_losses_and_answers_are_those_of_the_merged_model(adapting, tmp_path, exam):
    model = adapting.fit(ROWS, (0, 1)).model
    adapting.models.save(model, tmp_path / "adapter")
    merged = adapting.models.merged(tmp_path / "adapter")
    assert not any("lora_" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(logits(merged), logits(model), rtol=1e-5, atol=1e-5)
    rows = np.arange(0, 40, 3)
    probed = {}
    for name, asked in {"adapter active": model, "merged": merged, "foundation": adapting.foundation_model()}.items():
        embedding, scores = adapting.probe(asked, rows, tmp_path / name, statistics=("response_loss",))
        probed[name] = np.column_stack([embedding, scores["response_loss"]])
    np.testing.assert_allclose(probed["adapter active"], probed["merged"], rtol=1e-4, atol=1e-5)
    assert np.abs(probed["adapter active"] - probed["foundation"]).max() > 1e-2
    asked = [(question.instruction, "") for question in exam.benchmarks[0].questions]
    answers = [adapting.answer(each, asked, [(i,) for i in range(3)], exam.generation) for each in (model, merged)]
    assert answers[0] == answers[1]


def test_a_merged_model_is_saved_like_any_other(adapting, tmp_path):
    model = adapting.fit(ROWS, (0, 1)).model
    adapting.models.save(model, tmp_path / "adapter")
    adapting.foundation.save(adapting.models.merged(tmp_path / "adapter"), tmp_path / "merged")
    assert (tmp_path / "merged/config.json").is_file()
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(logits(read), logits(model), rtol=1e-5, atol=1e-5)
    assert torch.equal(logits(adapting.foundation_model()), logits(adapting.foundation.load())), "its own weights"


def test_adapters_stay_in_float32_beside_weights_in_bfloat16_and_are_rounded_where_asked(adapting, tmp_path):
    half = Adapters(dataclasses.replace(adapting.foundation, dtype="bfloat16"), OPTIONS)
    model = half.to_train()
    assert {weight.dtype for weight in adapter(model).values()} == {torch.float32}
    assert model.dtype == torch.bfloat16
    source = tmp_path / "checkpoint in bfloat16"
    adapting.foundation.load().to(torch.bfloat16).save_pretrained(source)
    of_half = Adapters(Pretrained(str(source)), OPTIONS)
    rounded = of_half.to_train()
    of_half.save(rounded, tmp_path / "kept", "source")
    kept = load_file(tmp_path / "kept/adapter_model.safetensors")
    assert {weight.dtype for weight in kept.values()} == {torch.bfloat16}
    assert all(torch.equal(weight, weight.bfloat16().float()) for weight in adapter(rounded).values())
    assert torch.equal(logits(of_half.load(tmp_path / "kept")), logits(rounded))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_activation_checkpointing_changes_no_weight(adapting, dropout):
    usual, less = (
        adapter(
            dataclasses.replace(
                adapting, tuning=dataclasses.replace(OPTIONS, dropout=dropout, gradient_checkpointing=checkpointing)
            ).fit(ROWS, (0, 1)).model
        )
        for checkpointing in (False, True)
    )  # fmt: skip
    for name, weight in usual.items():
        torch.testing.assert_close(less[name], weight, rtol=1e-4, atol=1e-6)


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("two_threads")
def test_dropout_is_drawn_from_the_seed_on_several_threads_too(adapting):
    tuned = dataclasses.replace(adapting, tuning=dataclasses.replace(OPTIONS, dropout=0.3, micro_batch_tokens=100))
    first, second = (adapter(tuned.fit(ROWS, (0, 1)).model) for _ in range(2))
    torch.set_num_threads(1)
    third, without = adapter(tuned.fit(ROWS, (0, 1)).model), adapter(adapting.fit(ROWS, (0, 1)).model)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name, weight in first.items():
        torch.testing.assert_close(third[name], weight, rtol=1e-2, atol=1e-4)
    assert not any(torch.equal(first[name], without[name]) for name in first)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"target_modules": ["q_prog"]},
            "tuning.target_modules: LlamaForCausalLM has no linear layer 'q_prog' to adapt (did you mean q_proj?); "
            "choose from down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj, or all-linear",
        ),
        ({"target_modules": ["q_proj", "lm_head"]}, "LlamaForCausalLM has no linear layer 'lm_head' to adapt; choose"),
        ({"target_modules": ["embed_tokens"]}, "LlamaForCausalLM has no linear layer 'embed_tokens' to adapt; choose"),
        (
            {"rank": 33},
            "tuning.rank is 33, more than the rank of any layer of LlamaForCausalLM (32); lower it",
        ),
    ],
)
def test_what_a_model_does_not_have_is_refused(adapting, changes, sentence):
    with pytest.raises(InputError) as caught:
        Adapters(adapting.foundation, dataclasses.replace(OPTIONS, **changes)).to_train()
    assert sentence in str(caught.value)


FAMILIES = {
    "mixtral": (14, ""),  # experts too
    "llama4_text": (14, ""),  # a router that is a linear layer with a result of its own
    "gemma2": (14, ""),  # logits of all tokens
    "gpt2": (8, ""),  # transposed weights
    "zamba": (
        22,
        "layers of ZambaForCausalLM share weights and have adapters of their own, so that these cannot be",
    ),
    "mamba": (
        0,
        "tuning=lora: peft cannot adapt MambaForCausalLM ([PEFT:PeftType.LORA] Module 'out_proj' is incompati",
    ),
}


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_models_are_adapted_and_merged_or_refused(adapting, tmp_path, family):
    families.save(family, tmp_path / "checkpoint")
    learner = dataclasses.replace(
        adapting, foundation=Pretrained(str(tmp_path / "checkpoint")), prompt=families.prompt(), encoded=families.rows()
    )
    count, refusal = FAMILIES[family]
    if not count:
        with pytest.raises(InputError) as caught:
            learner.models.to_train()
        assert refusal in str(caught.value)
        return
    model = learner.fit(np.arange(6), (0,)).model
    assert sum("lora_B" in name for name in adapter(model)) == count
    assert all(bool((weight != 0).any()) for weight in adapter(model).values())
    learner.models.save(model, tmp_path / "adapter")
    assert torch.equal(logits(learner.models.load(tmp_path / "adapter")), logits(model))
    if refusal:
        with pytest.raises(InputError) as caught:
            learner.models.merged(tmp_path / "adapter")
        assert refusal in str(caught.value)
    else:
        merged = learner.models.merged(tmp_path / "adapter")
        torch.testing.assert_close(logits(merged), logits(model), rtol=1e-4, atol=1e-4)


def test_some_layers_can_be_named(adapting):
    model = Adapters(adapting.foundation, dataclasses.replace(OPTIONS, target_modules=["q_proj", "v_proj"])).to_train()
    assert len(adapter(model)) == 8


def test_how_much_is_trained_is_said_in_a_sentence(adapting, learner):
    state = torch.get_rng_state()
    weights = adapting.models.to_train()
    torch.set_rng_state(state)
    trained, of = (
        sum(weight.numel() for name, weight in weights.named_parameters() if ("lora_" in name) is lora)
        for lora in (True, False)
    )
    assert adapting.describe() == (
        f"LoRA of rank 4: {trained:,} parameters are trained beside the model's {of:,} ({trained / of:.2%}); a round "
        f"keeps {4 * trained / 1e6:.1f} MB"
    )
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn for it"
    assert learner.describe() is None


@pytest.fixture(scope="module")
def finished(evolution: Callable[..., Any], learner: Learner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished evolution of adapters, every round's kept; a copy of it can be changed."""
    folder = tmp_path_factory.mktemp("adapters") / "run"
    evolve(evolution(folder, learner=dataclasses.replace(learner, tuning=OPTIONS), keep_models="all"))
    return folder


def test_a_round_keeps_its_adapter_and_no_model(finished):
    for t in range(3):
        folder = finished / f"rounds/{t:02d}"
        assert not (folder / "model").exists()
        kept = [file for file in (folder / "adapter").iterdir() if file.name != ".digests"]
        assert {file.name for file in kept} == {"adapter_config.json", "adapter_model.safetensors"}
        assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 100_000
        assert read_json(folder / "round.json")["metrics"].keys() >= {"train_loss", "vendi_score", "coverage_radius"}


def test_rounds_that_are_not_to_be_kept_are_dropped(evolution, adapting, tmp_path):
    evolve(evolution(tmp_path / "run", learner=adapting, keep_models="last"))
    assert [file.parent.name for file in sorted(tmp_path.glob("run/rounds/*/adapter"))] == ["02"]


def results(folder: Path) -> dict[str, bytes]:
    """What a run leaves but for times."""
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    for name in [name for name in files if name.endswith("round.json")]:
        record = json.loads(files[name])
        files[name] = json.dumps({key: record[key] for key in ("chosen", "trained_on", "metrics")}).encode()
    return {name: content for name, content in files.items() if not name.endswith((".lock", ".digests"))}


@pytest.mark.parametrize("phase", ["probe", "answer"])
def test_a_resumed_run_is_the_uninterrupted_one(finished, evolution, learner, tmp_path, monkeypatch, phase):
    work, calls = getattr(Learner, phase), []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(phase)
        if len(calls) == 3:  # in round 1, whose adapter is on disk by then
            raise RuntimeError("the power went off")
        return work(*arguments, **options)

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Learner, phase, interrupted)
        with pytest.raises(RuntimeError, match="the power went off"):
            evolve(evolution(folder, learner=dataclasses.replace(learner, tuning=OPTIONS), keep_models="all"))
    before = (folder / "rounds/01/adapter/adapter_model.safetensors").stat().st_mtime_ns
    evolve(evolution(folder, learner=dataclasses.replace(learner, tuning=OPTIONS), keep_models="all"))
    assert (folder / "rounds/01/adapter/adapter_model.safetensors").stat().st_mtime_ns == before
    assert results(folder) == results(finished)


def test_a_damaged_adapter_is_made_again(finished, evolution, learner, tmp_path):
    copy = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(copy / "rounds/02")
    for name in ("round.json", "chosen.jsonl"):
        (copy / "rounds/01" / name).unlink()
    file = copy / "rounds/01/adapter/adapter_model.safetensors"
    before = file.read_bytes()
    file.write_bytes(before[:-4] + b"\x01\x02\x03\x04")
    evolve(evolution(copy, learner=dataclasses.replace(learner, tuning=OPTIONS), keep_models="all"))
    assert file.read_bytes() == before
    assert results(copy) == results(finished)


@pytest.mark.parametrize("kind", ["bagging", "rounds"])
def test_a_committee_is_adapters_beside_one_foundation_model(evolution, adapting, tmp_path, monkeypatch, kind):
    asked: list[list[PreTrainedModel]] = []
    disagreement = Learner.disagreement
    monkeypatch.setattr(
        Learner,
        "disagreement",
        lambda self, models, *rest: asked.append(list(models)) or disagreement(self, models, *rest),
    )
    sampler = QueryByCommittee(size=3, disagreement="kl", committee=kind)
    evolve(evolution(tmp_path, learner=adapting, sampler=sampler, schedule=Schedule(3, 6, 4)))
    models = asked[-1]
    assert len(models) == 3
    assert len({model.get_input_embeddings().weight.data_ptr() for model in models}) == 1
    assert len({float(logits(model).sum()) for model in models}) == 3
    scores = [line["score"] for line in read_jsonl(tmp_path / "rounds/02/chosen.jsonl")]
    assert scores[0] > 0
    assert not list(tmp_path.glob("rounds/*/committee"))


SMALL = (
    "model=tiny", "model.hidden=32", "model.heads=2", "model.vocabulary=400", "data.size=200", "schedule.rounds=1",
    "schedule.seed_size=20", "schedule.step_size=10", "tuning.steps=5", "benchmark=lab_natural", "logger=none",
    "benchmark.questions=5", "generation.max_new_tokens=4", "trainer.accelerator=cpu",
)  # fmt: skip


def test_evolve_resume_and_merge_from_the_command_line(command_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evolving = ("evolve", *SMALL, "tuning=lora", "tuning.rank=8", "folder=run")
    code, _, said = command_line(*evolving)
    assert code == 0
    assert said.count("LoRA of rank 8: ") == 1
    code, _, said = command_line(*evolving)
    assert (code, "nothing to do" in said, "LoRA" in said) == (0, True, False)
    code, _, said = command_line(*evolving, "tuning=full", "~tuning.rank")
    assert code == 2
    code, _, said = command_line("evolve", *SMALL, "folder=run")
    assert code == 2
    assert 'tuning (there "lora", here null)' in said
    assert "tuning.rank (there 8, here null)" in said

    code, _, said = command_line("merge", "folder=run", "out=merged")
    assert code == 2
    base = read_json(tmp_path / "run/rounds/01/adapter/adapter_config.json")["base_model_name_or_path"]
    assert said.startswith("diverseevol: model.path is missing: give model.path=… with the model that was adapted, if")
    assert said.endswith(f"run/rounds/01/adapter/adapter_config.json says {base!r}\n")
    assert command_line("merge", "folder=run", f"model.path={base}", "out=merged")[0] == 0
    files = {file.name for file in (tmp_path / "merged").iterdir()}
    assert files >= {"config.json", "model.safetensors", "tokenizer.json"}
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    tuned = Adapters(Pretrained(base), LoRA(rank=8)).load(tmp_path / "run/rounds/01/adapter")
    torch.testing.assert_close(logits(merged), logits(tuned), rtol=1e-5, atol=1e-5)
    for arguments, sentence in {
        ("out=merged", f"model.path={base}"): "out=merged: is there already; give a folder that is not there yet",
        (
            "out=m",
            "round=0",
            f"model.path={base}",
        ): "run: the adapter of round=0 is not kept, and that of 1 is; give another r",
        (
            "out=m",
            "round=7",
        ): "run: the adapter of round=7 is not kept, and that of 1 is; give another round, or",
        (
            "out=m",
            "model=lab",
        ): "is not what run was trained from, or is in another precision; give the same model",
    }.items():
        code, _, said = command_line("merge", "folder=run", *arguments)
        assert (code, sentence in said) == (2, True), said
        assert not (tmp_path / "m").exists()


def test_what_cannot_be_merged_is_refused(command_line, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, _, said = command_line("merge", "folder=empty", "out=m")
    assert (code, "folder=empty: holds no config.yaml, so it is not a run folder" in said) == (2, True)
    assert command_line("evolve", *SMALL, "folder=full", "schedule.rounds=0")[0] == 0
    code, _, said = command_line("merge", "folder=full", "out=m")
    assert (code, "tuning: has no rank, so that rounds keep complete models" in said) == (2, True)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("tuning.rank=0", "tuning.rank is 0; it must be at least 1"),
        ("tuning.rank=1.5", "tuning.rank is 1.5, which is not a whole number"),
        ("tuning.alpha=0", "tuning.alpha is 0; it must be at least 1"),
        ("tuning.dropout=1", "tuning.dropout is 1.0; it must be at least 0 and below 1"),
        ("tuning.target_modules=[]", "tuning.target_modules is empty; give names of layers, or all-linear"),
        ("tuning.target_modules=q_proj", "tuning.target_modules is 'q_proj', which is not all-linear or a list"),
        (
            "trainer.precision=bf16-true",
            "trainer.precision=bf16-true converts the foundation weights, which adapters share",
        ),
        ("tuning.target_modules=[1]", "tuning.target_modules is [1], which is not all-linear or a list"),
        ("tuning.ranks=8", "tuning.ranks is not an option of evolve (did you mean tuning.rank?)"),
        ("tuning=full", "tuning.rank is not an option of evolve here, but of tuning=lora: add tuning=lora"),
    ],
)
def test_options_that_cannot_be_are_refused(command_line, override, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["tuning=full", "tuning.rank=8"] if override == "tuning=full" else ["tuning=lora", override]
    code, _, said = command_line("evolve", *words)
    assert (code, sentence in said) == (2, True), said
    assert not list(tmp_path.iterdir())


def test_layers_that_are_not_there_are_refused_before_there_is_a_run_folder(command_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, said = command_line("evolve", *SMALL, "tuning=lora", "tuning.target_modules=[nosuch]", "folder=run")
    assert (code, "LlamaForCausalLM has no linear layer 'nosuch' to adapt; choose from" in said) == (2, True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["evolve", "merge"])
def test_a_missing_peft_is_said_before_data_are_read(tmp_path, verb):
    script = f"""
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "peft" else found(name, *rest)
sys.argv = ["diverseevol", "{verb}", *sys.argv[1:]]
from diverseevol.cli import main
main()
"""
    words = (
        ["folder=x", "out=y"]
        if verb == "merge"
        else ["data=json", "data.path=nosuch.jsonl", "model.path=m", "tuning=lora"]
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    use = "merge" if verb == "merge" else "tuning=lora"
    assert done.stderr == f"diverseevol: {use} needs a package that is not installed: pip install 'diverseevol[lora]'\n"
    assert done.returncode == 2


@pytest.mark.slow
def test_two_processes_train_the_adapter_that_one_trains(tmp_path):
    kept = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        done = subprocess.run(
            [sys.executable, *(launcher if processes > 1 else []), "-m", "diverseevol", "evolve", *SMALL, "tuning=lora",
             "tuning.rank=8", "tuning.micro_batch_tokens=300", "tuning.gradient_checkpointing=true",
             "tuning.packing=true", "keep_models=all",
             f"folder={folder}", f"cache={tmp_path / 'cache'}"],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        assert done.stderr.count("LoRA of rank 8: ") == 1, "one process speaks"
        rounds = [read_json(folder / f"rounds/{t:02d}/round.json") for t in range(2)]
        kept.append((load_file(folder / "rounds/00/adapter/adapter_model.safetensors"), rounds))
    (alone, rounds), (together, shared) = kept
    assert alone.keys() == together.keys()
    for name, weight in alone.items():
        torch.testing.assert_close(together[name], weight, rtol=1e-2, atol=1e-4, msg=name)
    assert shared[0]["trained_on"] == rounds[0]["trained_on"]
    np.testing.assert_allclose(shared[0]["metrics"]["train_loss"], rounds[0]["metrics"]["train_loss"], rtol=1e-4)
    assert not list(tmp_path.rglob("*.partial"))
