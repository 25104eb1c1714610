"""`model=lab`: the foundation model that ships in `foundation/` beside this file; its card is the README there."""

from pathlib import Path

from diverseevol.foundation import Pretrained

SHIPPED = Path(__file__).parent / "foundation"


def foundation_model(path: str | None = None) -> Pretrained:
    """The lab's foundation model, or another one made by `experiments/lab/pretrain.py`.

    Its weights are kept in 16 bits and computed with in 32.

    Args:
        path: a folder of that script; None: the model that ships with the package.
    """
    return Pretrained(path or str(SHIPPED))
