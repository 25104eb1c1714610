"""Other people's trainers read what `diverseevol export` writes, each in an environment of its own beside ours.

They run the lines of the card. What they make of the rows is compared with what the project itself would train on.
"""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from chat_shapes import SHAPES, tokenizer_of
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from diverseevol.data.dataset import load
from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import Tokens, encode
from diverseevol.options import PromptOptions

pytestmark = pytest.mark.nightly
TRL = ("trl==1.16.0", "accelerate==1.15.0")
LLAMA_FACTORY = ("llamafactory==0.9.5", "peft==0.21.2", "accelerate==1.15.0")
LONGEST = 512  # tokens of a row
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED = (  # the same, with marks around answers
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m['content'] }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
RECORDS = [
    {"instruction": "Name three fish.", "input": "", "output": "Cod, eel and ray.", "id": 1},
    {"instruction": "Sum up.", "input": "Cod and eel.\n\nAnd ray.", "output": "Fish – 魚.", "id": "two"},
    {"instruction": "Write two lines.", "input": "", "output": "One.\nTwo.", "id": None},
]

CHATS = [
    {"messages": [{"role": role, "content": text} for role, text in turns]}
    for turns in (
        [("system", "Be brief."), ("user", "Name a fish."), ("assistant", "Cod.")],
        [("user", "Hi."), ("assistant", "Hello."), ("user", "And ray?"), ("assistant", "A\n\nfish.")],
        [("system", "Sum up."), *[("user", "Name eel."), ("assistant", "Eel.")] * 3],
    )
]

# Runs the lines of the card for TRL up to the training, and prints what would be trained on.
WITH_TRL = f"""
import functools, json, sys
import trl
trl.SFTConfig = functools.partial(trl.SFTConfig, use_cpu=True, bf16=False, report_to="none", max_length={LONGEST})
def train(trainer):
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        print("ROW", json.dumps([batch["input_ids"][0].tolist(), batch["labels"][0].tolist()]))
trl.SFTTrainer.train = train
exec(sys.argv[1].replace('"MODEL"', repr(sys.argv[2])))
"""
# LLaMA-Factory's own loader, by the name that the card gives; torchaudio, which it imports, is not needed.
WITH_LLAMA_FACTORY = f"""
import importlib.machinery, json, sys, types
torchaudio = types.ModuleType("torchaudio")
torchaudio.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = torchaudio
from transformers import AutoTokenizer, Seq2SeqTrainingArguments
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments, ModelArguments
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
data = DataArguments(
    **json.loads(sys.argv[1]), template="chatml", cutoff_len={LONGEST}, overwrite_cache=True,
)
training = Seq2SeqTrainingArguments(output_dir="tuned", use_cpu=True, do_train=True, report_to="none")
template = get_template_and_fix_tokenizer(tokenizer, data)
model = ModelArguments(model_name_or_path=sys.argv[2])
for row in get_dataset(template, model, data, training, stage="sft", tokenizer=tokenizer)["train_dataset"]:
    print("ROW", json.dumps([row["input_ids"], row["labels"]]))
"""


@dataclass(frozen=True)
class World:
    """A model with a chat template, and rows as the project reads them with it."""

    model: Path
    tokenizer: PreTrainedTokenizerFast
    encoded: Tokens
    chats: Tokens

    def expected(self, row: int) -> tuple[list[int], list[int]]:
        """The ids of a row, and its labels: -100 where nothing is learned."""
        return learned(self.encoded, row)

    def text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode([token for token in ids if token >= 0]))


def learned(encoded: Tokens, row: int, spans: slice = slice(None)) -> tuple[list[int], list[int]]:
    """The ids of a row, and its labels; of all stretches that are learned, or of some of them."""
    ids = encoded.row(row).tolist()
    labels = [-100] * len(ids)
    for start, end in encoded.spans_of(row)[spans]:
        labels[start:end] = ids[start:end]
    return ids, labels


def world_of(folder: Path, template: str) -> World:
    tokenizer = tokenizer_of(SHAPES["smollm2"])
    tokenizer.pad_token, tokenizer.chat_template = "<|im_end|>", template
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
        )
    )  # fmt: skip
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    prompt = Prompt(tokenizer, PromptOptions(template="chat", max_length=LONGEST))
    for name, records in (("rows", RECORDS), ("chats", CHATS)):
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    encoded, chats = (
        encode(load(folder / f"{name}.jsonl", cache=folder / "cache"), prompt, folder / "cache")
        for name in ("rows", "chats")
    )
    return World(folder / "model", tokenizer, encoded, chats)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return world_of(tmp_path_factory.mktemp("world"), CHATML)


@pytest.fixture(scope="module")
def marked(tmp_path_factory) -> World:
    return world_of(tmp_path_factory.mktemp("marked"), MARKED)


def environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """The Python of a new environment that has these packages, and for all others sees ours."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    python = folder / "bin/python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())[-200:]
        pytest.skip(f"{' '.join(packages)} cannot be installed here: {reason}")
    return python


@pytest.fixture(scope="module")
def trl(tmp_path_factory) -> Path:
    return environment(tmp_path_factory.mktemp("trl") / "venv", TRL)


@pytest.fixture(scope="module")
def llama_factory(tmp_path_factory) -> Path:
    return environment(tmp_path_factory.mktemp("llamafactory") / "venv", LLAMA_FACTORY)


def read_by(python: Path, script: str, *arguments: str) -> list[tuple[list[int], list[int]]]:
    """What a script prints of each row: ids and labels."""
    variables = {"HF_HUB_OFFLINE": "1", "DISABLE_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": "hf"}
    done = subprocess.run(
        [python, "-c", script, *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [
        tuple(json.loads(line.removeprefix("ROW "))) for line in done.stdout.splitlines() if line.startswith("ROW ")
    ]


@pytest.fixture
def exported(command_line, tmp_path, monkeypatch):
    """`exported(form, records)`: the card of an export of these rows, in a folder named by the format."""
    monkeypatch.chdir(tmp_path)

    def run(form: str, records: list[dict[str, Any]]) -> str:
        Path("P.json").write_text(json.dumps({"chosen": list(range(len(records)))}))
        Path("P.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
        code, _, said = command_line("export", "picks=P.json", f"format={form}", f"out=exported/{form}")
        assert code == 0, said
        return Path(f"exported/{form}/README.md").read_text(encoding="utf-8")

    return run


def snippet(card: str, reader: str, language: str) -> str:
    """What a card says for a reader."""
    found = re.search(rf"\*\*{reader}\*\*\n\n```{language}\n(.*?)```", card, re.DOTALL)
    assert found is not None, card
    return found[1]


def test_trl_learns_of_messages_what_the_project_learns(marked, trl, exported):
    read = read_by(trl, WITH_TRL, snippet(exported("messages", RECORDS), "TRL", "python"), str(marked.model))
    assert len(read) == len(RECORDS)
    for row, (ids, labels) in enumerate(read):
        expected, answer = marked.expected(row)
        assert ids == expected
        assert marked.text(ids[-1:]) == "\n"  # behind the end of the answer: the template's marks leave it out
        assert labels[:-1] == answer[:-1]


def test_trl_learns_of_prompt_and_completion_what_the_project_learns(world, trl, exported):
    card = exported("prompt_completion", RECORDS)
    read = read_by(trl, WITH_TRL, snippet(card, "TRL", "python"), str(world.model))
    assert read == [world.expected(row) for row in range(len(RECORDS))]


@pytest.mark.parametrize("form", ["rows", "alpaca", "sharegpt", "messages", "parquet"])
def test_llama_factory_learns_what_the_project_learns(world, llama_factory, exported, form):
    named = yaml.safe_load(snippet(exported(form, RECORDS), "LLaMA-Factory", "yaml"))
    read = read_by(llama_factory, WITH_LLAMA_FACTORY, json.dumps(named), str(world.model))
    assert len(read) == len(RECORDS)
    for row, (ids, labels) in enumerate(read):
        expected, answer = world.expected(row)
        passage = RECORDS[row]["input"]
        if form in ("rows", "alpaca", "parquet") and passage:  # joined by one line break there, not by two
            assert world.text(ids) == world.text(expected).replace(f"\n\n{passage}", f"\n{passage}")
            assert world.text(labels) == world.text(answer)
        else:
            assert (ids, labels) == (expected, answer)


def test_trl_learns_every_answer_of_messages_and_the_last_one_of_prompt_and_completion(world, marked, trl, exported):
    read = read_by(trl, WITH_TRL, snippet(exported("messages", CHATS), "TRL", "python"), str(marked.model))
    assert read == [learned(marked.chats, row) for row in range(len(CHATS))]
    read = read_by(trl, WITH_TRL, snippet(exported("prompt_completion", CHATS), "TRL", "python"), str(world.model))
    assert len(read) == len(CHATS)
    for row, (ids, labels) in enumerate(read):
        expected, answer = learned(world.chats, row, slice(-1, None))
        assert ids == expected
        assert world.text(labels) == f"{world.text(answer)}\n"  # the line break behind the answer's end, too


@pytest.mark.parametrize("form", ["rows", "alpaca", "sharegpt", "messages", "parquet"])
def test_llama_factory_learns_every_answer_of_a_conversation(world, llama_factory, exported, form):
    named = yaml.safe_load(snippet(exported(form, CHATS), "LLaMA-Factory", "yaml"))
    read = read_by(llama_factory, WITH_LLAMA_FACTORY, json.dumps(named), str(world.model))
    assert len(read) == len(CHATS)
    for row, (ids, labels) in enumerate(read):
        expected, answers = learned(world.chats, row)
        assert ids == expected
        # The line break behind each answer's end, too.
        assert world.text(labels) == world.text(answers).replace("<|im_end|>", "<|im_end|>\n")


def test_each_environment_has_the_version_that_is_said_and_ours_stays_as_it_is(trl, llama_factory):
    for python, packages in ((trl, TRL), (llama_factory, LLAMA_FACTORY)):
        for package in packages:
            name, version = package.split("==")
            command = [python, "-c", f"import importlib.metadata as m; print(m.version({name!r}))"]
            assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == version
    ours = {(dist.metadata["Name"] or "").lower() for dist in importlib.metadata.distributions()}
    assert not {"trl", "llamafactory"} & ours
