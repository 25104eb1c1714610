"""The fast tests in another environment than the proven one of constraints.txt.

    python tests/other_versions.py lowest        the lowest versions that pyproject.toml allows, torch aside
    python tests/other_versions.py python3.13    another Python, with the proven versions

The environments are made once, in `.venv-lowest` and `.venv-python3.13`, and made anew when pyproject.toml,
constraints.txt or this file changes. A Python that is not installed is said, and nothing is tested.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTING = ("beartype", "psutil", "pytest", "pytest-xdist")
LOWEST = "lowest"


def main(version: str) -> int:
    """Make the environment where there is none, and run the fast tests in it."""
    python = sys.executable if version == LOWEST else shutil.which(version)
    if python is None or subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        print(f"{version} is not installed: the tests were not run with it")
        return 0
    folder = ROOT / f".venv-{version}"
    made_of = (ROOT / "pyproject.toml", ROOT / "constraints.txt", Path(__file__))  # which names the extras
    content = b"".join(file.read_bytes() for file in made_of)
    made_from, digest = folder / "made_from", hashlib.sha256(content).hexdigest()
    if not made_from.is_file() or made_from.read_text() != digest:
        shutil.rmtree(folder, ignore_errors=True)
        _make(folder, python, lowest=version == LOWEST)
        made_from.write_text(digest)
    command = [
        str(folder / "bin/python"), "-m", "pytest", "-n", "2", "-q", "-p", "no:cacheprovider",
        # Jaxtyping's plugin and the warnings of libraries are the business of the proven versions alone.
        "-o", "addopts=", "-W", "ignore::DeprecationWarning", "-m", "fast and not slow and not nightly",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def _make(folder: Path, python: str, lowest: bool) -> None:
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    constraints = ROOT / "constraints.txt"
    if lowest:
        (torch,) = re.findall(r"^torch==.*$", constraints.read_text(), re.MULTILINE)
        constraints = folder / "constraints.txt"
        _pip(folder, "uv")
        command = [
            str(folder / "bin/uv"), "pip", "compile", "pyproject.toml",
            "--extra", "judge", "--extra", "lora", "--extra", "tensorboard",
            "--resolution", "lowest-direct", "--no-header", "--no-annotate", "--quiet", "--python", python,
        ]  # fmt: skip
        pins = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        # Torch stays, and what only another torch asks for goes: its builds differ from machine to machine.
        pins = [pin for pin in pins if not re.match(r"(nvidia-|triton|torch=)", pin)]
        constraints.write_text("\n".join([*pins, torch]) + "\n")
    _pip(folder, "--constraint", str(constraints), f"{ROOT}[judge,lora,tensorboard]", *TESTING)
    subprocess.run([str(folder / "bin/pip"), "uninstall", "--quiet", "--yes", "diverseevol"], check=True)


def _pip(folder: Path, *arguments: str) -> None:
    command = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
