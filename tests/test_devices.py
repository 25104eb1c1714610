"""What fits and passes leave on a device. No GPU is needed: what would be moved is counted."""

import lightning
import numpy as np
from lightning.pytorch.strategies import strategy

from diverseevol.engine.learner import Learner


def test_models_stay_where_they_computed_and_moments_are_not_moved(learner: Learner, tmp_path, monkeypatch) -> None:
    models: list[object] = []
    optimizers: list[int] = []
    monkeypatch.setattr(lightning.LightningModule, "cpu", lambda module: models.append(module))
    monkeypatch.setattr(strategy, "_optimizers_to_device", lambda moved, device: optimizers.append(len(moved)))
    model = learner.fit(np.arange(4), (0,)).model
    learner.probe(model, np.arange(4), tmp_path / "probe")
    learner.disagreement([model, model], np.arange(4), tmp_path / "committee", ["committee_kl"])
    assert models == []
    assert optimizers == [1, 0, 0, 0]  # to the device before the fit; nothing at the end of the fit and of two passes
