"""Evolutions that are killed at random instants and started again end as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import small_evolution

SMALL = (*small_evolution.SMALL, "schedule.rounds=3", "tuning.steps=12", "keep_models=last")


def fork(arguments: list[str], log: Path) -> int:
    """Start the command in a child of this process, which has everything imported already."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        sys.stdout = sys.stderr = log.open("a", buffering=1)
        from diverseevol import cli

        sys.argv = ["diverseevol", *arguments]
        cli.main()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def finish(child: int, seconds: float | None = None) -> int | None:
    """Wait for a child: its exit code, or None if it had to be killed after `seconds`."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if deadline is not None and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.005)


def evolution(folder: Path) -> dict[str, object]:
    """Everything in a run folder that must not depend on interruptions."""
    found: dict[str, object] = {"selected": (folder / "selected.jsonl").read_text()}
    for file in sorted(folder.glob("rounds/*/*")) + sorted(folder.glob("rounds/*/*/*.jsonl")):
        name = str(file.relative_to(folder))
        if file.name == "round.json":
            record = json.loads(file.read_text())
            del record["seconds"]
            found[name] = record
        elif file.suffix in (".jsonl", ".json"):
            found[name] = file.read_text()
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cache that is filled, and the folder of an uninterrupted evolution; imports done before the first fork."""
    import torch

    import diverseevol.commands.evolve  # noqa: F401

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
    [("kcenter", "none", 20), ("random", "none", 15), ("kcenter", "wandb", 15)],
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
    rng = random.Random(f"{sampler} {logger}")
    killed, attempt = 0, 0
    while killed < kills:
        folder, cache = tmp_path / f"cut-{attempt}", tmp_path / f"cache-{attempt}"
        attempt += 1
        arguments = ["evolve", f"folder={folder}", f"cache={cache}", *common]
        code: int | None = None
        while killed < kills:
            code = finish(fork(arguments, tmp_path / "log"), rng.uniform(0.05, 0.6) * took)
            if code is not None:
                break
            killed += 1
        if code is None:
            code = finish(fork(arguments, tmp_path / "log"))
        assert code == 0, (tmp_path / "log").read_text()[-3000:]
        assert evolution(folder) == expected
        left = [str(path) for place in (folder, cache) for path in place.rglob("*.partial")]
        assert not left, left


@pytest.mark.slow
def test_a_sweep_killed_twice_finishes_what_is_missing(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    base, _ = prepared
    sweep = [
        "evolve", "-m", "sampler=kcenter,random", "seed=0,1", f"cache={base / 'cache'}", "logger=none", *SMALL,
    ]  # fmt: skip
    began = time.monotonic()
    assert finish(fork([*sweep, f"outputs={tmp_path / 'whole'}"], tmp_path / "log")) == 0
    took = time.monotonic() - began
    cut = [*sweep, f"outputs={tmp_path / 'cut'}"]
    for share in (0.3, 0.5):
        finish(fork(cut, tmp_path / "log"), share * took)
    assert finish(fork(cut, tmp_path / "log")) == 0
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
    while not (tmp_path / "run" / "rounds" / "00" / "round.json").exists():
        time.sleep(0.02)
    os.kill(child, number)
    assert finish(child) == 130
    log = (tmp_path / "log").read_text()
    assert "interrupted; everything so far is kept" in log
    assert "Traceback" not in log
    assert finish(fork(arguments, tmp_path / "log")) == 0
    assert evolution(tmp_path / "run") == evolution(whole)


@pytest.mark.slow
def test_a_full_disk_says_so_and_loses_nothing(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    base, whole = prepared
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        arguments = ["evolve", f"folder={disk / 'run'}", f"cache={base / 'cache'}", "logger=none", *SMALL]
        (disk / "ballast").write_bytes(bytes(900_000))
        code = finish(fork(arguments, tmp_path / "log"))
        log = (tmp_path / "log").read_text()
        assert code == 2, log
        assert "cannot be written" in log
        assert "No space left" in log
        assert "Traceback" not in log
        assert not list(disk.rglob("*.partial"))
        (disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert finish(fork(arguments, tmp_path / "log")) == 0
        assert evolution(disk / "run") == evolution(whole)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        (tmp_path / "log").unlink()
        grown = [*arguments, "schedule.rounds=4"]
        assert finish(fork(grown, tmp_path / "log")) == 2
        log = (tmp_path / "log").read_text()
        assert "Read-only file system" in log
        assert "Traceback" not in log
        assert evolution(disk / "run") == evolution(whole)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)
