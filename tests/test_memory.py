"""Peak memory of a phase; and a device without room names the option that asked for too much."""

import dataclasses
import functools
import sys

import lightning
import numpy as np
import pytest
import torch

from diverseevol.engine.memory import peak_memory, reset_peak_memory
from diverseevol.errors import InputError
from diverseevol.options import Generation


@pytest.mark.skipif(sys.platform != "linux", reason="the peak begins anew on Linux alone")
def test_the_peak_of_a_phase_is_its_own():
    reset_peak_memory()
    before = peak_memory()["processor"]
    held = np.ones(40_000_000)  # 320 MB
    assert 300e6 < peak_memory()["processor"] - before < 400e6
    del held
    reset_peak_memory()
    assert abs(peak_memory()["processor"] - before) < 50e6


class Full(lightning.Trainer):
    """A trainer that says that its device is full."""

    def fit(self, *given, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    predict = fit


def test_a_full_device_is_said_in_the_users_words(learner, tmp_path, monkeypatch):
    full, model = (
        dataclasses.replace(learner, trainer=functools.partial(Full, accelerator="cpu")),
        learner.foundation.load().eval(),
    )
    with pytest.raises(InputError, match=r"^tuning.micro_batch_tokens is 4,096, which needs more memory .* lower it"):
        full.fit(np.arange(4), (0, 0))
    with pytest.raises(InputError, match=r"^embedding.batch_tokens is 1,024, which needs more memory .* lower it"):
        full.probe(model, np.arange(4), tmp_path)
    monkeypatch.setattr(model, "generate", functools.partial(Full.fit, None))
    with pytest.raises(InputError, match=r"^generation.batch_size is 40, which needs more memory .* lower it"):
        learner.answer(model, [("Why?", "")], [(0,)], Generation(max_new_tokens=2))
