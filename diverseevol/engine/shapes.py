"""The shape of a model, on which its costs depend: of one that is loaded, or of a checkpoint's configuration alone."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from diverseevol.engine.arithmetic import Shape
from diverseevol.engine.pretrained import Pretrained
from diverseevol.options import LoRA, Tuning

EXPERTS = "experts."  # in the names of weights of which a token visits some
VISITED = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts")
NUMBER = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


def shape_without_weights(foundation: Pretrained, tuning: Tuning) -> Shape:
    """The shape of a model that `tuning` trains, from the checkpoint's configuration: no weights are read.

    Raises:
        InputError: the configuration cannot be read, or the model cannot be adapted.
    """
    config = foundation.configuration()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=foundation.trust_remote_code)
        if isinstance(tuning, LoRA):
            from diverseevol.engine.tuning.lora import Adapters  # peft is optional

            model = Adapters(foundation, tuning).adapted(model.requires_grad_(False))
    return shape_of(model)


def shape_of(model: PreTrainedModel) -> Shape:
    """The shape of a model, with its adapters where these alone take gradients."""
    config = model.config.get_text_config()
    named = dict(model.named_parameters())  # shared weights once
    trained = {name for name, weight in named.items() if weight.requires_grad}
    is_adapter = {name: name in trained and len(trained) < len(named) and "lora_" in name for name in named}
    head = model.get_output_embeddings()
    layers = {
        name: layer for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear | Conv1D) and "lora_" not in name and layer is not head
    }  # fmt: skip
    experts = {name: weight.numel() for name, weight in named.items() if EXPERTS in name and weight.dim() > 1}
    experts = {name: size for name, size in experts.items() if not is_adapter[name]}
    linear = sum(layer.weight.numel() for name, layer in layers.items() if EXPERTS not in name)
    share = _first(config, VISITED, 1) / _first(config, NUMBER, 1) if experts else 0.0
    heads = _first(config, ("num_attention_heads", "n_head"), 1)
    hidden = int(config.hidden_size if head is None else head.weight.shape[1])
    width = getattr(config, "head_dim", None) or hidden // heads
    visited = _first(config, VISITED, 1) * getattr(config, "moe_intermediate_size", 0) if experts else 0
    widest = max((max(layer.weight.shape) for layer in layers.values()), default=hidden)
    return Shape(
        weights=sum(weight.numel() for name, weight in named.items() if not is_adapter[name]),
        products=linear + round(share * sum(experts.values())),
        linear=linear + sum(experts.values()) + (0 if head is None else head.weight.numel()),
        vocabulary=int(config.vocab_size),
        hidden=hidden,
        layers=int(config.num_hidden_layers),
        attention=heads * width,
        key_value=(_first(config, ("num_key_value_heads",), heads)) * width,
        intermediate=visited or _first(config, ("intermediate_size", "n_inner", "ffn_dim"), widest),
        adapters=sum(weight.numel() for name, weight in named.items() if is_adapter[name]),
    )


def _first(config: Any, names: tuple[str, ...], default: int) -> int:
    """The first of these settings that a configuration has."""
    return int(next((value for name in names if isinstance(value := getattr(config, name, None), int)), default))
