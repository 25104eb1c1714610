"""One round on disk: a file for each phase, and `round.json` last, which says that the round is complete."""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diverseevol import __version__
from diverseevol.errors import InputError
from diverseevol.runs.metrics import POOL_SIZE
from diverseevol.storage.files import read_json, read_numbered, temporary, write_json, writing
from diverseevol.storage.sealed import SEAL, build_complete, damage, sealed_names

PRINTED = (POOL_SIZE.name, "train_loss", "vendi_score", "vendi_score_centred", "vendi_score_current", "coverage_radius")
ROUND_KEYS = ("index", "trained_on", "chosen", "metrics", "seconds", "fingerprint", "version")
RESULTS = ("training.jsonl", "chosen.jsonl")  # what a complete round keeps of the files that were sealed
REDO = "restore it, or delete the folder of this round and those after it to redo them"


@dataclass(frozen=True)
class Prediction:
    """How long phases were going to take.

    Attributes:
        by: whose rates say so: a card's, a calibration's, or those of the round before.
        seconds: of each phase whose rate was known.
    """

    by: str
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Round:
    """One evolution step t, done.

    Attributes:
        index: t.
        trained_on: the pool P_t, in the order in which its rows joined.
        chosen: S_t, the rows that join next, in pick order; empty in the last round.
        metrics: by logged name.
        seconds: wall time of each phase.
        peak_memory: bytes of the first process in each phase, of its GPU as `<phase>/device`; empty in rounds of 0.1.
        predicted: how long phases were going to take, as was said when the round began; None where nobody knew.
        stopped: why the evolution ended after this round, of how many (`of`); None where it did not end early.
    """

    index: int
    trained_on: tuple[int, ...]
    chosen: tuple[int, ...]
    metrics: dict[str, float]
    seconds: dict[str, float]
    peak_memory: dict[str, int] = field(default_factory=dict)
    predicted: Prediction | None = None
    stopped: Mapping[str, Any] | None = None


class RoundFolder:
    """One round's folder: a file for each phase, then `round.json`."""

    def __init__(self, path: Path, index: int, digest: str) -> None:
        self.path = path
        self.index = index
        self.digest = digest
        self.model = path / "model"
        self.adapter = path / "adapter"  # in its place, of tuning=lora
        self.checkpoint = path / "checkpoint"  # of a fit that is not complete
        self.probe = path / "probe"

    def load(self, trained_on: Sequence[int]) -> Round | None:
        """The round, if it is complete.

        Args:
            trained_on: the pool that the rounds before lead to.

        Raises:
            InputError: `round.json` is cut off, edited, or of another evolution.
        """
        file = self.path / "round.json"
        if not file.exists():
            return None
        record = _read_round(file)
        chosen = self.chosen()
        if chosen is None and record["chosen"]:
            raise InputError(f"{self.path / 'chosen.jsonl'}: missing, though {file.name} lists what was chosen; {REDO}")
        for key, expected in (
            ("index", self.index),
            ("fingerprint", self.digest),
            ("trained_on", list(trained_on)),
            ("chosen", chosen if record["chosen"] else []),
        ):
            if record[key] != expected:
                raise InputError(
                    f"{file}, {key}: expected {shortened(expected)}, got {shortened(record[key])}, so it was edited or "
                    f"comes from another evolution; {REDO}"
                )
        return Round(
            self.index, tuple(trained_on), tuple(chosen or ()), dict(record["metrics"]), dict(record["seconds"]),
            dict(record.get("peak_memory", {})), _prediction(record.get("predicted")),
            dict(record["stopped"]) if isinstance(record.get("stopped"), dict) else None,
        )  # fmt: skip

    def resume(self, trained_on: Sequence[int]) -> Round | None:
        """The round, if it is complete and an evolution may go on from it; arguments as `load` has them.

        Raises:
            InputError: as `load`; or another release made it, which may have chosen other rows; or a file is not as it
                was sealed.
        """
        file = self.path / "round.json"
        if file.exists():
            check_release(file, _read_round(file)["version"])
            self._check_seal()
        return self.load(trained_on)

    def _check_seal(self) -> None:
        if not (self.path / SEAL).exists():
            return
        names = sealed_names(self.path)
        if names is None:
            raise InputError(
                f"{self.path / SEAL}: cut off or edited, so the files beside it cannot be checked; restore it, or "
                f"delete it to go on unchecked"
            )
        for name in RESULTS:
            if name in names and (flaw := damage(self.path, [name])):
                raise InputError(f"{self.path / name}: damaged ({flaw}); {REDO}")

    def finish(self, done: Round) -> None:
        """Write `round.json`: the round is complete."""
        write_json(
            self.path / "round.json",
            {
                "index": done.index, "trained_on": list(done.trained_on), "chosen": list(done.chosen),
                "metrics": done.metrics, "seconds": done.seconds,
                "predicted": None if done.predicted is None else dict(vars(done.predicted)),
                "peak_memory": done.peak_memory,
                **({} if done.stopped is None else {"stopped": dict(done.stopped)}),
                "fingerprint": self.digest, "version": __version__,
            },
        )  # fmt: skip

    def chosen(self) -> list[int] | None:
        """The rows of the selection receipt in pick order, or None where nothing was selected yet."""
        file = self.path / "chosen.jsonl"
        if not file.exists():
            return None
        rows: list[int] = []
        for number, line in read_numbered(file, REDO):
            if type(row := line.get("row")) is not int:
                raise InputError(f"{file}, line {number}: its row is {shortened(row)}, expected a row number; {REDO}")
            rows.append(row)
        return rows

    def keep_model(self, save: Callable[[Path], None], name: str = "model") -> None:
        """Save a model, or of it what is kept under that name, so that it appears complete or not at all."""
        build_complete(self.path / name, save)

    def drop(self, *folders: Path) -> None:
        """Remove folders of this round that are not to be kept."""
        for folder in folders:
            if folder.exists():  # renamed first, so that a kill leaves no folder that looks complete
                partial = temporary(folder)
                with writing(folder):
                    folder.replace(partial)
                    partial.unlink() if partial.is_symlink() else shutil.rmtree(partial)

    def forget(self, *names: str) -> None:
        """Remove the notes of phases, which `round.json` now holds."""
        for name in names:
            with writing(self.path / name):
                (self.path / name).unlink(missing_ok=True)


def release(version: Any) -> str:
    """The part of a version below which picks do not change."""
    return ".".join(str(version).split(".")[:2])


def check_release(file: Path, version: Any) -> None:
    """Refuse what another release has begun.

    Args:
        file: what says so.
        version: of the one that made it, or its first two numbers.
    """
    if release(version) != release(__version__):
        raise InputError(
            f"{file}: made by diverseevol {version}, and this is {__version__}, which may choose "
            f"other rows; go on with that version, or give folder=… for a new evolution"
        )


def _prediction(record: Any) -> Prediction | None:
    """What was predicted; it decides nothing, so that of a record in another form nothing is said."""
    if not isinstance(record, dict) or not isinstance(record.get("seconds"), dict):
        return None
    seconds = {phase: value for phase, value in record["seconds"].items() if isinstance(value, int | float)}
    return Prediction(str(record.get("by")), seconds)


def _read_round(file: Path) -> dict[str, Any]:
    """The record of a round, with every key and with numbers in the right places."""
    record = read_json(file, REDO)

    def lacking(part: Any, keys: Sequence[str], prefix: str = "") -> None:
        missing = [f"{prefix}{key}" for key in keys if not isinstance(part, dict) or key not in part]
        if missing:
            raise InputError(f"{file}: lacks {', '.join(missing)}; {REDO}")

    lacking(record, ROUND_KEYS)
    for key, always in (("metrics", [POOL_SIZE.name]), ("seconds", []), ("peak_memory", [])):
        part = record.get(key, {})  # 0.1 measured no memory
        if not isinstance(part, dict):
            raise InputError(f"{file}, {key}: expected an object, got {shortened(part)}; {REDO}")
        lacking(part, always, f"{key}.")
        for name, value in part.items():
            # A metric of one's own may be no number in a round; one that the project prints has to be.
            own = key == "metrics" and name not in PRINTED
            if not own and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
                raise InputError(f"{file}, {key}.{name}: expected a finite number, got {shortened(value)}; {REDO}")
    return dict(record)


def shortened(value: Any) -> str:
    """A value as JSON, cut to what a sentence can hold."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
