"""A device without room names the option that asked for too much; here the device is a trainer that says it is full."""

import dataclasses
import functools

import lightning
import numpy as np
import pytest
import torch

from diverseevol.errors import InputError
from diverseevol.options import Generation


class Full(lightning.Trainer):
    """On a device without room."""

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
