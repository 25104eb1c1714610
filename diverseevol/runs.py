"""The run folder: what an evolution keeps on disk, so that nothing done is done again and nothing kept is half.

Each phase of a round leaves its file under a temporary name and renames it when it is whole; `round.json` comes last.
So whatever a crash leaves, a file that is there can be trusted, and at most the phase that was running is repeated.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from diverseevol import __version__
from diverseevol.errors import InputError
from diverseevol.files import (
    TEMPORARY,
    atomic_write,
    cannot_write,
    read_json,
    read_jsonl,
    sweep_temporary,
    sync_folder,
    write_json,
    write_jsonl,
)

ROUND_KEYS = ("index", "trained_on", "chosen", "metrics", "seconds", "fingerprint", "version")


@dataclass(frozen=True)
class Round:
    """One evolution step t, done.

    Attributes:
        index: t.
        trained_on: the pool P_t, in the order in which its rows joined.
        chosen: S_t, the rows that join next, in pick order; empty in the last round.
        metrics: by logged name.
        seconds: wall time of each phase.
    """

    index: int
    trained_on: tuple[int, ...]
    chosen: tuple[int, ...]
    metrics: dict[str, float]
    seconds: dict[str, float]


class RunFolder:
    """One evolution's folder; see the README for what lies in it."""

    def __init__(self, path: Path, fingerprint: Mapping[str, Any]) -> None:
        self.path = path
        self.fingerprint = dict(fingerprint)
        self.digest = hashlib.sha256(json.dumps(self.fingerprint, sort_keys=True).encode()).hexdigest()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder: a second process is refused. The lock of a process that died is free.

        Raises:
            InputError: another process holds the folder.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", timeout=0)
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"{self.path}: another process is at work in this folder; wait for it, or give folder=… for a "
                f"run of its own"
            ) from error
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            self._refuse_foreign()
            sweep_temporary(self.path)
            yield
        finally:
            lock.release()
            if {path.name for path in self.path.iterdir()} <= {".lock"}:  # a run that was refused leaves nothing
                (self.path / ".lock").unlink(missing_ok=True)
                os.removedirs(self.path)

    def _refuse_foreign(self) -> None:
        """A folder with other things in it is left alone: nothing of the user's is swept or overwritten."""
        ours = {".lock", "fingerprint.json" + TEMPORARY, "config.yaml", "config.yaml" + TEMPORARY}
        others = sorted(path.name for path in self.path.iterdir() if path.name not in ours)
        if others and not (self.path / "fingerprint.json").exists() and not (self.path / "rounds").exists():
            raise InputError(
                f"{self.path}: holds {others[0]!r} but no evolution; give folder=… an empty folder, or an "
                f"evolution's own"
            )

    def claim(self, config: str) -> None:
        """Match the folder's fingerprint with this run's, or set it in a new folder.

        Args:
            config: the resolved configuration as YAML text.

        Raises:
            InputError: the folder holds an evolution whose picks would differ; names the keys.
        """
        file = self.path / "fingerprint.json"
        if file.exists():
            there = read_json(file)
            differing = [
                f"{key} (there {_short(there.get(key))}, here {_short(self.fingerprint.get(key))})"
                for key in sorted({*there, *self.fingerprint} if isinstance(there, dict) else {})
                if there.get(key) != self.fingerprint.get(key)
            ]
            if differing or not isinstance(there, dict):
                raise InputError(
                    f"{self.path}: holds an evolution that differs in {'; '.join(differing) or 'kind'}; give "
                    f"folder=… for a new one, or the old settings to resume this one"
                )
        elif (self.path / "rounds").exists():
            raise InputError(f"{file}: missing, so the rounds beside it cannot be trusted; restore it or give folder=…")
        with atomic_write(self.path / "config.yaml") as out:
            out.write(config)
        write_json(file, self.fingerprint)

    @property
    def name(self) -> str:
        """What the evolution is called in dashboards: the end of its path and the start of its digest."""
        return f"{'/'.join(self.path.parts[-4:])} {self.digest[:8]}"

    def round_id(self, t: int) -> str:
        """The id of a round's logged run: the same on every resume, another for another evolution or folder."""
        return hashlib.sha256(f"{self.digest} {self.name} {t}".encode()).hexdigest()[:16]

    @property
    def overview_id(self) -> str:
        """The id of the logged run that gathers all rounds."""
        return hashlib.sha256(f"{self.digest} {self.name} evolution".encode()).hexdigest()[:16]

    def round(self, t: int) -> "RoundFolder":
        """The folder of one round."""
        return RoundFolder(self.path / "rounds" / f"{t:02d}", t, self.digest)


class RoundFolder:
    """One round's folder: a file for each phase, then `round.json`."""

    def __init__(self, path: Path, index: int, digest: str) -> None:
        self.path = path
        self.index = index
        self.digest = digest
        self.model = path / "model"
        self.probe = path / "probe"

    def load(self, trained_on: Sequence[int]) -> Round | None:
        """The round, if it is whole.

        Args:
            trained_on: the pool that the rounds before lead to.

        Raises:
            InputError: `round.json` is cut off, edited, or of another evolution.
        """
        file = self.path / "round.json"
        if not file.exists():
            return None
        there = read_json(file)
        missing = [key for key in ROUND_KEYS if key not in there] if isinstance(there, dict) else list(ROUND_KEYS)
        if missing:
            raise InputError(
                f"{file}: lacks {', '.join(missing)}; restore it, or delete the folder of this round to redo it"
            )
        for key in ("metrics", "seconds"):
            if not isinstance(there[key], dict):
                raise InputError(
                    f"{file}: its {key} is {_short(there[key])} where an object belongs; restore it, or delete the "
                    f"folder of this round to redo it"
                )
        if _release(there["version"]) != _release(__version__):
            raise InputError(
                f"{file}: made by diverseevol {there['version']}, and this is {__version__}, which may choose "
                f"other rows; go on with that version, or give folder=… for a new evolution"
            )
        chosen = self.chosen()
        if chosen is None and there["chosen"]:
            raise InputError(
                f"{self.path / 'chosen.jsonl'}: missing, though {file.name} lists what was chosen; restore it, or "
                f"delete the folder of this round to redo it"
            )
        for key, expected in (
            ("index", self.index),
            ("fingerprint", self.digest),
            ("trained_on", list(trained_on)),
            ("chosen", chosen if there["chosen"] else []),
        ):
            if there[key] != expected:
                raise InputError(
                    f"{file}: its {key} is {_short(there[key])} where {_short(expected)} belongs, so it was edited or "
                    f"comes from another evolution; restore it, or delete the folder of this round and those after "
                    f"it to redo them"
                )
        return Round(self.index, tuple(trained_on), tuple(chosen or ()), dict(there["metrics"]), dict(there["seconds"]))

    def finish(self, done: Round) -> None:
        """Write `round.json`: the round is whole."""
        write_json(
            self.path / "round.json",
            {
                "index": done.index, "trained_on": list(done.trained_on), "chosen": list(done.chosen),
                "metrics": done.metrics, "seconds": done.seconds, "fingerprint": self.digest, "version": __version__,
            },
        )  # fmt: skip

    def chosen(self) -> list[int] | None:
        """The rows of the selection receipt in pick order, or None where nothing was selected yet."""
        file = self.path / "chosen.jsonl"
        if not file.exists():
            return None
        rows: list[Any] = [line.get("row") for line in read_jsonl(file)]
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, int) or isinstance(row, bool):
                raise InputError(
                    f"{file}, line {number}: its row is {_short(row)} where a row number belongs; restore the file, or "
                    f"delete the folder of this round to redo it"
                )
        return rows

    def keep_model(self, save: Callable[[Path], None]) -> None:
        """Save a model so that it appears whole or not at all."""
        partial = self.model.with_name(self.model.name + TEMPORARY)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            save(partial)
            for file in partial.iterdir():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
            partial.replace(self.model)
            sync_folder(self.path)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise cannot_write(self.model, error) from error

    def drop(self, *folders: Path) -> None:
        """Remove folders of this round that are not to be kept."""
        for folder in folders:
            if folder.exists():  # renamed first, so that a kill leaves no folder that looks whole
                partial = folder.with_name(folder.name.removesuffix(TEMPORARY) + TEMPORARY)
                folder.replace(partial)
                shutil.rmtree(partial)

    def forget(self, *names: str) -> None:
        """Remove the notes of phases, which `round.json` now holds."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)


def provenance() -> dict[str, str]:
    """Versions of what computed a run, and the git revision of the working directory where it has one."""
    packages = (
        "torch",
        "transformers",
        "lightning",
        "numpy",
        "hydra-core",
        "wandb",
        "vendi-score",
        "datasets",
    )
    versions = {name: metadata.version(name) for name in packages}
    git = shutil.which("git")
    describe = [git or "git", "describe", "--always", "--dirty"]
    revision = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip() if git else ""
    return {"diverseevol": __version__, "python": platform.python_version(), "git": revision, **versions}


def write_selected(path: Path, rounds: Sequence[Round], record: Callable[[int], dict[str, Any]]) -> None:
    """Write the final pool, in the order in which rows joined, each with the round that first trained on it."""
    joined: dict[int, int] = {}
    for done in rounds:
        for row in done.trained_on:
            joined.setdefault(row, done.index)
    write_jsonl(path, ({"row": row, "joined": t, "record": record(row)} for row, t in joined.items()))


def _release(version: Any) -> list[str]:
    """The part of a version below which picks do not change."""
    return str(version).split(".")[:2]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
