"""Models of real shapes with random weights in bfloat16, made on the device."""

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

COMMON = {
    "vocab_size": 32_000, "max_position_embeddings": 2_048, "tie_word_embeddings": False, "bos_token_id": None,
    "eos_token_id": 0, "pad_token_id": 0, "attn_implementation": "sdpa",
}  # fmt: skip
SEVEN = LlamaConfig(
    hidden_size=4_096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32, **COMMON
)  # LLaMA-7B's
ONE = LlamaConfig(hidden_size=2_048, intermediate_size=5_504, num_hidden_layers=22, num_attention_heads=32, **COMMON)


def llama(config: LlamaConfig) -> LlamaForCausalLM:
    """The model on the device."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"):
            torch.manual_seed(0)
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(usual)


def body_flops(config: LlamaConfig, lengths: list[int]) -> float:
    """Floating-point operations of the decoder layers, causal attention counted once; no embedding, no head."""
    h, i, L = config.hidden_size, config.intermediate_size, np.array(lengths, dtype=np.float64)
    return float(config.num_hidden_layers * (2 * (4 * h * h + 3 * h * i) * L + 2 * h * L * (L + 1)).sum())
