"""`diverseevol status`: what sweeps and run folders say of themselves, also while they are written."""

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from run_folders import STEERING_NAME, World, lay_run
from small_evolution import SMALL

from diverseevol.cli.app import ABOUT_A_FOLDER, with_folder
from diverseevol.cli.commands.status import span
from diverseevol.cli.sweep import Ledger
from diverseevol.runs.standing import failure_noted, save_command, standing
from diverseevol.storage.files import write_json

Command = Callable[..., tuple[int, str, str]]


def noted(folder: Path, jobs: list[list[str]], written: float, launcher: tuple[str, ...] = ()) -> Ledger:
    """A sweep whose jobs were planned at that time."""
    ledger = Ledger(folder, "evolve", launcher)
    ledger.plan(jobs)
    os.utime(folder / "jobs.json", (written, written))
    return ledger


def table(out: str) -> dict[str, list[str]]:
    """The lines about runs, by the run: the other cells."""
    lines = [line.split("  ") for line in out.splitlines() if line.startswith(" ") and not line.startswith("  ")]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return {line[0]: line[1:] for line in cells if len(line) > 1 and line[0] != "run"}


def test_every_state_is_told_with_the_command_that_runs_it_again(command_line: Command, tmp_path: Path) -> None:
    outputs, world = tmp_path / "outputs", World()
    runs = {seed: lay_run(outputs, world, seed=seed, done=None if seed == 0 else 2) for seed in range(4)}
    ledger = noted(
        outputs / "sweeps/new", [[f"seed={seed}", "sampler=kcenter"] for seed in range(5)], 2e9, ("-m", "a=b")
    )
    for seed, run in runs.items():
        ledger.begin(seed, [f"seed={seed}", "sampler=kcenter"], run)
    ledger.end(0, ["seed=0", "sampler=kcenter"])
    ledger.end(2, ["seed=2", "sampler=kcenter"], 1, "failed: RuntimeError: it broke")
    with FileLock(runs[1] / ".lock"):
        before = {file: file.stat().st_mtime_ns for file in outputs.rglob("*")}
        code, out, err = command_line("status", outputs)
        assert (code, err) == (0, "")
        assert {file: file.stat().st_mtime_ns for file in outputs.rglob("*")} == before, "it only reads"
    assert "sweep sweeps/new: 1 running, 1 failed, 1 stopped, 1 missing, 1 done" in out
    told = table(out)
    name = str(runs[0].relative_to(outputs))[:-1]
    assert told[f"{name}0"] == ["done", "4/4"]
    assert told[f"{name}1"][:2] == ["running", "2/4"]
    assert told[f"{name}1"][2].startswith("round 2: fine-tune, for ")
    assert told[f"{name}2"][:2] == ["failed", "2/4"]
    assert told[f"{name}3"][:2] == ["stopped", "2/4"]
    assert told[f"{name}3"][2].endswith(" ago")
    assert told["seed=4"] == ["missing"]
    again = [line.strip() for line in out.partition("to run again")[2].splitlines()[1:] if line]
    assert again == [
        "diverseevol evolve -m a=b seed=2 sampler=kcenter",
        "# failed: RuntimeError: it broke",
        "diverseevol evolve -m a=b seed=3 sampler=kcenter",
        "diverseevol evolve -m a=b seed=4 sampler=kcenter",
    ]


def test_a_single_run_that_failed_says_why_until_it_is_run_again(
    command_line: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = (
        *SMALL,
        "data=lab",
        "sampler=random",
        "logger=none",
        "judge=none",
        "metric=lab",
        f"folder={tmp_path / 'run'}",
    )
    (tmp_path / "breaking_sampler.py").write_text(
        "from diverseevol.samplers import Random\n\n\n"
        "class Breaking(Random):\n"
        "    def select(self, *arguments):\n"
        "        raise RuntimeError('it broke')\n"
    )
    code, _, err = command_line("evolve", *small, "sampler._target_=breaking_sampler.Breaking")
    assert code == 1, err
    assert "RuntimeError: it broke" in err
    code, out, _ = command_line("status", tmp_path)
    assert code == 0
    assert "1 failed" in out
    assert "# failed: RuntimeError: it broke" in out
    (tmp_path / "run/failure.json").write_text("[1")
    assert "1 stopped" in command_line("status", tmp_path)[1], "a damaged note says nothing"
    with failure_noted(tmp_path / "run", str):
        assert not (tmp_path / "run/failure.json").exists()


def test_what_was_run_since_is_told_once_where_it_was_run_last(command_line: Command, tmp_path: Path) -> None:
    first, second, third = (lay_run(tmp_path, World(), seed=seed, done=2) for seed in range(3))
    old = noted(tmp_path / "sweeps/a", [["seed=0"], ["seed=1"], ["seed=2"]], 1e9)
    old.begin(0, ["seed=0"], first)
    old.end(0, ["seed=0"], 1, "the disk is full")
    new = noted(tmp_path / "sweeps/b", [["seed=0"], ["seed=1"]], 2e9)
    new.begin(0, ["seed=0"], first)
    new.begin(1, ["seed=1"], second)
    save_command(third, ["seed=2"])
    code, out, _ = command_line("status", tmp_path)
    assert code == 0
    assert "sweeps/a" not in out
    assert "the disk is full" not in out
    assert out.index("sweeps/b: 2 stopped") < out.index("other runs: 1 stopped")
    assert [line.strip() for line in out.splitlines() if "diverseevol evolve" in line] == [
        "diverseevol evolve seed=0", "diverseevol evolve seed=1", "diverseevol evolve seed=2",
    ]  # fmt: skip


def test_many_runs_that_are_done_or_missing_have_a_line_for_each_arm(command_line: Command, tmp_path: Path) -> None:
    jobs = [[f"sampler={sampler}", f"seed={seed}"] for sampler in ("kcenter", "random") for seed in range(12)]
    ledger = noted(tmp_path / "sweeps/a", jobs, 1e9)
    for number, words in enumerate(jobs[:14]):
        run = lay_run(tmp_path, World(), words[0].partition("=")[2], number % 12, done=1 if number == 3 else None)
        ledger.begin(number, words, run)
        ledger.end(number, words, int(number == 3), "it broke" if number == 3 else None)
    code, out, _ = command_line("status", tmp_path)
    assert code == 0
    assert "1 failed, 10 missing, 13 done" in out
    told = table(out)
    assert sorted(cells[0] for cells in told.values()) == ["done", "done", "failed", "missing"]
    assert told["evolve: 10 runs"] == ["missing"]
    assert told["toy/tiny/kcenter-iterative: 11 runs"] == ["done"]


def test_names_and_sentences_of_strangers_steer_neither_terminal_nor_shell(
    command_line: Command, tmp_path: Path
) -> None:
    ledger = noted(tmp_path / "sweeps/a", [[f"data.path={STEERING_NAME}"], ["seed=1"]], 1e9)
    ledger.end(0, [f"data.path={STEERING_NAME}"], 1, f"{STEERING_NAME}\n\x1b[2J")
    run = lay_run(tmp_path, World(), done=1)
    save_command(run, [STEERING_NAME])
    code, out, _ = command_line("status", tmp_path)
    assert code == 0
    assert "\x1b" not in out
    assert "\u202e" not in out
    lines = [line for line in out.splitlines() if line.startswith("  diverseevol evolve")]
    assert len(lines) == 3
    assert all("`" not in word and ";" not in word for line in lines for word in shlex.split(line)[:2])


@pytest.mark.parametrize(
    "file", ["config.yaml", "rounds/01/round.json", "command.json", "sweeps/a/jobs.json", "sweeps/a/jobs/0.json"]
)
@pytest.mark.parametrize("content", ["", "[1]", '{"chosen": 1}', "null", '{"schedule": 7, "trained_on": "x"}'])
def test_a_file_that_is_cut_off_or_odd_counts_as_not_there(
    command_line: Command, tmp_path: Path, file: str, content: str
) -> None:
    run = lay_run(tmp_path, World(), done=2)
    save_command(run, ["seed=0"])
    ledger = noted(tmp_path / "sweeps/a", [["seed=9"]], 1e9)
    ledger.end(0, ["seed=9"])
    ((run if file[0] != "s" else tmp_path) / file).write_text(content)
    code, _, err = command_line("status", tmp_path)
    assert (code, err) == (0, "")


def test_what_is_left_follows_from_the_rounds_that_are_done(tmp_path: Path) -> None:
    run = lay_run(tmp_path, World(), rounds=3, size=10, done=2)
    for t, seconds in enumerate(({"foundation": 100.0, "fit": 10.0, "probe": 1.0}, {"fit": 20.0, "probe": 3.0})):
        file = run / f"rounds/{t:02d}/round.json"
        write_json(file, {**json.loads(file.read_text()), "seconds": seconds})
    # One second for each row of the pool, 10 and 20 so far, 30 and 40 to come; and 2 seconds a round for the rest.
    assert standing(run).left == pytest.approx(30 + 40 + 2 * 2)
    (run / "rounds/02").mkdir(exist_ok=True)
    write_json(run / "rounds/02/seconds.json", {"fit": 30.0})
    (run / "rounds/02/model").mkdir()
    at = standing(run)
    assert at.left == pytest.approx(40 + 2 * 2)
    assert (at.rounds, at.planned, at.complete, at.at_work, at.phase) == (
        2,
        3,
        False,
        False,
        "round 2: embed and select",
    )
    assert standing(lay_run(tmp_path, World(), seed=1, done=0)).left is None
    assert standing(lay_run(tmp_path, World(), seed=2)).phase == ""


def test_an_evolution_that_stopped_early_is_done_until_more_rounds_are_asked_for(tmp_path: Path) -> None:
    run = lay_run(tmp_path, World(), rounds=5, done=3)
    file = run / "rounds/02/round.json"
    for of, complete in ((5, True), (4, False)):
        write_json(file, {**json.loads(file.read_text()), "stopped": {"of": of}})
        at = standing(run)
        assert (at.rounds, at.complete, at.left is None) == (3, complete, complete)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h"), (200000, "2.3 d")],
)
def test_lengths_of_time_are_told_in_one_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_path_by_itself_is_the_folder_of_commands_about_one() -> None:
    for verb in ABOUT_A_FOLDER:
        assert with_folder(verb, ["outputs/", "out=a"]) == ["folder=outputs/", "out=a"]
        assert with_folder(verb, ["-m", "a b", "~x.y", "--config-dir", "own"]) == [
            "-m", 'folder="a b"', "~x.y", "--config-dir", "own",
        ]  # fmt: skip
    assert with_folder("evolve", ["outputs"]) == ["outputs"]


def test_a_folder_without_runs_is_refused(command_line: Command, tmp_path: Path) -> None:
    code, _, err = command_line("status", tmp_path)
    assert code == 2
    assert f"{tmp_path}: holds neither runs nor sweeps; give a folder that `diverseevol evolve` wrote into" in err


def test_a_fit_is_at_work_since_the_round_before_however_often_it_writes_a_checkpoint(tmp_path: Path) -> None:
    run = lay_run(tmp_path, World(), seed=1, done=1)
    record, current = run / "rounds/00/round.json", run / "rounds/01"
    os.utime(record, (1e9, 1e9))
    for name in ("checkpoint", "checkpoint.0123456789abcdef.partial"):
        (current / name).mkdir(parents=True)
    assert standing(run).since == 1e9
    (current / "chosen.jsonl").touch()
    assert standing(run).since > 1e9
