"""How fast this machine is, measured with the code that an evolution runs: a few steps of each phase."""

import dataclasses
import shutil
import time
from pathlib import Path

import numpy as np

from diverseevol.engine import arithmetic
from diverseevol.engine.arithmetic import Amount
from diverseevol.engine.learner import Learner
from diverseevol.evaluation.exam import Exam
from diverseevol.evolution.plan import Rates, Workload
from diverseevol.storage.files import temporary

ENOUGH = 8.0  # seconds of a phase, after which its measurement is not repeated with more
FIRST_TOKENS = 512  # of the first step that is measured; each further attempt has twice as many
NEW_TOKENS = 16  # of an answer


def calibrate(learner: Learner, workload: Workload, exam: Exam, folder: Path) -> Rates:
    """Measure fits, probes and answers for some ten seconds each, after a model was loaded.

    Args:
        learner: does all three.
        workload: what they are needed for.
        exam: whose questions are answered; without any, or where a server answers, answers have no rate.
        folder: gets what a probe leaves for the time that it takes.
    """
    encoded, shape, tuning = learner.encoded, workload.shape, workload.tuning
    lengths, responses = np.asarray(encoded.lengths), np.asarray(encoded.response_tokens)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(encoded.eligible))
    before = np.cumsum(lengths[rows])
    tokens, steps = FIRST_TOKENS, 2
    while True:
        count = min(tuning.batch_size, int(np.searchsorted(before, tokens)) + 1, len(rows))
        some = rows[:count]
        few = dataclasses.replace(tuning, steps=steps, batch_size=count, warmup_ratio=0.0)
        stamps: list[float] = []

        def note(step: int, values: dict[str, float], stamps: list[float] = stamps) -> None:
            stamps.append(time.monotonic())

        began = time.monotonic()
        trained = dataclasses.replace(learner, tuning=few).fit(some, (0, 0), note, phase="measure fits")
        took = time.monotonic() - began
        stamps = learner.processes.share(stamps)  # the first process counts its steps
        step_seconds = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
        if step_seconds * steps >= ENOUGH or (count == min(tuning.batch_size, len(rows)) and steps >= 16):
            break
        tokens, steps = 2 * tokens, min(16, 2 * steps)
    amount = Amount.of(lengths[some], responses[some])
    fit = arithmetic.fit(shape, amount, tuning.gradient_checkpointing) / max(step_seconds, 1e-9)
    startup = max(0.0, took - steps * step_seconds)

    tokens, model = FIRST_TOKENS, trained.model
    while True:
        asked = np.sort(rows[: min(int(np.searchsorted(before, tokens)) + 1, len(rows))])
        probed = learner.processes.share(temporary(folder))
        began = time.monotonic()
        learner.probe(model, asked, probed, phase="measure probes")
        took = time.monotonic() - began
        learner.processes.barrier()
        if learner.processes.first:
            shutil.rmtree(probed)
        if learner.processes.share(took >= ENOUGH / 2) or len(asked) == len(rows):
            break
        tokens *= 2
    read = arithmetic.forward(shape, Amount.of(lengths[asked])) / took

    questions = [(each.instruction, each.input) for benchmark in exam.benchmarks for each in benchmark.questions]
    questions = questions[: workload.generation.batch_size * learner.processes.world]
    bandwidth = None
    if questions and exam.server is None:
        short = dataclasses.replace(
            workload.generation, max_new_tokens=min(NEW_TOKENS, workload.generation.max_new_tokens)
        )
        sizes = [len(ids) for ids in learner.prompt.ids(*map(list, zip(*questions, strict=True)))]
        began = time.monotonic()
        learner.answer(model, questions, [(i,) for i in range(len(questions))], short)
        took = time.monotonic() - began
        size = sum(sizes) / len(sizes)
        world = learner.processes.world
        answered = world * arithmetic.bytes_of_answers(
            shape, short, workload.numbers, size, -(-len(questions) // world)
        )
        bandwidth = answered / took
    return Rates("calibration", fit, read, bandwidth, startup=startup)
