"""Tokenisers of several kinds, trained on the spot, with chat templates in the shapes of well-known models'."""

import json
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "Name three fish.", "Cod, eel and ray.", "user system assistant model final analysis", "<think>Well.</think>",
    "Write </s> at the end.\n\n  Two spaces, then\n\n\nlines", "Cutting Knowledge Date: December 2023 01 Jan 2026",
]  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A chat template, its control tokens, and what ends a response in it."""

    template: str
    special: tuple[str, ...]
    turn_end: str
    markers: tuple[str, ...] = ()  # tokens that are not flagged special
    end: str = "</s>"


SHAPES = {
    "smollm2": Shape(
        "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
        "<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}"
        "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        end="<|im_end|>",
    ),
    "chatml with empty reasoning": Shape(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        ("<think>", "</think>"),
    ),
    "gemma": Shape(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        ("<bos>",),
        "<end_of_turn>",
        ("<start_of_turn>", "<end_of_turn>"),
    ),
    "llama 3": Shape(
        "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday is {{ strftime_now('%d %b %Y') }}<|eot_id|>"
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
        "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        ("<bos>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
    ),
    "mistral": Shape(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% else %}"
        "[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}",
        ("<bos>",),
        "</s>",
    ),
    "r1": Shape(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}<|Assistant|>"
        "{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% else %}<|User|>{{ m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}",
        ("<bos>", "<|User|>", "<|Assistant|>"),
        "</s>",
        ("<think>", "</think>"),
    ),
    "gpt-oss": Shape(
        "{% for m in messages %}<|start|>{{ m.role }}"
        "{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>"
        "{{ m.content }}{% if m.role == 'assistant' and loop.last %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        ("<|start|>", "<|channel|>", "<|message|>", "<|end|>"),
        "<|return|>",
        end="<|return|>",
    ),
    "qwen 3 thinking": Shape(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
        "{% set parts = ('\n' + m.content).split('</think>') %}<think>\n{{ parts[0].strip() if parts[1:] else '' }}"
        "\n</think>\n\n{{ m.content.split('</think>')[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
        ("<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        ("<think>", "</think>", "<tool_call>", "</tool_call>"),
    ),
    # The markers of some turns are in no plain conversation: those of systems, in parts, and those of tools.
    "phi": Shape(
        "{% for m in messages %}{% if m.role == 'system' and m.tools %}<|tool|>{{ m.tools }}<|/tool|>{% endif %}"
        "{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}",
        (),
        "<|end|>",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>", "<|/tool|>"),
    ),
    "pairs": Shape(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}",
        (),
        "</assistant>",
        ("<user>", "</user>", "<assistant>", "</assistant>", "<system>", "</system>", "<think>", "</think>"),
    ),
}


def byte_level() -> Tokenizer:
    """GPT-2's kind, as SmolLM2's, Llama 3's and Qwen's are."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def sentencepiece_bpe() -> Tokenizer:
    """Llama 2's and Mistral's kind: spaces become a letter, one is put before the first word, bytes are a fallback."""
    learned = Tokenizer(models.BPE())
    learned.normalizer = normalizers.Replace(" ", "▁")
    learned.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=150, show_progress=False, max_token_length=8))
    model = json.loads(learned.to_str())["model"]
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    merges = [tuple(pair) for pair in model["merges"]]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def unigram() -> Tokenizer:
    """T5's kind, whose vocabulary may hold the very text of a control token."""
    tokenizer = Tokenizer(
        models.Unigram(
            [("<unk>", 0.0), ("</s>", -1.0), *((chr(c), -3.0) for c in range(33, 127)), ("▁", -2.0)], 0, False
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="first")
    return tokenizer


KINDS = {"byte-level": byte_level, "sentencepiece": sentencepiece_bpe}


def tokenizer_of(shape: Shape, kind: str = "byte-level") -> PreTrainedTokenizerFast:
    """A tokeniser of a kind, with a shape's template and control tokens."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=KINDS[kind](), eos_token=shape.end, bos_token="<bos>")
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in (*shape.special, shape.end)])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in shape.markers])
    tokenizer.chat_template = shape.template
    return tokenizer
