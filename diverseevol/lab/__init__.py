"""The lab: a small closed world on which the method can be seen and measured in minutes.

    load(...)              `data=lab`: instruction rows with the faults of real ones; `labels(dataset)` names them
    benchmark(...)          `benchmark=lab`; likewise `natural`, `development` and `both`
    foundation_model(...)   `model=lab`: a million parameters that have read plain text of the world

A world of your own is a tuple of `diverseevol.lab.skill.Skill`, each of a few lines; that module says how.
"""

from typing import TYPE_CHECKING, Any

from diverseevol.lab.dataset import Labels, labels, labels_of, load
from diverseevol.lab.questions import benchmark, both, development, natural

__all__ = ["Labels", "benchmark", "both", "development", "foundation_model", "labels", "labels_of", "load", "natural"]

if TYPE_CHECKING:
    from diverseevol.lab.model import foundation_model


def __getattr__(name: str) -> Any:
    """Import the model's module only where the model is asked for, which takes seconds."""
    if name == "foundation_model":
        from diverseevol.lab import model

        return model.foundation_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
