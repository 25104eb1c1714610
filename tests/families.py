"""Every family of text decoders in transformers, made small with random weights, saved, and put through everything.

`make model-table` tries all of them and writes `docs/families.md`; `python tests/families.py llama mamba` prints the
lines of some.
"""

import dataclasses
import functools
import itertools
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # read when libraries are imported, as in the tests

import lightning
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from diverseevol.data.prompt import Prompt, Row
from diverseevol.data.tokens import Tokens, tokens_of
from diverseevol.engine.answering.generation import generate
from diverseevol.engine.body_and_head import BodyAndHead
from diverseevol.engine.learner import Learner
from diverseevol.engine.padding import reads_padding_before
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.tuning.batches import collate
from diverseevol.errors import InputError
from diverseevol.options import Embedding, Generation, PromptOptions, Tuning

PAGE = Path(__file__).parent.parent / "docs" / "families.md"
# Windows, chunks and blocks are shorter than the rows and than most prompts with their answers.
SIZES: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 512, "sliding_window": 16,
    "initializer_range": 0.1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
    # Mixtures of experts, by all the names that their sizes have.
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "moe_k": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "first_k_dense_replace": 1,
    "n_group": 1, "topk_group": 1,
    # Attention through a narrow latent vector, and to the tokens alone that an index picks.
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 16,
    "index_head_dim": 16, "index_n_heads": 2,
}  # fmt: skip
LATENT = {"num_key_value_heads": 2, "head_dim": 8}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
MAMBA = {"mamba_n_heads": 4, "mamba_d_state": 8, "mamba_chunk_size": 8}
ZAMBA = {
    "num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"], "num_key_value_heads": 2,
    "mamba_d_state": 8,
}  # fmt: skip
GEMMA = {
    "num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2,
    "vocab_size_per_layer_input": 320, "hidden_size_per_layer_input": 8,
}  # fmt: skip
DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
# What a family needs beyond `SIZES`.
FURTHER: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"num_key_value_heads": 2},
    "bamba": {**MAMBA, "attn_layer_indices": [1]},
    "codegen": {"num_attention_heads": 4, "rotary_dim": 8},
    "cohere_compass_text": {"rope_parameters": {"full_attention": DEFAULT_ROPE}},
    "dbrx": {
        "d_model": 32, "ffn_config": {"ffn_hidden_size": 48},
        "attn_config": {"kv_n_heads": 1, "rope_theta": 10_000.0, "clip_qkv": 8.0},
    },
    "diffllama": {"num_key_value_heads": 2},
    "dots1": {"n_shared_experts": 1},
    "dots3_note_text": {
        **LATENT, "head_dim": 16, "num_hidden_layers": 3,
        "layer_types": ["indexed_attention", "sliding_attention", "indexed_attention"], "swa_num_attention_heads": 2,
        "swa_num_key_value_heads": 2, "swa_q_lora_rank": 16, "swa_kv_lora_rank": 16, "swa_head_dim": 16,
        "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 16,
    },
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64, "mamba_d_head": 16},
    "gemma3n_text": {**GEMMA, "laurel_rank": 8},
    "gemma4_text": {**GEMMA, "global_head_dim": 16},
    "gemma4_unified_text": {"global_head_dim": 16},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 16},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {
        **MAMBA, "shared_intermediate_size": 16, "layer_types": ["linear_attention", "full_attention"],
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8},
    "kimi_linear": {"linear_head_dim": 8, "linear_num_heads": 2, "num_key_value_heads": 2},
    "laguna": {"layer_types": ["full_attention", "sliding_attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"num_dense_layers": 1, "layer_types": ["conv", "full_attention"]},
    "llama4_text": {"intermediate_size_mlp": 48, "attention_chunk_size": 16},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "mellum": {"layer_types": ["full_attention", "sliding_attention"]},
    "minimax": {"block_size": 8},
    "nemotron_h": {"mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8, "chunk_size": 8, "n_groups": 1},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 16},  # as the model of 350 million parameters, projected at both ends
    "qwen4_exp_text": {
        **DELTA, "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 16,
        "indexer_compress_ratio": 4, "ngram_vocab_size_base": 64, "split_ngram_parts": 2,
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "xlstm": {"hidden_size": 128, "num_heads": 2},  # of narrower ones transformers mistakes the width of the states
    "zamba": {**ZAMBA, "attention_head_dim": 32},
    "zamba2": {**ZAMBA, "n_mamba_heads": 4, "chunk_size": 8, "adapter_rank": 8},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 8, "layer_types": ["hybrid", "hybrid_sliding"]},
    **dict.fromkeys(
        ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "longcat_flash",
         "minicpm3", "youtu"), LATENT,
    ),
    **dict.fromkeys(("qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"), DELTA),
}  # fmt: skip
TRIED = """
afmoe apertus arcee aria_text axk1 axk2 bailing_hybrid bamba beam biogpt bitnet bloom codegen cohere cohere2
cohere2_moe cohere_compass_text cpmant ctrl cwm dbrx deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 diffllama doge
dots1 dots3_note_text ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon falcon_h1 falcon_mamba flex_olmo flint gemma
gemma2 gemma3_text gemma3n_text gemma4_text gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa gpt-sw3
gpt2 gpt_bigcode gpt_neo gpt_neox gpt_neox_japanese gpt_oss gptj granite granite_swa granitemoe granitemoe_swa
granitemoehybrid granitemoeshared helium hrm_text hunyuan_v1_dense hunyuan_v1_moe hy_v3 hy_v4 hyperclovax
inkling2_text inkling_text internlm3 iquestcoder jais2 jamba jetmoe kimi_linear kolibri1 laguna lfm2 lfm2_moe lfm3
llama llama4_text longcat_flash mamba mamba2 mellum mimo_v2_flash minicpm3 minimax minimax_m2 minimax_m3_vl_text
ministral ministral3 mistral mixtral modernbert-decoder mpt nanochat nemotron nemotron_h olmo olmo2 olmo3 olmo_hybrid
olmoe openai-gpt opt persimmon phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe
qwen3_next qwen4_exp_text recurrent_gemma rwkv seed_oss smollm3 solar_open stablelm starcoder2 vaultgemma xglm xlstm
youtu zamba zamba2 zaya
"""
FAMILIES = tuple(TRIED.split())
LEFT_OUT = {
    "Encoders, in which a token sees those after it":
        "bert big_bird camembert data2vec-text electra ernie megatron-bert reformer rembert roberta "
        "roberta-prelayernorm roc_bert roformer xlm xlm-roberta xlm-roberta-xl xlnet xmod",
    "The decoder's half of a model that also has an encoder":
        "bart bert-generation bigbird_pegasus blenderbot blenderbot-small marian mbart mvp pegasus plbart prophetnet",
    "Models of images, sound or speech; where a family has a part for text alone, that part is in the table":
        "dots3_note emu3 fuyu gemma3 gemma3n gemma4 gemma4_unified git got_ocr2 llama4 mllama moshi "
        "moss_transcribe_diarize musicgen musicgen_melody phi4_multimodal qwen3_5 qwen3_5_moe qwen4_exp trocr whisper",
    "Assistants, which read the states of a larger model beside them":
        "gemma4_assistant gemma4_unified_assistant",
    "Not tried: a model of bytes, put together from four models with configurations of their own":
        "blt",
}  # fmt: skip
PROMPTS = ([5, 9, 11, 40], list(range(7, 27)), [30, 31])
END = 1
ABOVE = """\
# Families of models

A model's family is the `model_type` in its `config.json`. Each family below was made small, with random weights and
layers of each of its kinds, saved as a checkpoint, and opened with the defaults (`model.attention=auto`). **works**
means that all of this was so:

* it loads, and one step of a fit gives finite weights that differ from those before;
* a row has the same embedding and loss alone and in a batch with longer rows, and logits are made where they are used,
  never of all tokens at once, also by families that cap or scale them;
* answers in a batch are those of one prompt at a time, at temperature 0 and 0.7, and at 0 they are transformers' own.

So `model.path=` may name any checkpoint of these families. **works, one prompt at a time**: the family reads padding.
A cheap check notices that before questions are answered, a warning says so, and it costs time alone. **refused**: a
run ends with the sentence shown and exit code 2.

What this does **not** say: anything about quality (the weights are random), tokenisers and chat templates
([prompts.md](prompts.md)), precisions other than float32, quantised checkpoints, kernels for GPUs (`flash_attention_2`,
Mamba's own), several processes, or models that bring their own code (`model.trust_remote_code=true`). *Indexed
attention* was tried on rows shorter than what the index picks (`index_topk`, 2,048 by default). Kinds of layers are
named as transformers names them. Nothing but these families was tried: a newer one may work as well.

`make model-table` makes this page anew; `make test-nightly` tries each family and compares it with its line here.

"""


def config_of(family: str, **changes: Any) -> PreTrainedConfig:
    """A small configuration of a family, with a layer of each kind that its own default has."""
    usual = AutoConfig.for_model(family)
    own = {field.name for field in dataclasses.fields(usual)}
    settings = {name: value for name, value in SIZES.items() if name in own | set(usual.attribute_map)}
    settings |= FURTHER.get(family, {}) | changes
    kinds: dict[str, list[str]] = {
        name: list(dict.fromkeys(getattr(usual, name)))
        for name in ("layer_types", "mlp_layer_types")
        if name in own and name not in settings and getattr(usual, name)
    }
    layers = max(settings.get("num_hidden_layers", 2), *map(len, kinds.values()), 2)
    several = {name: (kind * layers)[:layers] for name, kind in kinds.items()}
    return AutoConfig.for_model(family, **settings | several | {"num_hidden_layers": layers})


def save(family: str, folder: Path, **changes: Any) -> None:
    """A checkpoint of a family, as one finds it on the hub."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config_of(family, **changes)).save_pretrained(folder)


def tiny(family: str, **changes: Any) -> PreTrainedModel:
    """A model of a family, opened with the defaults from a saved checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        save(family, Path(folder), **changes)
        return Pretrained(folder).load().eval()


def rows() -> Tokens:
    """A few rows of many lengths, of random tokens."""
    lengths = [9, 40, 23, 70, 12, 33]
    ids = np.random.default_rng(0).integers(2, SIZES["vocab_size"], sum(lengths), dtype=np.int32).tolist()
    starts, stops = (4, 20, 22, 30, 2, 10), np.cumsum(lengths)
    rows = zip(lengths, starts, stops, strict=True)
    return tokens_of([Row(ids[stop - length : stop], ((start, length),)) for length, start, stop in rows])


def prompt() -> Prompt:
    """What a learner knows of text, where rows are tokens already: the token that ends a response."""
    words = Tokenizer(WordLevel({"<unk>": 0, "<end>": END}, unk_token="<unk>"))
    return Prompt(PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>"), PromptOptions())


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a family: its line of the page."""

    family: str
    attention: str
    result: str
    remark: str

    def line(self) -> str:
        """Markdown."""
        return f"| `{self.family}` | {self.attention} | {self.result} | {self.remark} |"


def tried(family: str, folder: Path) -> Outcome:
    """Put a family through everything.

    Args:
        family: transformers' name, the `model_type` of a checkpoint.
        folder: an empty one.

    Raises:
        AssertionError: something came out wrong, and nobody was told.
    """
    save(family, folder / "checkpoint")
    learner = Learner(
        foundation=Pretrained(str(folder / "checkpoint")), prompt=prompt(), encoded=rows(),
        tuning=Tuning(learning_rate=1e-2, steps=1, batch_size=3, warmup_ratio=0),
        trainer=functools.partial(lightning.Trainer, accelerator="cpu"),
    )  # fmt: skip
    model = learner.foundation.load().eval()
    attention, remark = model.config._attn_implementation, _remark(family, model)
    try:
        _check_fit(model, learner)
        _check_embedding(model, learner, folder)
    except InputError as refusal:
        return Outcome(family, attention, "refused", str(refusal))
    _check_answers(model)
    alone = reads_padding_before(model, PROMPTS[0])
    batch = collate(learner.encoded, [0], END)
    assert BodyAndHead(model).head(batch) is not None, "the logits of all tokens are held in memory"
    return Outcome(family, attention, "works, one prompt at a time" if alone else "works", remark)


def _check_fit(model: PreTrainedModel, learner: Learner) -> None:
    fit = learner.fit(np.arange(len(learner.encoded)), (0,))
    assert np.isfinite(fit.curve[0]["loss"])
    before, after = dict(model.named_parameters()), dict(fit.model.named_parameters())
    assert all(weight.isfinite().all() for weight in after.values()), "the weights are not finite"
    changed = [name for name in after if not torch.equal(before[name], after[name])]
    # What an index picks has no gradient, and an expert that no token reaches has none; nearly everything else has.
    expected = [name for name in after if "index" not in name]
    assert len(changed) > 0.75 * len(expected), f"only {len(changed)} of {len(expected)} weights were trained"


def _check_embedding(model: PreTrainedModel, learner: Learner, folder: Path) -> None:
    (alone, loss_alone), (together, loss) = (_probed(model, learner, tokens, folder) for tokens in (1, 10**5))
    assert np.ptp(alone, axis=0).min() > 0, "all rows have one embedding"
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5 * float(alone.std()))
    np.testing.assert_allclose(loss, loss_alone, rtol=1e-4)


def _probed(model: PreTrainedModel, learner: Learner, batch_tokens: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Embedding [rows, dim] and loss [rows] of all rows, in batches of so many tokens."""
    learner = dataclasses.replace(learner, embedding=Embedding(batch_tokens=batch_tokens))
    every, probed = np.arange(len(learner.encoded)), folder / str(batch_tokens)
    embedding, scores = learner.probe(model, every, probed, statistics=["response_loss"])
    assert embedding is not None
    return np.array(embedding), np.array(scores["response_loss"])


def _check_answers(model: PreTrainedModel) -> None:
    seeds = [(i,) for i in range(len(PROMPTS))]
    for temperature in (0.0, 0.7):
        alone, together = (
            generate(model, PROMPTS, seeds, Generation(12, temperature, batch_size=size), [END]) for size in (1, 3)
        )
        assert together == alone, f"answers at temperature {temperature} depend on the batch"
        assert len({tuple(answer) for answer in alone}) == len(PROMPTS), "different prompts have one answer"
        if temperature == 0:
            assert alone == [_by_transformers(model, prompt) for prompt in PROMPTS], "transformers answers otherwise"


def _by_transformers(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    with torch.no_grad():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=END,
            pad_token_id=END,
        )  # fmt: skip
    return list(itertools.takewhile(lambda token: token != END, out[0, len(prompt) :].tolist()))


def _remark(family: str, model: PreTrainedModel) -> str:
    """Which kinds of layers were tried."""
    config = model.config
    kinds = [
        kind for name in ("layer_types", "mlp_layer_types") for kind in dict.fromkeys(getattr(config, name, None) or ())
    ]
    parts = (
        "" if config.model_type == family else f"a checkpoint of `{config.model_type}`",
        "" if kinds in ([], ["full_attention"]) else "layers: " + ", ".join(kind.replace("_", " ") for kind in kinds),
    )
    return "; ".join(part for part in parts if part)


def page(lines: Mapping[str, str]) -> str:
    """The page with a line for each family."""
    left_out = "".join(
        f"* {reason}: {', '.join(f'`{name}`' for name in names.split())}.\n" for reason, names in LEFT_OUT.items()
    )
    version = f"Made with transformers {transformers.__version__} and torch {torch.__version__.split('+')[0]}.\n\n"
    head = "| family | attention | result | remark |\n|---|---|---|---|\n"
    return (
        f"{ABOVE}{version}{head}" + "".join(f"{lines[family]}\n" for family in FAMILIES)
        + f"\n## Left out\n\nWhat transformers also counts among its causal language models:\n\n{left_out}"
    )  # fmt: skip


def main(families: list[str]) -> None:
    """Try families and print their lines; of all of them, write the page."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    lines, wrong = {}, []
    for family in families or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                lines[family] = tried(family, Path(folder)).line()
                print(lines[family], flush=True)
            except Exception as error:
                wrong.append(family)
                print(f"{family}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    if wrong:
        sys.exit(f"{len(wrong)} families came out wrong: {', '.join(wrong)}; {PAGE.name} is as it was")
    if not families:
        PAGE.write_text(page(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
