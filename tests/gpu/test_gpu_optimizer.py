"""Moments and weights in bfloat16 on a device: the kernel that torch makes of a step, and fits with it."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diverseevol.engine.tuning.optimizer import random_bits

pytestmark = pytest.mark.gpu

ROWS = np.arange(12)


def test_random_bits_are_those_of_a_processor(device):
    for start, of in ((0, 5), (2**31 - 50, -1), (2**33 + 7, 2**31 - 1)):
        bits = random_bits(start, 1000, of, device)
        assert torch.equal(bits.cpu(), random_bits(start, 1000, of, torch.device("cpu")))


def test_torch_makes_one_kernel_for_all_steps():
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "one_kernel", "cuda"],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def test_a_fit_with_stochastic_rounding_learns_and_follows_its_seed_to_the_last_bit(on_gpu):
    learner = on_gpu("32-true")
    tuning = dataclasses.replace(learner.tuning, steps=8, moments="bfloat16", rounding="stochastic", warmup_ratio=0)
    foundation = dataclasses.replace(learner.foundation, dtype="bfloat16")
    learner = dataclasses.replace(learner, foundation=foundation, tuning=tuning)
    first, again = (learner.fit(ROWS, (0, 0, 1)) for _ in range(2))
    assert first.curve[-1]["loss"] < first.curve[0]["loss"]
    for one, two in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)
