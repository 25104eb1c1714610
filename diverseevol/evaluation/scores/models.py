"""Which model a score or a metric belongs to: a round of an evolution, as its run folder names it."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from diverseevol.errors import InputError, shown
from diverseevol.runs.saved_config import read_complete
from diverseevol.storage.files import read_json
from diverseevol.storage.links import refuse_from_outside

PROVENANCE, MADE_AS = "provenance.json", "made_as"  # the file of a run folder, and its field, that name the run


@dataclass(frozen=True)
class Model:
    """The model of one round.

    Attributes:
        source: what was selected from: <data>/<model> of an own run, the data set of a released one.
        schedule: the folder's name, which names sampler and schedule.
        seed: None where it is not known, as in the released files.
        rows: that it was trained on; None where that is not known.
        initial_pool: size of P_0 and a digest of its rows; None where it is not known.
    """

    source: str
    schedule: str
    seed: int | None
    round: int
    rows: int | None = None
    initial_pool: tuple[int, str] | None = None


def model_of(run: Path, t: str) -> Model:
    """The model of a round in a run folder, by the name of the round's folder.

    Raises:
        InputError: a file of the run folder that names it is damaged.
    """
    source, schedule, seed = named_run(run)
    pool = recorded(run, f"rounds/{t}/round.json", "trained_on", list)
    return Model(
        source=source,
        schedule=schedule,
        seed=recorded(run, "fingerprint.json", "seed", int) if seed is None else seed,
        round=int(t),
        rows=None if pool is None else len(pool),
        initial_pool=_initial_pool(run),
    )


def named(run: PurePosixPath) -> tuple[str, str, int | None]:
    """Source, schedule and seed of an own run, by the end of its folder's path; None for a seed that is not in it."""
    numbered = re.fullmatch(r"seed(\d+)", run.name)
    group = run.parent if numbered else run
    return "/".join(group.parts[:-1][-2:]).lstrip("/"), group.name, int(numbered[1]) if numbered else None


def named_run(folder: Path) -> tuple[str, str, int | None]:
    """Source, schedule and seed of a run folder, as it was made: a copy elsewhere, under another name, has the same.

    They are what `provenance.json` says; where it does not, as in folders of 0.1, `named` says them.

    Raises:
        InputError: that file, or `config.yaml` beside it, is damaged.
    """
    if (folder / "config.yaml").is_file():
        refuse_from_outside(folder / "config.yaml", folder)
        read_complete(folder / "config.yaml")
    file = folder / PROVENANCE
    made = None
    if file.is_file():
        refuse_from_outside(file, folder)
        facts = read_json(file)
        made = facts.get(MADE_AS) if isinstance(facts, dict) else None
    if made is None:
        return named(PurePosixPath(folder.as_posix()))
    kinds = {"source": str, "schedule": str, "seed": int}
    if not isinstance(made, dict) or not all(type(made.get(key)) is kind for key, kind in kinds.items()):
        raise InputError(
            f"{file}, field {MADE_AS!r}: expected source, schedule and seed, got {shown(made)}; restore it"
        )
    return made["source"], made["schedule"], made["seed"]


def recorded(run: Path, file: str, key: str, kind: type) -> Any:
    """A fact of the run folder; None where the folder lacks the file."""
    if not (run / file).is_file():
        return None
    refuse_from_outside(run / file, run)
    facts = read_json(run / file)
    if not isinstance(facts, dict) or not isinstance(facts.get(key), kind):
        raise InputError(f"{run / file}, field {key!r}: missing or no {kind.__name__}; restore the file")
    return facts[key]


def _initial_pool(run: Path) -> tuple[int, str] | None:
    rows = recorded(run, "rounds/00/round.json", "trained_on", list)
    if rows is None:
        return None
    if odd := [row for row in rows if type(row) is not int]:
        raise InputError(
            f"{run}/rounds/00/round.json, field 'trained_on': expected row numbers, got {odd[0]!r:.60}; restore the "
            f"file"
        )
    return len(rows), hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()
