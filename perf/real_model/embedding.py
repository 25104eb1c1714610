"""Embedding rows. Ours: `Learner.probe`, with its trainer, loader and files. Plain: the body, without the head."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from diverseevol.engine.tuning.batches import collate, length_sorted_batches
from diverseevol.options import Embedding
from perf.real_model.subject import OURS, PLAIN, PRECISIONS, Candidate, Subject, in_turns, named, plainly
from perf.turns import Report

SIZES = {"smoke": (4, 1), "small": (16, 2), "full": (100, 5)}  # rows, turns
HALF = "plain, weights in bfloat16"
GOAL = 1.2

Vectors = Float[np.ndarray, "rows dim"]


def candidates(subject: Subject, rows: Int[np.ndarray, " rows"]) -> dict[str, Candidate]:
    """Each way to embed some rows, which are ascending."""
    ways: dict[str, Candidate] = {}
    for precision in PRECISIONS:
        ways[named(OURS, precision)] = functools.partial(_ours, subject, rows, precision)
        ways[named(PLAIN, precision)] = functools.partial(_plain, subject, rows, precision, "float32")
    ways[HALF] = functools.partial(_plain, subject, rows, "float32", "bfloat16")
    return ways


def run(subject: Subject, size: str, report: Report) -> None:
    """Tokens a second, and how far the vectors are from the plain way's in float32."""
    n, turns = SIZES[size]
    rows = subject.rows(n)
    timed = in_turns(candidates(subject, rows), candidates(subject, rows[:2]), turns)
    exact = timed[named(PLAIN, "float32")].result
    spread = np.linalg.norm(exact - exact.mean(axis=0), axis=1).mean()
    lengths = subject.encoded.lengths[rows]
    report.table(
        f"embedding {len(rows)} rows of {lengths.mean():.0f} tokens on the average",
        [
            {
                "": name,
                "seconds": its.typical,
                "tokens a core-second": lengths.sum() / its.typical,
                "its time / ours": its.ratio(timed[named(OURS, "bf16" if name == HALF else name.split(", ")[1])]),
                "mean error / spread": float(np.linalg.norm(its.result - exact, axis=1).mean() / spread),
            }
            for name, its in timed.items()
        ],
    )
    for precision in PRECISIONS:
        ratio = timed[named(PLAIN, precision)].ratio(timed[named(OURS, precision)])
        report.goal(f"embedding, {precision}: the plain way's time / ours", ratio, GOAL)


def _ours(subject: Subject, rows: Int[np.ndarray, " rows"], precision: str) -> Callable[[], Vectors]:
    learner, model = subject.learner(precision), subject.loaded()

    def work() -> Vectors:
        with tempfile.TemporaryDirectory() as folder:
            vectors, _ = learner.probe(model, rows, Path(folder))
            return np.array(vectors)

    return work


def _plain(subject: Subject, rows: Int[np.ndarray, " rows"], precision: str, weights: str) -> Callable[[], Vectors]:
    """The same batches: sorted by length, padded per batch, as many tokens each."""
    model, end = subject.loaded(weights), subject.prompt.end
    tokens = Embedding().tokens_on("cpu")

    def work() -> Vectors:
        vectors = np.empty((len(rows), model.config.hidden_size), dtype=np.float32)
        with torch.no_grad(), plainly(precision):  # around the loop, so that weights are cast once
            for some in length_sorted_batches(subject.encoded.lengths, rows, tokens):
                batch = collate(subject.encoded, some.tolist(), end)
                hidden = model.base_model(
                    input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
                ).last_hidden_state
                mask = batch["attention_mask"][:, :, None]
                means = (hidden.float() * mask).sum(dim=1) / mask.sum(dim=1)
                vectors[np.searchsorted(rows, some)] = means.numpy()
        return vectors

    return work
