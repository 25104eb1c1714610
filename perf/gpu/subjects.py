"""What is measured: models of real shapes with random weights, made on the device, and rows as long as Dolly's."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from diverseevol.data.prompt import Prompt, Row
from diverseevol.data.tokens import Tokens, tokens_of
from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import Pretrained
from diverseevol.options import LoRA, PromptOptions, Tuning

# Tokens of Dolly's 15,015 rows in the Alpaca template (SmolLM2's tokeniser, cut at 512): 33 quantiles; 190 on the
# average, 37 % of them of responses.
LENGTHS = (
    33, 46, 51, 55, 58, 62, 67, 73, 80, 86, 92, 99, 105, 112, 120, 129, 137, 148, 159, 173, 189, 205, 222, 239, 260,
    285, 317, 350, 397, 461, 512, 512, 512,
)  # fmt: skip
RESPONSES = 0.374
END, UNKNOWN = 0, 1
# Options that should be faster, beside the defaults.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "embedding": {"": {}, "16,384 tokens together": {"batch_tokens": 16_384}},
    "fit": {"": {}, "packed": {"packing": True}},
}
COMPILED: dict[str, dict[str, dict[str, Any]]] = {"fit": {"packed, compiled": {"packing": True, "compile": True}}}


@dataclass(frozen=True)
class RandomWeights(Pretrained):
    """A foundation model without a checkpoint: the same random weights each time, made where they are used."""

    config: PreTrainedConfig = field(default_factory=LlamaConfig)
    device: str = "cpu"

    def load(self, folder: Path | None = None) -> PreTrainedModel:
        """The model; nothing is ever read from a folder."""
        devices = [torch.device(self.device)] if self.device == "cuda" else []
        with torch.random.fork_rng(devices), torch.device(self.device):
            torch.manual_seed(0)
            dtype = getattr(torch, self.dtype)
            return AutoModelForCausalLM.from_config(self.configuration(), dtype=dtype)

    def configuration(self) -> PreTrainedConfig:
        """As it was given."""
        return copy.deepcopy(self.config)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Each id is a word."""
        words = {"<end>": END, "<unk>": UNKNOWN} | {f"w{i}": i for i in range(2, self.config.vocab_size)}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>")


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        seconds: what a turn should take, at the share of the matrix rate that is expected.
        turns: of each way, while a part has taken less than `most_seconds`.
        matrix: side of the matrices whose product is timed.
        least_rows: embedded at least.
        batch_size: rows of an optimizer step.
        embedded_together: tokens that go through the model together in the plain way, padding included.
        questions: answered.
        new_tokens: at most, of an answer.
        end_every: answers of random weights end after so many tokens on the average.
    """

    seconds: float = 6.0
    turns: int = 2
    most_seconds: float = 25.0
    matrix: int = 8192
    least_rows: int = 200
    batch_size: int = 64
    embedded_together: int = 16_384
    questions: int = 80
    new_tokens: int = 512
    end_every: int = 128


@dataclass(frozen=True)
class Subject:
    """A model and how it is used.

    Attributes:
        name: in results.
        title: in tables.
        foundation: its weights, and the precision in which they are held.
        tuning: how it is fine-tuned.
        goals: least share of the matrix rate on an H100, by job.
        jobs: what is measured.
        projected: whether an evolution's time is projected from its rates.
        last: whether it is measured after all others.
        variants: of our way, by job: options of tuning, embedding or generation by a label, "" for the usual one.
        precision: of the trainer.
    """

    name: str
    title: str
    foundation: Pretrained
    tuning: Tuning
    goals: dict[str, float] = field(default_factory=dict)
    jobs: tuple[str, ...] = ("embedding", "fit", "answers")
    projected: bool = False
    last: bool = False
    variants: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: VARIANTS)
    precision: str = "bf16-mixed"

    @property
    def available(self) -> bool:
        """Whether its weights are at hand."""
        return isinstance(self.foundation, RandomWeights) or Path(self.foundation.path).is_dir()

    @cached_property
    def prompt(self) -> Prompt:
        """The Alpaca template."""
        return Prompt(self.foundation.tokenizer(), PromptOptions())

    def learner(self, encoded: Tokens, device: str, **trainer: Any) -> Learner:
        """The project's learner, with the trainer that `trainer=bf16` makes."""
        options: dict[str, Any] = {"accelerator": device, "precision": self.precision, "deterministic": True} | trainer
        make: Callable[..., lightning.Trainer] = functools.partial(lightning.Trainer, **options)
        return Learner(
            foundation=self.foundation, prompt=self.prompt, encoded=encoded, tuning=self.tuning, trainer=make,
        )  # fmt: skip

    def rows(self, n: int) -> Tokens:
        """Random ids, in rows as long as Dolly's."""
        rng = np.random.default_rng(0)
        lengths = np.interp(rng.random(n), np.linspace(0, 1, len(LENGTHS)), LENGTHS).astype(int)
        responses = np.maximum(1, np.round(RESPONSES * lengths)).astype(int)
        vocabulary = len(self.prompt.tokenizer)
        return tokens_of(
            [
                Row(rng.integers(2, vocabulary, length).tolist(), ((length - response, length),))
                for length, response in zip(lengths.tolist(), responses.tolist(), strict=True)
            ]
        )

    def questions(self, n: int) -> list[tuple[str, str]]:
        """Questions of 8 to 40 words, as Vicuna-Bench has them."""
        rng = np.random.default_rng(1)
        return [(" ".join(f"w{i}" for i in rng.integers(2, 250, rng.integers(8, 41))), "") for _ in range(n)]

    def end_answers(self, model: PreTrainedModel, every: int) -> None:
        """Have answers of random weights end now and then, as those of a trained model do."""
        if isinstance(self.foundation, RandomWeights):
            model.generation_config.eos_token_id = list(range(0, self.foundation.config.vocab_size, every))


FULL = Tuning(learning_rate=2e-5, epochs=1, micro_batch_tokens=8_192)
LORA = LoRA(epochs=1, micro_batch_tokens=8_192)

LLAMA_7B = LlamaConfig(
    vocab_size=32_000, hidden_size=4_096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32,
    max_position_embeddings=2_048, rms_norm_eps=1e-6, tie_word_embeddings=False, eos_token_id=END, pad_token_id=END,
)  # fmt: skip
QWEN_15 = Qwen2Config(
    vocab_size=151_936, hidden_size=1_536, intermediate_size=8_960, num_hidden_layers=28, num_attention_heads=12,
    num_key_value_heads=2, max_position_embeddings=32_768, rms_norm_eps=1e-6, tie_word_embeddings=True,
    eos_token_id=END, pad_token_id=END,
)  # fmt: skip
QWEN_05 = Qwen2Config(
    vocab_size=151_936, hidden_size=896, intermediate_size=4_864, num_hidden_layers=24, num_attention_heads=14,
    num_key_value_heads=2, max_position_embeddings=32_768, rms_norm_eps=1e-6, tie_word_embeddings=True,
    eos_token_id=END, pad_token_id=END,
)  # fmt: skip
TINY = LlamaConfig(
    vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=2_048, tie_word_embeddings=False, eos_token_id=END, pad_token_id=END,
)  # fmt: skip


def subjects(device: str, checkpoint: str | None) -> list[Subject]:
    """Models of real shapes, and SmolLM2, whose folder is named; None leaves its weights out."""
    few, many = {"fit": 0.4, "embedding": 0.5}, {"fit": 0.25, "embedding": 0.5}
    random = functools.partial(RandomWeights, "random weights", device=device)
    return [
        Subject(
            "llama-7b-lora",
            "LLaMA-7B, LoRA, bfloat16 weights",
            random(dtype="bfloat16", config=LLAMA_7B),
            LORA,
            few,
            projected=True,
        ),
        Subject(
            "llama-7b",
            "LLaMA-7B, full, bfloat16 weights with stochastic rounding",
            random(dtype="bfloat16", config=LLAMA_7B),
            replace(FULL, rounding="stochastic"),
            few,
            projected=True,
        ),
        Subject("qwen2.5-1.5b", "Qwen2.5-1.5B, full, float32 weights", random(config=QWEN_15), FULL, many),
        Subject("qwen2.5-0.5b", "Qwen2.5-0.5B, full, float32 weights", random(config=QWEN_05), FULL, many),
        Subject(
            "qwen2.5-1.5b-compiled",
            "Qwen2.5-1.5B, full, float32 weights",
            random(config=QWEN_15),
            FULL,
            many,
            jobs=("fit",),
            last=True,
            variants=COMPILED,
        ),
        Subject(
            "smollm2-135m",
            "SmolLM2-135M, full, float32 weights",
            Pretrained(checkpoint or "DIVERSEEVOL_TEST_MODEL"),
            FULL,
        ),
    ]


def tiny_subjects(device: str, checkpoint: str | None) -> list[Subject]:
    """The same of a size that says nothing about speed, to see that everything runs."""
    random = functools.partial(RandomWeights, "random weights", device=device, config=TINY)
    subjects = [
        Subject(
            "tiny-lora", "tiny, LoRA", random(dtype="bfloat16"), replace(LORA, rank=4), {"fit": 0.4}, projected=True
        ),
        Subject(
            "tiny-rounded",
            "tiny, rounded",
            random(dtype="bfloat16"),
            replace(FULL, rounding="stochastic"),
            jobs=("fit",),
        ),
        Subject("tiny", "tiny, full", random(), FULL, {"embedding": 0.5}),
    ]
    if checkpoint:
        subjects.append(Subject("checkpoint", "a checkpoint", Pretrained(checkpoint), FULL))
    return subjects


TINY_SIZE = Size(
    seconds=0.0, turns=1, matrix=128, least_rows=6, batch_size=3, questions=3, new_tokens=4, end_every=100
)  # fmt: skip
