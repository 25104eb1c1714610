"""Embedding rows beside the authors' way: one row at a time, LM head, loss and all hidden states computed.

Ours is the project's complete path: `Learner.probe` with its Lightning trainer, its loader and its files.
"""

import functools
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM

from diverseevol.engine.learner import Learner
from diverseevol.geometry.farthest_first import farthest_first
from perf.model import CONFIG, body_flops, learner, llama, rows
from perf.turns import Report, in_turns

SIZES = {"smoke": (6, 1), "small": (150, 3), "full": (600, 5)}  # sequences, turns
OURS, AUTHORS = "ours, float32", "one row at a time, head and loss"


def run(size: str, report: Report) -> None:
    """Time, memory, share of the machine's GEMM rate, and whether bfloat16 picks the same rows."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    n, turns = SIZES[size]
    ids = rows(n)
    lengths = [len(row) for row in ids]
    model, half = llama(), llama(torch.bfloat16)
    tokens = learner(ids).embedding.tokens_on(model.device.type)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder)
        candidates: dict[str, Callable[[], Any]] = {
            OURS: functools.partial(probe, learner(ids), model, file),
            "ours, batches of 2,048 tokens": functools.partial(probe, learner(ids, batch_tokens=2048), model, file),
            "ours, trainer.precision=bf16-mixed": functools.partial(probe, learner(ids, "bf16-mixed"), model, file),
            "ours, model in bfloat16": functools.partial(probe, learner(ids), half, file),
            AUTHORS: functools.partial(one_by_one, model, ids),
            "one row at a time, body alone": functools.partial(one_by_one, model, ids, with_head=False),
        }
        gemm: dict[str, Callable[[], Any]] = {
            "GEMM at the layers' shapes": functools.partial(layer_products, sum(lengths), tokens),
            "GEMM 2,048³": square_products,
        }
        taken = in_turns(candidates | gemm, turns, slow=60)
    rate = {name: flops(name, lengths) / taken[name].typical / 1e9 for name in taken}
    layers = rate["GEMM at the layers' shapes"]
    picks = {name: kcenter(taken[name].result) for name in candidates}
    exact = taken[AUTHORS].result
    report.table(
        f"embedding {n:,} rows, {np.mean(lengths):.0f} tokens on the average, at most {max(lengths)}; "
        f"batches of {tokens:,} tokens",
        [
            {
                "": name,
                "seconds": its.typical,
                "its time / ours": its.ratio(taken[OURS]),
                "GFLOP/s of the body": rate[name],
                "of the GEMM rate": rate[name] / layers,
                "extra MB": its.extra_mb,
                "largest error": float(np.abs(its.result - exact).max()) if name in picks else "",
                "picks as float32": len(set(picks[name]) & set(picks[OURS])) if name in picks else "",
            }
            for name, its in taken.items()
        ],
    )
    report.goal("the authors' time / ours, float32", taken[AUTHORS].ratio(taken[OURS]), 5)
    share = np.median(np.array(taken["GEMM at the layers' shapes"].seconds) / np.array(taken[OURS].seconds))
    work = flops(OURS, lengths) / flops("GEMM at the layers' shapes", lengths)
    report.goal("share of the GEMM rate at the layers' shapes, float32", float(share) * work, 0.85)


def probe(learner: Learner, model: LlamaForCausalLM, folder: Path) -> np.ndarray:
    embedding, _ = learner.probe(model, np.arange(len(learner.encoded)), folder)
    return np.array(embedding)


def one_by_one(model: LlamaForCausalLM, ids: list[list[int]], with_head: bool = True) -> np.ndarray:
    """The authors' way: no padding, everything computed; or that without head and loss."""
    vectors = []
    with torch.no_grad():
        for row in ids:
            inputs = torch.tensor([row])
            if with_head:
                hidden = model(input_ids=inputs, labels=inputs, output_hidden_states=True).hidden_states[-1]
            else:
                hidden = model.base_model(input_ids=inputs, use_cache=False).last_hidden_state
            vectors.append(hidden.mean(dim=1)[0].numpy())
    return np.stack(vectors)


def kcenter(embedding: np.ndarray, n: int = 100) -> list[int]:
    """The picks of K-Center, a hundred rows taken."""
    n = min(n, len(embedding) // 3)
    picks: list[int] = farthest_first(embedding.astype(np.float32), np.arange(len(embedding)) < n, n)[0].tolist()
    return picks


def layer_products(tokens: int, at_once: int) -> float:
    """The matrix products of the decoder layers and nothing else, as many as these tokens need."""
    h, i = CONFIG.hidden_size, CONFIG.intermediate_size
    x, wide = torch.randn(at_once, h), torch.randn(at_once, i)
    weights = [torch.randn(h, h)] * 4 + [torch.randn(i, h)] * 2
    down = torch.randn(h, i)
    for start in range(0, tokens, at_once):
        part = slice(0, min(at_once, tokens - start))
        for _ in range(CONFIG.num_hidden_layers):
            for weight in weights:
                torch.nn.functional.linear(x[part], weight)
            torch.nn.functional.linear(wide[part], down)
    return 0.0


def square_products() -> float:
    a = torch.randn(2048, 2048)
    for _ in range(4):
        a @ a
    return 0.0


def flops(name: str, lengths: list[int]) -> float:
    h, i = CONFIG.hidden_size, CONFIG.intermediate_size
    if name == "GEMM 2,048³":
        return float(4 * 2 * 2048**3)
    if name == "GEMM at the layers' shapes":
        return float(2 * CONFIG.num_hidden_layers * (4 * h * h + 3 * h * i) * sum(lengths))
    return body_flops(lengths)
