"""Evolutions that are killed at random instants and started again end as if nothing had happened."""

import hashlib
import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import small_evolution
from forks import after, finish, fork, wait_until

SMALL = (*small_evolution.SMALL, "schedule.rounds=3", "tuning.steps=12", "keep_models=last")
LAST = 3
PHASES = ("training", "probing", "measuring", "answering")


def evolution(folder: Path) -> dict[str, object]:
    """Everything in a run folder that must not depend on interruptions."""
    found: dict[str, object] = {name: (folder / name).read_text() for name in ("selected.jsonl", "receipts.jsonl")}
    for file in sorted(folder.glob("rounds/*/*")) + sorted(folder.glob("rounds/*/*/*.jsonl")):
        name = str(file.relative_to(folder))
        if file.name == "round.json":
            record = json.loads(file.read_text())
            del record["seconds"], record["predicted"], record["peak_memory"]
            found[name] = record
        elif file.suffix in (".jsonl", ".json"):
            found[name] = file.read_text()
    for file in (folder / "map.npy", *folder.glob("rounds/*/model/model.safetensors")):
        found[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def phase(folder: Path) -> str:
    """What an evolution is at, or was when it was killed, by the files that it has."""
    begun = sorted(folder.glob("rounds/*"))
    if not begun:
        return "training" if (folder / "fingerprint.json").exists() else "preparing"
    there = {path.name for path in begun[-1].iterdir()}
    if "round.json" in there:
        return "closing" if begun[-1].name == f"{LAST:02d}" else "training"
    if "model" not in there:
        return "training"
    if "chosen.jsonl" not in there and begun[-1].name != f"{LAST:02d}":
        return "probing"
    if "measures.json" not in there:
        return "measuring"
    return "closing" if list(begun[-1].glob("answers/*.jsonl")) else "answering"


def left(*folders: Path) -> list[str]:
    """What is half-written there."""
    return [str(path) for folder in folders for path in folder.rglob("*.partial")]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cache that is filled, and the folder of an uninterrupted evolution; imports done before the first fork."""
    import torch

    import diverseevol.cli.commands.evolve  # noqa: F401

    torch.set_num_threads(1)
    base = tmp_path_factory.mktemp("kills")
    whole = base / "whole"
    assert finish(fork(["evolve", f"folder={whole}", f"cache={base / 'cache'}", *SMALL], base / "log")) == 0, (
        base / "log"
    ).read_text()
    return base, whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "logger", "kills"),
    [
        ("kcenter", "none", 10),
        pytest.param("kcenter", "none", 20, marks=pytest.mark.nightly),
        pytest.param("random", "none", 15, marks=pytest.mark.nightly),
        pytest.param("kcenter", "wandb", 15, marks=pytest.mark.nightly),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(
    prepared: tuple[Path, Path], sampler: str, logger: str, kills: int, tmp_path: Path
) -> None:
    base, _ = prepared
    # A cache of its own: kills while the data and the foundation embeddings are prepared count too.
    common = [f"sampler={sampler}", f"logger={logger}", *SMALL]
    whole = tmp_path / "whole"
    began = time.monotonic()
    assert finish(fork(["evolve", f"folder={whole}", f"cache={base / 'cache'}", *common], tmp_path / "log")) == 0
    took = time.monotonic() - began
    expected = evolution(whole)
    assert "map.npy" in expected
    assert f"rounds/{LAST:02d}/model/model.safetensors" in expected
    rng = random.Random(f"{sampler} {logger} {kills}")
    killed: list[str] = []  # in which phase
    attempt = 0

    def enough() -> bool:
        complete = len(killed) >= kills and {*PHASES} <= {*killed}
        return complete or len(killed) >= 3 * kills or attempt >= 5 * kills

    while not enough():
        folder, cache = tmp_path / f"cut-{attempt}", tmp_path / f"cache-{attempt}"
        attempt += 1
        arguments = ["evolve", f"folder={folder}", f"cache={cache}", *common]
        code: int | None = None
        while not enough():
            code = finish(fork(arguments, tmp_path / "log"), _instant(rng, took, folder, killed, kills))
            if code is not None:
                break
            killed.append(phase(folder))
        if code is None:
            code = finish(fork(arguments, tmp_path / "log"))
        assert code == 0, (tmp_path / "log").read_text()[-3000:]
        assert evolution(folder) == expected
        assert not left(folder, cache)
    print(f"killed while {', '.join(killed)}")
    assert {*PHASES} <= {*killed}


def _instant(rng: random.Random, took: float, folder: Path, killed: list[str], kills: int) -> Callable[[], bool]:
    """Any instant, or the beginning of a phase that no kill has hit yet: every other time, and late on always."""
    missing = [name for name in PHASES if name not in killed]
    if missing and (rng.random() < 0.5 or len(killed) >= kills):
        aim = rng.choice(missing)
        return lambda: phase(folder) == aim
    return after(rng.uniform(0.05, 0.6) * took)


@pytest.mark.slow
def test_a_sweep_that_is_killed_finishes_what_is_missing(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    base, _ = prepared
    sweep = ["evolve", "-m", "sampler=kcenter,random", "seed=0,1", "logger=none", *SMALL]
    whole = [*sweep, f"outputs={tmp_path / 'whole'}", f"cache={base / 'cache'}"]
    assert finish(fork(whole, tmp_path / "log")) == 0
    cut = [*sweep, f"outputs={tmp_path / 'cut'}", f"cache={tmp_path / 'cache'}"]

    def files(outputs: str) -> int:
        return sum(path.is_file() for path in (tmp_path / outputs).rglob("*"))

    # By what is done, not by the clock: none can be over before it is killed, however fast the machine.
    enough = [share * files("whole") for share in (0.15, 0.4, 0.7)]
    codes = [finish(fork(cut, tmp_path / "log"), lambda count=count: files("cut") >= count) for count in enough]
    assert codes == [None] * 3, "each of them was killed"
    assert finish(fork(cut, tmp_path / "log")) == 0
    assert not left(tmp_path)
    assert len(list((tmp_path / "cut" / "sweeps").glob("*/jobs/*.json"))) >= 4, "the last start noted all its jobs"
    runs = sorted(
        path.parent.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("fingerprint.json")
    )
    assert len(runs) == 4
    for run in runs:
        assert evolution(tmp_path / "cut" / run) == evolution(tmp_path / "whole" / run)
    pools = {}
    for run in runs:
        first = json.loads((tmp_path / "whole" / run / "rounds/00/round.json").read_text())
        pools.setdefault(run.name, set()).add(tuple(first["trained_on"]))
    assert all(len(shared) == 1 for shared in pools.values()), "the samplers of a seed share P_0"
    assert pools["seed0"] != pools["seed1"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_cleanly_with_130_and_the_rest_resumes(
    prepared: tuple[Path, Path], number: signal.Signals, tmp_path: Path
) -> None:
    base, whole = prepared
    arguments = ["evolve", f"folder={tmp_path / 'run'}", f"cache={base / 'cache'}", *SMALL]
    child = fork(arguments, tmp_path / "log")
    wait_until((tmp_path / "run" / "rounds" / "00" / "round.json").exists, child)
    os.kill(child, number)
    assert finish(child) == 130
    log = (tmp_path / "log").read_text()
    assert "interrupted; everything so far is kept" in log
    assert "Traceback" not in log
    assert finish(fork(arguments, tmp_path / "log")) == 0
    assert evolution(tmp_path / "run") == evolution(whole)


@pytest.mark.slow
def test_two_processes_that_are_killed_leave_nothing_in_the_cache(tmp_path: Path) -> None:
    from diverseevol.cli.commands import evolve  # noqa: F401

    arguments = ["evolve", f"folder={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}", "logger=none",
                 *small_evolution.SMALL, "trainer.accelerator=cpu", "embedding.batch_tokens=64"]  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    children = [
        fork(arguments, tmp_path / f"log-{rank}", {**place, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]

    def at_work() -> bool:
        return any((tmp_path / "cache" / "foundation").glob("*.partial/*"))

    wait_until(at_work, children[0])
    for child in children:  # at once: one that loses the other ends by itself
        os.kill(child, signal.SIGKILL)
    assert [finish(child) for child in children] == [-signal.SIGKILL] * 2, "both were killed"
    assert at_work(), "in the middle"
    assert finish(fork(arguments, tmp_path / "log")) == 0
    assert not left(tmp_path)
