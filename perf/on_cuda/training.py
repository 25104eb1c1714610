"""What it costs that training gives the same bits each time (`trainer.deterministic`), with a billion weights.

python -m perf --device cuda --only training
"""

import functools
import os

import numpy as np
import torch

from diverseevol.engine.tuning.batches import collate, length_sorted_batches
from diverseevol.engine.tuning.sft import InstructionTuner
from diverseevol.options import Tuning
from perf.model import encoded, rows
from perf.on_cuda.models import ONE, llama
from perf.on_cuda.turns import on_device
from perf.turns import Report

SIZES = {"small": (64, 3), "full": (256, 5)}  # rows, turns


def run(size: str, report: Report) -> None:
    """Tokens a second of forward and backward passes, with and without."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as Lightning sets it
    n, turns = SIZES[size]
    ids = rows(n)
    lengths = np.array([len(row) for row in ids])
    tuner = InstructionTuner(llama(ONE).train(), Tuning(), 1)
    micro = length_sorted_batches(lengths, np.arange(n), Tuning().micro_batch_tokens)
    batches = [{k: v.cuda() for k, v in collate(encoded(ids), batch.tolist(), 0).items()} for batch in micro]
    results, held = on_device(
        {name: functools.partial(passes, tuner, batches, name == SAME) for name in (SAME, FREE)}, turns
    )
    report.table(
        f"{n} rows of {lengths.mean():.0f} tokens on the average, micro-batches of {Tuning().micro_batch_tokens:,}",
        [
            {
                "": name,
                "seconds": its.typical,
                "tokens / s": lengths.sum() / its.typical,
                "its time / deterministic": its.ratio(results[SAME]),
                "device MB": held[name],
                "same gradients": its.result,
            }
            for name, its in results.items()
        ],
    )


SAME, FREE = "deterministic", "not"


def passes(tuner: InstructionTuner, batches: list[dict[str, torch.Tensor]], deterministic: bool) -> bool:
    """Forward and backward, twice; whether both times the gradients are the same."""
    torch.use_deterministic_algorithms(deterministic)
    sums = []
    for _ in range(2):
        tuner.zero_grad(set_to_none=True)
        for batch in batches:
            tuner.summed_loss(batch).backward()
        sums.append([weight.grad.double().sum().item() for weight in tuner.parameters()])  # type: ignore[union-attr]
    torch.use_deterministic_algorithms(False)
    return sums[0] == sums[1]
