"""Embedding with a model of LLaMA-7B's shape beside the authors' way: one row at a time, head, loss, all hidden states.

python -m perf --device cuda --only embedding
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from diverseevol.engine.probing.probe import Probe
from diverseevol.engine.tuning.batches import length_sorted_batches, probe_loader
from perf.model import END, encoded, rows
from perf.on_cuda.models import SEVEN, body_flops, llama
from perf.on_cuda.turns import on_device
from perf.turns import Report

BUDGETS = (2_048, 8_192, 32_768)  # tokens of one forward pass
SIZES = {"small": (1_000, 40, 1), "full": (4_000, 200, 2)}  # rows, rows one at a time, turns


def run(size: str, report: Report) -> None:
    """Tokens a second, share of the GEMM rate, device memory, and the distance from the authors' vectors."""
    n, few, turns = SIZES[size]
    ids, model = rows(n), llama(SEVEN)
    weights = torch.cuda.memory_allocated() / 2**20
    report.note(f"weights: {sum(p.numel() for p in model.parameters()) / 1e9:.2f} G numbers, {weights:,.0f} MB")
    lengths = [len(row) for row in ids]
    alone = ids[:few]
    work: dict[str, tuple[Callable[[], Any], list[int]]] = {}
    for budget in BUDGETS:
        work[f"ours, {budget:,} tokens a batch"] = functools.partial(probe, model, ids, budget), lengths
    statistics = ("reference_margin", "response_entropy")
    work["ours, 8,192 tokens, two statistics"] = functools.partial(probe, model, ids, 8_192, statistics), lengths
    work["one row at a time, body alone"] = functools.partial(one_by_one, model, alone, False), lengths[:few]
    work["the authors': one row, head and loss"] = functools.partial(one_by_one, model, alone), lengths[:few]
    work["GEMM at the layers' shapes, 8,192 tokens"] = functools.partial(layer_products, lengths, 8_192), lengths
    with torch.inference_mode():
        results, held = on_device({name: job for name, (job, _) in work.items()}, turns)
    exact = results["the authors': one row, head and loss"].result
    spread = np.linalg.norm(exact - exact.mean(axis=0), axis=1).mean()
    rate = {name: sum(tokens) / results[name].typical for name, (_, tokens) in work.items()}
    usual, theirs, gemm = (rate[name] for name in [*list(work)[:1], *list(work)[-2:]])
    report.table(
        f"embedding {n:,} rows of {np.mean(lengths):.0f} tokens on the average ({few} one at a time), 7 B, bfloat16",
        [
            {
                "": name,
                "seconds": its.typical,
                "tokens / s": rate[name],
                "TFLOP/s": body_flops(SEVEN, work[name][1]) / its.typical / 1e12,
                "of the GEMM rate": rate[name] / gemm,
                "times the authors'": rate[name] / theirs,
                "device MB": held[name],
                "error / spread": error(its.result, exact, spread),
            }
            for name, its in results.items()
        ],
    )
    report.note("padding: " + ", ".join(f"{padding(lengths, budget):.1%} at {budget:,} tokens" for budget in BUDGETS))
    report.goal("tokens a second, ours / the authors', 7 B bfloat16", usual / theirs, 5)
    best = max(rate[name] for name in list(work)[: len(BUDGETS)])
    report.goal("share of the GEMM rate at the layers' shapes, bfloat16", best / gemm, 0.85)


def probe(model: Any, ids: list[list[int]], budget: int, statistics: tuple[str, ...] = ()) -> np.ndarray:
    """The project's probe over its length-sorted batches, the model where it is."""
    embedding = np.empty((len(ids), SEVEN.hidden_size), dtype=np.float32)
    module = Probe(model, "all", embedding, {name: np.empty(len(ids), dtype=np.float32) for name in statistics})
    all_rows = np.arange(len(ids))
    for batch in probe_loader(encoded(ids), all_rows, all_rows, budget, END):
        module._file({name: value.cuda() for name, value in batch.items()})  # a trainer would move the model twice
    return embedding


def one_by_one(model: Any, ids: list[list[int]], with_head: bool = True) -> np.ndarray:
    vectors = []
    for row in ids:
        inputs = torch.tensor([row], device="cuda")
        if with_head:
            hidden = model(input_ids=inputs, labels=inputs, output_hidden_states=True).hidden_states[-1]
        else:
            hidden = model.base_model(input_ids=inputs, use_cache=False).last_hidden_state
        vectors.append(hidden.float().mean(dim=1)[0].cpu().numpy())
    return np.stack(vectors)


def layer_products(lengths: list[int], at_once: int) -> None:
    """The matrix products of the decoder layers and nothing else, as many as these tokens need."""
    h, i = SEVEN.hidden_size, SEVEN.intermediate_size
    new = functools.partial(torch.randn, device="cuda", dtype=torch.bfloat16)
    x, wide = new(at_once, h), new(at_once, i)
    weights, down = [new(h, h)] * 4 + [new(i, h)] * 2, new(h, i)
    for start in range(0, sum(lengths), at_once):
        part = slice(0, min(at_once, sum(lengths) - start))
        for _ in range(SEVEN.num_hidden_layers):
            for weight in weights:
                torch.nn.functional.linear(x[part], weight)
            torch.nn.functional.linear(wide[part], down)


def error(vectors: np.ndarray | None, exact: np.ndarray, spread: float) -> float | str:
    """The mean distance from the authors' vectors, in mean distances of these from their centre."""
    if vectors is None:
        return ""
    return float(np.linalg.norm(vectors[: len(exact)] - exact, axis=1).mean() / spread)


def padding(lengths: list[int], budget: int) -> float:
    """Tokens of padding for each real one."""
    batches = length_sorted_batches(np.array(lengths), np.arange(len(lengths)), budget)
    return float(sum(len(batch) * max(lengths[i] for i in batch) for batch in batches) / sum(lengths) - 1)
