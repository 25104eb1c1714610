"""The run folder: what an evolution keeps on disk, so that nothing done is done again and nothing kept is half.

Each phase of a round writes a file under a temporary name and renames it when complete; `round.json` comes last.
So whatever a crash leaves, a file that is there can be trusted, and at most the phase that was running is repeated.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from filelock import Timeout

from diverseevol import __version__
from diverseevol.errors import InputError
from diverseevol.runs.round_folder import RoundFolder, check_release, shortened
from diverseevol.runs.saved_config import read_saved
from diverseevol.storage.files import (
    TEMPORARY,
    atomic_write,
    is_locked,
    locked,
    make_folder,
    read_json,
    refuse_links,
    remove_empty,
    sweep_temporary,
    write_json,
    writing,
)

LOCK = ".lock"
LOOK = 0.2  # seconds: for a moment, `is_at_work` holds a lock that it finds free
ELIGIBILITY = ("eligible", "data.held_out.copies")  # follow from the settings
SOURCE = "source"  # of the user's code: each file's digest, under KEY.source in a fingerprint


def is_at_work(path: Path) -> bool:
    """Whether a process is at work in a run folder, as far as this machine's file system tells."""
    return is_locked(path / LOCK)


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
        path, made = self.path.absolute(), make_folder(self.path)
        self._refuse_foreign()  # before there is a lock in it
        lock, held = path / LOCK, ExitStack()
        before = {file.name for file in path.iterdir()}
        with writing(self.path):
            try:
                held.enter_context(locked(lock, timeout=LOOK))
            except Timeout as error:
                raise InputError(
                    f"{self.path}: another process is at work in this folder; wait for it, or give folder=… for a "
                    f"run of its own"
                ) from error
        with held:
            try:
                self._refuse_foreign()
                refuse_links(self.path)
                if (self.path / "fingerprint.json").exists():
                    sweep_temporary(self.path)
                yield
            finally:  # a run that was refused leaves what was there before it, and nothing else
                with suppress(OSError):
                    if {file.name for file in path.iterdir()} - before == {lock.name}:
                        lock.unlink()  # while it is held, so that nobody else can hold it
                remove_empty(made)

    def _refuse_foreign(self) -> None:
        """A folder with other things in it is left alone: nothing of the user's is swept or overwritten."""
        ours = re.compile(r"\.lock|fingerprint\.json\.[^.]*" + re.escape(TEMPORARY))
        foreign = sorted(path.name for path in self.path.iterdir() if not ours.fullmatch(path.name))
        if foreign and not (self.path / "fingerprint.json").exists() and not (self.path / "rounds").exists():
            raise InputError(
                f"{self.path}: holds {foreign[0]!r} but no evolution; give folder=… an empty folder, or an "
                f"evolution's own"
            )

    def claim(self, config: str) -> None:
        """Match the folder's fingerprint with this run's, or set it in a new folder.

        Args:
            config: the resolved configuration as YAML text.

        Raises:
            InputError: the folder holds an evolution whose picks would differ, by the keys, or of another release.
        """
        self.match(config)
        write_json(self.path / "fingerprint.json", self.fingerprint)  # first: it says that the rest is ours
        with atomic_write(self.path / "config.yaml") as out:
            out.write(config)

    def match(self, config: str) -> None:
        """Check that what the folder holds, if anything, is this evolution.

        Args:
            config: as `claim`.

        Raises:
            InputError: as `claim`.
        """
        file = self.path / "fingerprint.json"
        if file.exists():
            saved = read_json(file, "restore it, or give folder=… for a new evolution")
            if isinstance(saved, dict) and "release" in saved:
                check_release(file, saved["release"])
            keys = [
                key
                for key in sorted({*saved, *self.fingerprint} if isinstance(saved, dict) else {})
                if saved.get(key) != self.fingerprint.get(key)
            ]
            for key in keys:
                before, now = saved.get(key), self.fingerprint.get(key)
                if key.endswith(f".{SOURCE}") and isinstance(before, dict) and isinstance(now, dict):
                    changed = sorted(file for file in {*before, *now} if before.get(file) != now.get(file))
                    raise InputError(
                        f"{self.path}: was made with another version of {', '.join(changed)} ({key}); restore it to "
                        f"resume the evolution, or give folder=… for a new one"
                    )
            # Which rows are eligible follows from the settings: it is named only where nothing else differs.
            differing = {
                key: (saved.get(key), self.fingerprint.get(key))
                for key in [key for key in keys if key not in ELIGIBILITY] or keys
            }
            if "prompt" in differing:  # a digest: its options say more, where it is one of them that differs
                options = self._changed_options("prompt", config)
                differing = {key: pair for key, pair in differing.items() if key != "prompt" or not options} | options
            listed = "; ".join(
                f"{key} (there {shortened(before)}, here {shortened(now)})" for key, (before, now) in differing.items()
            )
            if differing or not isinstance(saved, dict):
                raise InputError(
                    f"{self.path}: holds an evolution that differs in {listed or 'kind'}; give "
                    f"folder=… for a new one, or the old settings to resume this one"
                )
        elif (self.path / "rounds").exists():
            raise InputError(f"{file}: missing, so the rounds beside it cannot be trusted; restore it or give folder=…")

    def _changed_options(self, node: str, config: str) -> dict[str, tuple[Any, Any]]:
        """The options of a node, by path, that are others in the folder's configuration than in this one."""
        file = self.path / "config.yaml"
        before, now = (read_saved(file) if file.exists() else {}).get(node), yaml.safe_load(config)[node]
        if not isinstance(before, dict):
            return {}
        pairs = {f"{node}.{name}": (before.get(name), now.get(name)) for name in sorted({*before, *now})}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def complete(self) -> set[int]:
        """The indices of the rounds that are complete, whether or not those before them are."""
        names = (file.parent.name for file in self.path.glob("rounds/*/round.json"))
        return {int(name) for name in names if name.isascii() and name.isdecimal()}

    def stopped(self, rounds: int) -> int | None:
        """The round after which it ended before so many; None where it did not, or was to have fewer than these."""
        if not (complete := self.complete()):
            return None
        last = max(complete)
        record = read_json(self.round(last).path / "round.json")
        early = record.get("stopped") if isinstance(record, dict) else None
        asked = early.get("of") if isinstance(early, dict) else None
        return last if isinstance(asked, int) and last < rounds <= asked else None

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
    return {"diverseevol": __version__, "python": platform.python_version(), "git": _revision(), **versions}


def _revision() -> str:
    """The git revision of the current folder, with "-dirty" where files differ from it; "" where it has none.

    The folder may be a stranger's, whose git configuration names programs: `describe --dirty` would run its file-system
    monitor and filters, and a missing object would be fetched.
    """
    git = shutil.which("git")
    if git is None:
        return ""

    def ask(*words: str) -> str:
        call = [git, "-c", "core.fsmonitor=false", *words]
        environment = {**os.environ, "GIT_ALLOW_PROTOCOL": "none"}
        return subprocess.run(call, capture_output=True, text=True, check=False, env=environment).stdout.strip()

    revision = ask("describe", "--always")
    return f"{revision}-dirty" if revision and ask("diff-index", "--name-only", "HEAD") else revision
