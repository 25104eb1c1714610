"""Peak memory of a phase; and a device without room names the option that asked for too much."""

import dataclasses
import functools
import json
import re
import subprocess
import sys

import lightning
import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from diverseevol.engine.memory import Budgets, peak_memory, reset_peak_memory
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.tuning.savings import what_saves_memory
from diverseevol.errors import InputError
from diverseevol.options import Generation, LoRA, Tuning


@pytest.mark.skipif(sys.platform != "linux", reason="the peak begins anew on Linux alone")
def test_the_peak_of_a_phase_is_its_own():
    reset_peak_memory()
    before = peak_memory()["processor"]
    held = np.ones(40_000_000)  # 320 MB
    assert 300e6 < peak_memory()["processor"] - before < 400e6
    del held
    reset_peak_memory()
    assert abs(peak_memory()["processor"] - before) < 50e6


class Full(lightning.Trainer):
    """A trainer that says that its device is full."""

    def fit(self, *given, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    predict = fit


def test_a_full_device_is_said_in_the_users_words(learner, tmp_path, monkeypatch):
    full, model = (
        dataclasses.replace(learner, trainer=functools.partial(Full, accelerator="cpu"), budgets=Budgets()),
        learner.foundation.load().eval(),
    )
    with pytest.raises(InputError, match=r"^tuning.micro_batch_tokens=4096: needs more memory .* try what"):
        full.fit(np.arange(4), (0, 0))
    with pytest.raises(InputError, match=r"^embedding a row of \d+ tokens: needs more memory .* lower prompt"):
        full.probe(model, np.arange(4), tmp_path)
    monkeypatch.setattr(model, "generate", functools.partial(Full.fit, None))
    with pytest.raises(InputError, match=r"^a single question: needs more memory .* lower generation"):
        learner.answer(model, [("Why?", "")], [(0,)], Generation(max_new_tokens=2))


def test_a_full_device_ends_a_fit_with_what_would_save_most(tmp_path):
    config = LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32000
    )
    config.save_pretrained(tmp_path)
    paper, large = Pretrained(str(tmp_path)), Tuning(micro_batch_tokens=4096)
    numbers = re.compile(r"(\S+) \(([0-9.]+) GB\)")

    def saved(sentence):
        return {setting: float(size) for setting, size in numbers.findall(sentence)}

    full = what_saves_memory(paper, large, "bf16-mixed")
    assert "by arithmetic it takes 1" in full, "107 GB of state, and activations"
    assert next(iter(saved(full))) == "tuning=lora"
    assert len(saved(full)) == 3
    assert saved(full)["tuning=lora"] > 70
    lora = what_saves_memory(paper, LoRA(micro_batch_tokens=4096), "bf16-mixed")
    assert set(saved(lora)) == {
        "tuning.gradient_checkpointing=true", "model.dtype=bfloat16", "tuning.micro_batch_tokens=2048",
    }  # fmt: skip
    assert saved(lora)["model.dtype=bfloat16"] > 2 * 6.7, "two bytes of each weight, and no copies in bfloat16"
    assert "trainer.strategy=fsdp" in saved(what_saves_memory(paper, large, "bf16-mixed", processes=4))
    rounded = saved(what_saves_memory(paper, large, "32-true"))["tuning.rounding=stochastic"]
    assert rounded > 4 * 2 * 6.7, "weights, gradients and moments are half as large, and no copies are cast"
    assert saved(what_saves_memory(paper, LoRA(micro_batch_tokens=4096), "32-true"))["model.dtype=bfloat16"] > 2 * 6.7
    spared = LoRA(micro_batch_tokens=64, gradient_checkpointing=True)
    assert set(saved(what_saves_memory(paper, spared, "bf16-mixed"))) >= {"model.dtype=bfloat16"}


def test_a_full_device_is_said_of_models_that_cannot_be_adapted_or_counted(tmp_path):
    narrow = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=32
    )  # fmt: skip
    narrow.save_pretrained(tmp_path)
    with_sizes = what_saves_memory(Pretrained(str(tmp_path)), Tuning(), "32-true")
    assert "try what would save most: tuning." in with_sizes
    assert "lora" not in with_sizes, "its layers are narrower than the usual rank"
    assert what_saves_memory(Pretrained(str(tmp_path / "gone")), Tuning(), "32-true").startswith("give a smaller tun")


@dataclasses.dataclass
class Room:
    """A device with room for so many tokens or rows of a batch, and the sizes that it refused."""

    most: int
    of: str = "tokens"
    refused: list[int] = dataclasses.field(default_factory=list)

    def holds(self, part, monkeypatch, error):
        """From now on, batches of this part of a model that are too large raise the error."""
        forward = part.forward

        @functools.wraps(forward)
        def run(input_ids, *others, **options):
            size = input_ids.shape[0] if self.of == "rows" else input_ids.numel()
            if size > self.most:
                self.refused.append(size)
                raise error
            return forward(input_ids, *others, **options)

        monkeypatch.setattr(part, "forward", run)
        return self


ERRORS = [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("MPS backend out of memory (allocated: 9 GB)")]


@pytest.mark.parametrize("error", ERRORS)
def test_embedding_goes_on_with_half_where_the_device_is_full(learner, tmp_path, monkeypatch, caplog, error):
    rows = np.flatnonzero(learner.encoded.eligible)
    own, model = dataclasses.replace(learner, budgets=Budgets()), learner.foundation.load().eval()
    names = ("response_loss",)
    expected, scores = own.probe(model, rows, tmp_path / "roomy", statistics=names)
    small = Room(300).holds(model.base_model, monkeypatch, error)
    with caplog.at_level("WARNING"):
        embedding, again = own.probe(model, rows, tmp_path / "small", statistics=names)
    np.testing.assert_allclose(embedding, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again[names[0]], scores[names[0]], rtol=1e-5)
    assert len(small.refused) == 2, "1,024 and 512 tokens do not go in, 256 do"
    assert caplog.messages == [
        "the device was full: from now on 256 tokens go through the model at a time, instead of 1,024; nothing is lost "
        "(embedding.batch_tokens=256 begins with that)"
    ]
    own.probe(model, rows, tmp_path / "later")
    assert len(small.refused) == 2, "what was learned of the device holds for later passes"
    assert len(caplog.messages) == 1


def test_rows_that_were_embedded_before_the_device_was_full_are_not_embedded_again(learner, tmp_path, monkeypatch):
    rows = np.flatnonzero(learner.encoded.eligible)
    own, model = dataclasses.replace(learner, budgets=Budgets()), learner.foundation.load().eval()
    own.probe(model, rows[:2], tmp_path / "tested")
    seen, forward = [], model.base_model.forward

    def run(input_ids, *others, **options):
        if len(seen) == 3:
            seen.append(None)
            raise ERRORS[0]
        seen.append(input_ids.shape[0])
        return forward(input_ids, *others, **options)

    monkeypatch.setattr(model.base_model, "forward", functools.wraps(forward)(run))
    own.probe(model, rows, tmp_path)
    assert sum(filter(None, seen)) <= len(rows) + 4, "each row once, beside what two tests of the model read"


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_answers_go_on_with_half_where_the_device_is_full(learner, monkeypatch, caplog, temperature):
    own, model = dataclasses.replace(learner, budgets=Budgets()), learner.foundation.load().eval()
    questions, seeds = [(f"Name {i} words.", "") for i in range(9)], [(7, i) for i in range(9)]
    options = Generation(max_new_tokens=5, temperature=temperature)
    expected = own.answer(model, questions, seeds, options)
    assert temperature == 0 or len(set(expected)) > 1
    small = Room(2, "rows").holds(model, monkeypatch, ERRORS[0])
    with caplog.at_level("WARNING"):
        assert own.answer(model, questions, seeds, options) == expected
    assert small.refused == [9, 4]
    assert own.budgets.halved == {"generation.batch_size": 2}
    assert own.answer(model, questions, seeds, options) == expected
    assert small.refused == [9, 4]
    assert sum(message.startswith("the device was full") for message in caplog.messages) == 1


def test_other_errors_are_no_full_device(learner, tmp_path, monkeypatch):
    model = learner.foundation.load().eval()
    Room(0).holds(model.base_model, monkeypatch, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        learner.probe(model, np.arange(4), tmp_path)


@pytest.mark.slow
def test_processes_agree_on_what_a_device_holds(tmp_path):
    """One of two devices is full: both go on with less, and embed and answer what one process does."""
    script = tmp_path / "full.py"
    script.write_text(TWO)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run([*launcher, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    notes = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert notes[0]["halved"] == notes[1]["halved"] == {"embedding.batch_tokens": 256, "generation.batch_size": 2}, (
        notes
    )
    assert notes[0]["refused"] == 0, "the first one's device had room for everything"
    assert notes[1]["refused"] > 0
    assert [note["same"] for note in notes] == [True, True], "what both embedded is what one process embeds"


TWO = """
import dataclasses, functools, json, sys
from pathlib import Path

import lightning, numpy as np, torch

from diverseevol.data.dataset import load
from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import encode
from diverseevol.engine.launch import join
from diverseevol.engine.learner import Learner
from diverseevol.engine.memory import Budgets
from diverseevol.engine.pretrained import TinyLlama
from diverseevol.options import Generation, PromptOptions, Tuning
from diverseevol.parallel.processes import leave

folder, processes = Path(sys.argv[1]), join()
rows, file = np.arange(60), folder / "rows.jsonl"
records = [{"instruction": f"Name {i} words.", "input": "", "output": "cat " * (1 + i % 9)} for i in range(60)]
if processes.first:
    file.write_text(chr(10).join(map(json.dumps, records)))
dataset = processes.in_turn(lambda: load(file, cache=folder))
tiny = TinyLlama(hidden=32, layers=2, heads=2, vocabulary=300)
foundation = processes.in_turn(lambda: tiny.prepare(dataset, folder))
prompt = Prompt(foundation.tokenizer(), PromptOptions())
encoded = processes.in_turn(lambda: encode(dataset, prompt, folder))
alone = Learner(
    foundation=foundation, prompt=prompt, encoded=encoded, tuning=Tuning(),
    trainer=functools.partial(lightning.Trainer, accelerator="cpu"),
)
together = dataclasses.replace(alone, processes=processes, budgets=Budgets())
model, refused = foundation.load().eval(), []
questions, seeds, options = [(f"Name {i} cats.", "") for i in range(20)], [(7, i) for i in range(20)], Generation(4)
forward = model.base_model.forward
expected, _ = alone.probe(model, rows, folder / f"alone-{processes.rank}")
answered = alone.answer(model, questions, seeds, options)


@functools.wraps(forward)
def run(input_ids, *others, **options):
    if processes.rank == 1 and input_ids.numel() > 300:
        refused.append(input_ids.numel())
        raise torch.OutOfMemoryError("CUDA out of memory.")
    return forward(input_ids, *others, **options)


model.base_model.forward = run
embedding, _ = together.probe(model, rows, folder / "together")
same = bool(np.allclose(embedding, expected, rtol=1e-5, atol=1e-6))
same = same and together.answer(model, questions, seeds, options) == answered
note = {"halved": together.budgets.halved, "refused": len(refused), "same": same}
(folder / f"{processes.rank}.json").write_text(json.dumps(note))
processes.barrier()
leave(processes)
"""
