"""Answering questions, greedily. Ours: `generate`. Plain: `model.generate` over batches that are padded on the left."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from transformers import GenerationConfig

from diverseevol.engine.answering.generation import generate, own_ends
from diverseevol.engine.trainers import cast_once, start
from diverseevol.options import Generation
from diverseevol.parallel.processes import Processes
from perf.real_model.subject import OURS, PLAIN, PRECISIONS, Candidate, Subject, in_turns, named, plainly
from perf.turns import Report

# prompts, new tokens where all answers are equally long, at most new tokens where they are not, turns
SIZES = {"smoke": (3, 2, 3, 1), "small": (10, 20, 96, 2), "full": (40, 64, 256, 3)}
HALF = "plain, weights in bfloat16"
GOALS = {"even": 1.0, "uneven": 1.5}

Ids = list[list[int]]


def candidates(subject: Subject, prompts: Ids, new: int, ends: list[int]) -> dict[str, Candidate]:
    """Each way to answer some prompts with at most so many new tokens."""
    ways: dict[str, Candidate] = {}
    for precision in PRECISIONS:
        ways[named(OURS, precision)] = functools.partial(_ours, subject, prompts, new, ends, precision)
        ways[named(PLAIN, precision)] = functools.partial(_plain, subject, prompts, new, ends, precision, "float32")
    ways[HALF] = functools.partial(_plain, subject, prompts, new, ends, "float32", "bfloat16")
    return ways


def even(subject: Subject, n: int) -> tuple[Ids, list[int]]:
    """Prompts of nearly the same length, and an end that no answer has: all answers are equally long."""
    prompts = _prompts(subject, 8 * n)
    lengths = np.array([len(prompt) for prompt in prompts])
    near = np.argsort(np.abs(lengths - np.median(lengths)), kind="stable")[:n]
    return [prompts[i] for i in np.sort(near)], [subject.loaded().config.get_text_config().vocab_size - 1]


def uneven(subject: Subject, n: int) -> tuple[Ids, list[int]]:
    """Prompts as they come, and the model's own ends."""
    return _prompts(subject, n), sorted({*subject.prompt.stop_tokens, *own_ends(subject.loaded())})


def run(subject: Subject, size: str, report: Report) -> None:
    """New tokens a second, and how many answers are the plain way's in the same precision."""
    n, few, many, turns = SIZES[size]
    for kind, (prompts, ends), new in (("even", even(subject, n), few), ("uneven", uneven(subject, n), many)):
        timed = in_turns(candidates(subject, prompts, new, ends), candidates(subject, prompts[:2], 2, ends), turns)
        asked = [len(prompt) for prompt in prompts]
        lengths = [len(answer) for answer in timed[named(PLAIN, "float32")].result]
        report.table(
            f"answers of {kind} lengths: {len(prompts)} prompts of {min(asked)} to {max(asked)} tokens, "
            f"{min(lengths)} to {max(lengths)} new tokens, {np.mean(lengths):.0f} on the average",
            [
                {
                    "": name,
                    "seconds": its.typical,
                    "new tokens a core-second": sum(map(len, its.result)) / its.typical,
                    "its time / ours": its.ratio(timed[named(OURS, _precision(name))]),
                    "answers as plain": _same(its.result, timed[named(PLAIN, _precision(name))].result),
                }
                for name, its in timed.items()
            ],
        )
        for precision in PRECISIONS:
            ratio = timed[named(PLAIN, precision)].ratio(timed[named(OURS, precision)])
            report.goal(f"answers of {kind} lengths, {precision}: the plain way's time / ours", ratio, GOALS[kind])


def _precision(name: str) -> str:
    return "bf16" if name == HALF else name.split(", ")[1]


def _same(answers: Ids, expected: Ids) -> str:
    return f"{sum(a == b for a, b in zip(answers, expected, strict=True))} of {len(expected)}"


def _prompts(subject: Subject, n: int) -> Ids:
    """The prompts of a sample of the rows, without their responses."""
    encoded = subject.encoded
    return [encoded.row(row)[: -encoded.response_tokens[row]].tolist() for row in subject.rows(n).tolist()]


def _ours(subject: Subject, prompts: Ids, new: int, ends: list[int], precision: str) -> Callable[[], Ids]:
    model = subject.loaded()
    options = Generation(max_new_tokens=new, temperature=0)
    trainer = subject.learner(precision).trainer

    def work() -> Ids:
        with cast_once(start(trainer, Processes()), model):  # as `Learner.answer` does
            return generate(model, prompts, [()] * len(prompts), options, ends)

    return work


def _plain(
    subject: Subject, prompts: Ids, new: int, ends: list[int], precision: str, weights: str
) -> Callable[[], Ids]:
    """Sorted by length, as many prompts together as ours."""
    model, together = subject.loaded(weights), Generation().batch_size
    configuration = GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=ends, pad_token_id=ends[0])

    def work() -> Ids:
        answers: Ids = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        with plainly(precision):  # `generate` takes no gradients by itself
            for begin in range(0, len(order), together):
                some = order[begin : begin + together]
                longest = max(len(prompts[i]) for i in some)
                gaps = [longest - len(prompts[i]) for i in some]
                ids = torch.tensor([[ends[0]] * gap + prompts[i] for gap, i in zip(gaps, some, strict=True)])
                mask = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in gaps])
                out = model.generate(input_ids=ids, attention_mask=mask, generation_config=configuration)
                for i, tokens in zip(some, out[:, longest:].tolist(), strict=True):
                    stop = min((tokens.index(end) for end in ends if end in tokens), default=len(tokens))
                    answers[i] = tokens[:stop]
        return answers

    return work
