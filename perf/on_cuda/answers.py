"""Answers of a model of a billion weights: together beside one prompt at a time, greedy and sampled.

python -m perf --device cuda --only answers
"""

import functools

import torch

from diverseevol.engine.answering.generation import generate
from diverseevol.options import Generation
from perf.answers import ours
from perf.model import END, rows
from perf.on_cuda.models import ONE, llama
from perf.on_cuda.turns import on_device
from perf.turns import Report

SIZES = {"small": (80, 64, 6, 1), "full": (80, 64, 20, 3)}  # prompts, new tokens, prompts one at a time, turns


def run(size: str, report: Report) -> None:
    """New tokens a second; answers that are the same tokens."""
    n, new, few, turns = SIZES[size]
    prompts, model = rows(n, least=20, most=256, seed=1), llama(ONE)
    alone = f"one prompt at a time ({few} of them)"
    results, held = on_device(
        {
            "ours, 80 together": functools.partial(ours, model, prompts, new, 80),
            "ours, 40 together": functools.partial(ours, model, prompts, new, Generation().batch_size),
            "ours, 80 together, temperature 0.7": functools.partial(sampled, model, prompts, new),
            alone: functools.partial(ours, model, prompts[:few], new, 1),
        },
        turns,
    )
    rate = {name: sum(map(len, its.result)) / its.typical for name, its in results.items()}
    report.table(
        f"{n} prompts of 20 to 256 tokens, {new} new tokens, {ONE.num_hidden_layers} layers × {ONE.hidden_size:,}",
        [
            {
                "": name,
                "seconds": its.typical,
                "new tokens / s": rate[name],
                "ms a step": 1000 * its.typical / (new * (few if name == alone else n / int(name.split()[1]))),
                "times one at a time": rate[name] / rate[alone],
                "device MB": held[name],
                "same answers": sum(a == b for a, b in zip(its.result, results[alone].result, strict=False)),
            }
            for name, its in results.items()
        ],
    )
    report.goal("new tokens a second, 80 together / one prompt at a time", rate["ours, 80 together"] / rate[alone], 6)


def sampled(model: torch.nn.Module, prompts: list[list[int]], new: int) -> list[list[int]]:
    options = Generation(max_new_tokens=new, temperature=0.7, batch_size=len(prompts))
    return generate(model, prompts, [(0, i) for i in range(len(prompts))], options, [END])
