"""`model=lab`: the foundation model that ships in `foundation/` beside this file; its card is the README there."""

from pathlib import Path

from diverseevol.engine.pretrained import Pretrained
from diverseevol.errors import InputError
from diverseevol.lab.skill import LAB_WORLD, WORLD

SHIPPED = Path(__file__).parent / "foundation"


def foundation_model(path: str | None = None, world: str = WORLD) -> Pretrained:
    """The lab's foundation model, or another one made by `experiments/lab/pretrain.py`.

    Its weights are kept in 16 bits and computed with in 32.

    Args:
        path: a folder of that script; None: the model that ships with the package.
        world: the rows' world, of which the shipped model knows only the lab's own.
    """
    if path is None and world not in (WORLD, LAB_WORLD):
        raise InputError(
            f"data.world={world}: the model that ships has read of the lab's own world alone; give model.path=FOLDER, "
            f"made by experiments/lab/pretrain.py --world {world}, or model=tiny to try things out"
        )
    return Pretrained(path or str(SHIPPED))
