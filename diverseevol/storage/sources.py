"""Which code a class or function of the user's own is: digests of its files, wherever their folder lies."""

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def sources(owner: Any) -> dict[str, str]:
    """Digests of the file that defines a class or function, and of files in the current folder that it imports.

    Returns:
        Path below the folder that it is imported from -> digest; nothing for what has no file, as in a notebook.
    """
    try:
        file = Path(inspect.getsourcefile(owner) or "").resolve()
        module = sys.modules[owner.__module__]
        levels = owner.__module__.count(".") + hasattr(module, "__path__")
        root, digests, pending = file.parents[levels], dict[str, str](), {file}
        while pending:
            content = (current := pending.pop()).read_bytes()
            digests[current.relative_to(root).as_posix()] = hashlib.sha256(content).hexdigest()[:16]
            if root == Path.cwd().resolve():  # what is installed has a version, and imports half of Python
                pending |= {
                    path
                    for path in _imported(content, current, root)
                    if path.relative_to(root).as_posix() not in digests
                }
    except (AttributeError, OSError, TypeError):
        return {}
    return dict(sorted(digests.items()))


def _imported(content: bytes, file: Path, root: Path) -> Iterator[Path]:
    """The files below a folder that a module's imports run, those of packages above them among them."""
    try:
        code = ast.parse(content)
    except (SyntaxError, ValueError):  # a module that is imported where it can be, and does without otherwise
        return
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            start, names = root, [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = [root, *file.parents][min(node.level, len(file.parents))]
            names = [f"{node.module or ''}.{alias.name}".lstrip(".") for alias in node.names]
        else:
            continue
        for parts in (name.split(".") for name in names):
            if start == root and parts[0] == "diverseevol":  # a checkout; its releases say what they do
                continue
            for depth in range(len(parts) + 1):
                path = start.joinpath(*parts[:depth])
                modules = [path / "__init__.py", *([path.with_suffix(".py")] if depth else [])]
                yield from (each for each in modules if each.is_file() and each.is_relative_to(root))
