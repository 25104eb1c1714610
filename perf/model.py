"""The model and the rows that embedding and answering are measured on: random, of the shape of a small Llama."""

from typing import Any

import lightning
import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from diverseevol.data.prompt import Prompt, Row
from diverseevol.data.tokens import Tokens, tokens_of
from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import Pretrained
from diverseevol.options import Embedding, PromptOptions, Tuning

CONFIG = LlamaConfig(
    vocab_size=32_000,
    hidden_size=256,
    intermediate_size=688,
    num_hidden_layers=4,
    num_attention_heads=4,
    max_position_embeddings=2_048,
    tie_word_embeddings=False,
    bos_token_id=None,
    eos_token_id=0,
    pad_token_id=0,
)
END = 0


def llama(dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """The model: the same random weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(CONFIG).to(dtype).eval()


def rows(n: int, least: int = 16, most: int = 512, seed: int = 0) -> list[list[int]]:
    """Random ids; lengths as instruction data has them: log-normal, about 109 on the average."""
    rng = np.random.default_rng(seed)
    lengths = np.exp(rng.normal(4.42, 0.8, n)).astype(int).clip(least, most)
    return [rng.integers(1, CONFIG.vocab_size, length).tolist() for length in lengths]


def encoded(ids: list[list[int]]) -> Tokens:
    """Rows as the project keeps them; the second half of each is its response."""
    return tokens_of([Row(row, ((len(row) // 2, len(row)),)) for row in ids])


def learner(ids: list[list[int]], precision: str = "32-true", batch_tokens: int | None = None) -> Learner:
    """The project's own learner over these rows, with the default embedding options."""

    def trainer(**options: Any) -> lightning.Trainer:
        return lightning.Trainer(accelerator="cpu", precision=precision, **options)  # type: ignore[arg-type]

    words = Tokenizer(models.WordLevel({"<end>": END}, unk_token="<end>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
    prompt, options = Prompt(tokenizer, PromptOptions()), Embedding(batch_tokens=batch_tokens)
    return Learner(
        foundation=Pretrained("random weights"), prompt=prompt, encoded=encoded(ids), tuning=Tuning(),
        embedding=options, trainer=trainer,
    )  # fmt: skip


def body_flops(lengths: list[int]) -> float:
    """Floating-point operations of the decoder layers, causal attention counted once; no embedding, no head."""
    h, i, layers = CONFIG.hidden_size, CONFIG.intermediate_size, CONFIG.num_hidden_layers
    L = np.array(lengths, dtype=np.float64)
    return float(layers * (2 * (4 * h * h + 3 * h * i) * L + 2 * h * L * (L + 1)).sum())
