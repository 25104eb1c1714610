"""Public names: short, the same in every release, and imported from where they live only when one is asked for.

`diverseevol.samplers.KCenter`, `diverseevol.judges.OpenAI`: configurations, scripts and notebooks write these, and
modules behind them may move. A public module imports its contents for the type checker alone, and leaves the rest to
`lazily`.
"""

import ast
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any


def lazily(module: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a public module (PEP 562), from its imports under `if TYPE_CHECKING`.

    Args:
        module: its name.
        file: its source.
    """

    @cache
    def homes() -> Mapping[str, str]:
        """Public name -> MODULE:NAME of what it stands for."""
        blocks = (node for node in ast.parse(Path(file).read_text("utf-8")).body if isinstance(node, ast.If))
        lines = [line for block in blocks for line in block.body if isinstance(line, ast.ImportFrom)]
        return {alias.asname or alias.name: f"{line.module}:{alias.name}" for line in lines for alias in line.names}

    def resolve(name: str) -> Any:
        if name not in homes():
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return resolve_name(homes()[name])

    return resolve, lambda: sorted(homes())
