"""Public names: short, the same in every release, and imported from where they live only when one is asked for.

`diverseevol.samplers.KCenter`, `diverseevol.judges.OpenAI`: configurations, scripts and notebooks write these, and
modules behind them may move. A public module names its contents twice, for the type checker and for `lazily`.
"""

from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any


def lazily(module: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a public module (PEP 562).

    Args:
        module: its name.
        homes: public name -> MODULE:NAME of what it stands for.
    """

    def resolve(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return resolve_name(homes[name])

    return resolve, lambda: sorted(homes)
