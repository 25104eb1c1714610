"""Answering questions beside one prompt at a time.

python -m perf --only answers
"""

import functools
import math

import torch
from transformers import LlamaForCausalLM

from diverseevol.engine.answering.generation import generate
from diverseevol.options import Generation
from perf.model import END, llama, rows
from perf.turns import Report, in_turns

SIZES = {"smoke": (4, 2, 1), "small": (80, 64, 3), "full": (80, 64, 5)}  # prompts, new tokens, turns
ONE = "one prompt at a time"


def run(size: str, report: Report) -> None:
    """Time, memory and whether the answers are the same tokens; greedy."""
    n, new, turns = SIZES[size]
    prompts, model = rows(n, least=20, most=256, seed=1), llama()
    usual = Generation().batch_size
    batches = {f"ours, {batch} together": batch for batch in (usual, 80)}
    taken = in_turns(
        {name: functools.partial(ours, model, prompts, new, batch) for name, batch in batches.items()}
        | {ONE: functools.partial(one_by_one, model, prompts, new)},
        turns,
        slow=math.inf,
    )
    together = "ours, 80 together"
    report.table(
        f"{n} prompts of 20 to 256 tokens, {new} new tokens, greedy",
        [
            {
                "": name,
                "seconds": its.typical,
                "its time / ours": its.ratio(taken[together]),
                "new tokens a second": sum(map(len, its.result)) / its.typical,
                "extra MB": its.extra_mb,
                "same answers": sum(a == b for a, b in zip(its.result, taken[ONE].result, strict=True)),
            }
            for name, its in taken.items()
        ],
    )
    report.goal(f"{ONE} / {together}", taken[ONE].ratio(taken[together]), 6)


def ours(model: LlamaForCausalLM, prompts: list[list[int]], new: int, batch: int) -> list[list[int]]:
    options = Generation(max_new_tokens=new, temperature=0, batch_size=batch)
    return generate(model, prompts, [()] * len(prompts), options, [END])


def one_by_one(model: LlamaForCausalLM, prompts: list[list[int]], new: int) -> list[list[int]]:
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False,
            eos_token_id=END, pad_token_id=END,
        )  # fmt: skip
        answer = out[0, len(prompt) :].tolist()
        answers.append(answer[: answer.index(END)] if END in answer else answer)
    return answers
