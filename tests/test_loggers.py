"""Loggers beside one another: what each leaves, and what each does when its disk, server or package is not there."""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from small_evolution import SMALL
from test_tracking import inspected
from wandb_server import WandbServer

from diverseevol.errors import InputError
from diverseevol.evolution.loop import evolve
from diverseevol.options import Schedule
from diverseevol.runs.run_folder import RunFolder
from diverseevol.runs.trackers.csv_tracker import CSV
from diverseevol.runs.trackers.tensorboard_tracker import TensorBoard
from diverseevol.runs.trackers.wandb_tracker import Wandb
from diverseevol.runs.tracking import Careful, NoLogger, RunName, opened
from diverseevol.storage.files import read_json, read_jsonl

NOWHERE = "http://127.0.0.1:9"  # the port "discard", where nobody listens
# Logs one run as a round does, in a process of its own: W&B reads its environment once.
LOG = """
import functools, logging, os, sys, time
from pathlib import Path
from diverseevol.runs.subset import write_subset
from diverseevol.runs.trackers import wandb_tracker as wandb
from diverseevol.runs.tracking import Careful, RoundData, RunName, opened
logging.basicConfig(format="%(message)s")
wandb.END_SECONDS = 3.0 if sys.argv[3] == "left-alone" else 60.0
wandb.START_SECONDS = 2.0 if os.environ["WANDB_BASE_URL"].endswith(":9") else 60.0
folder, mode, ids = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")
tracker = Careful(wandb.Wandb(mode=mode))
for id in ids:
    job = "evolution" if id == "whole" else "round"
    axis = "pool_size" if id == "whole" else "train/step"
    with opened(tracker, RunName("g", id, id, job_type=job, axis=axis), folder, {"seed": 0, "sampler": {}}) as log:
        for step in (1, 2):
            log.curve(step, {"loss": 1.0 / step})
        while id == "left-alone" and not (folder / "gone").exists():  # the server
            time.sleep(0.02)
        log.metrics({"vendi_score": 3.0})
        if (rows := len(id.removeprefix("rows-"))) < len(id):
            receipts = [{"row": row, "joined": 0} for row in range(rows)]
            write = functools.partial(write_subset, receipts=receipts, line=lambda row: '{"a": 1}')
            log.data(RoundData("toy", {"fingerprint": "f"}, {"toy": "no/such"}, rows, write))
"""


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def environment(tmp_path: Path, url: str, **more: str) -> dict[str, str]:
    """Of someone whose W&B is at `url` and who has a key."""
    places = {f"WANDB_{name}_DIR": str(tmp_path / "wandb-home") for name in ("CACHE", "CONFIG", "DATA")}
    key = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": url, "HOME": str(tmp_path)}
    # WANDB_SERVICE is the process that logs for an earlier test's runs, whose ids it would still hold.
    cleared = {name: value for name, value in os.environ.items() if name not in ("WANDB_MODE", "WANDB_SERVICE")}
    return {**cleared, **places, **key, "WANDB_SILENT": "true", **more}


def log_to(tmp_path: Path, url: str, *arguments: str, **more: str) -> str:
    """Log from a process of its own; what it said."""
    done = subprocess.run(
        [sys.executable, "-c", LOG, str(tmp_path), *arguments],
        env=environment(tmp_path, url, **more), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def server() -> Iterator[WandbServer]:
    server = WandbServer()
    yield server
    server.close()


@pytest.mark.parametrize("off", [{"WANDB_MODE": "disabled"}, {"WANDB_MODE": "Disabled"}, {"WANDB_DISABLED": "true"}])
@pytest.mark.parametrize("tracker", [Wandb(), Wandb(mode="online"), NoLogger()])
def test_a_logger_that_is_switched_off_writes_nothing(tmp_path, monkeypatch, tracker, off):
    monkeypatch.chdir(tmp_path)
    for name, value in ({} if isinstance(tracker, NoLogger) else off).items():
        monkeypatch.setenv(name, value)
    name = RunName("g", "a", "a", job_type="round", axis="train/step")
    with opened(Careful(tracker), name, tmp_path / "r", {}) as log:
        log.curve(1, {"loss": 1.0})
        log.metrics({"vendi_score": 3.0})
        log.table("chosen", ["row"], [[1]])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def csvs(evolution, tmp_path_factory):
    this = evolution(tmp_path_factory.mktemp("csv"), tracker=CSV(), schedule=Schedule(1, 6, 4))
    evolve(this)
    return this


def test_csv_files_hold_what_the_run_folder_says(csvs):
    folder = csvs.run.path / "csv"
    for t in (0, 1):
        place = csvs.run.round(t).path
        curve = [
            {name: float(value) for name, value in row.items()} for row in rows(folder / f"round-{t:02d}/curve.csv")
        ]
        expected = [
            {f"train/{name}": value for name, value in line.items()} for line in read_jsonl(place / "training.jsonl")
        ]
        assert curve == expected
        (metrics,) = rows(folder / f"round-{t:02d}/metrics.csv")
        score = read_json(place / "scores.json")["small"]["relative_score"]
        found = {**read_json(place / "round.json")["metrics"], "round": t, "relative_score/small": score}
        assert {name: float(metrics[name]) for name in found} == found
    chosen = rows(folder / "round-00/chosen.csv")
    assert [int(row["row"]) for row in chosen] == read_json(csvs.run.round(0).path / "round.json")["chosen"]
    assert not (folder / "round-01/chosen.csv").exists(), "the last round chooses none"


def test_the_evolutions_csv_has_a_line_a_round(csvs):
    lines = rows(csvs.run.path / "csv/evolution/curve.csv")
    assert [int(line["pool_size"]) for line in lines] == [6, 10]
    for t, line in enumerate(lines):
        metrics = read_json(csvs.run.round(t).path / "round.json")["metrics"]
        assert {name: float(line[name]) for name in metrics} == metrics


def test_a_csv_run_that_is_logged_again_is_there_once_and_one_that_is_judged_later_keeps_its_curve(tmp_path):
    for from_start, score in ((True, 1.0), (True, 2.0), (False, 3.0)):
        with opened(CSV(), RunName("g", "round-00", "id", from_start=from_start), tmp_path, {}) as log:
            if from_start:
                log.curve(1, {"loss": score})
            log.metrics({"score": score})
    assert rows(tmp_path / "csv/round-00/curve.csv") == [{"train/step": "1", "train/loss": "2.0"}]
    assert rows(tmp_path / "csv/round-00/metrics.csv") == [{"score": "3.0"}]


def test_tensorboard_reads_what_was_logged(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # logged again: there once
        with opened(TensorBoard(), RunName("g", "round-00", "id"), tmp_path, {"seed": 0}) as log:
            for step in (1, 2):
                log.curve(step, {"loss": 1.0 / step})
            log.metrics({"vendi_score": 3.0, "pool_size": 20})
            log.table("chosen", ["row"], [[7], [8]])
    events = EventAccumulator(str(tmp_path / "tensorboard/round-00"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 1.0), (2, 0.5)]
    assert [(e.step, e.value) for e in events.Scalars("vendi_score")] == [(20, 3.0)]
    assert sorted(events.Tags()["tensors"]) == ["chosen/text_summary", "config/text_summary"]


@pytest.mark.skipif(find_spec("tensorboard") is not None, reason="the package is installed")
def test_tensorboard_without_its_package_names_the_extra():
    with pytest.raises(InputError, match=r"pip install 'diverseevol\[tensorboard\]'"):
        TensorBoard()


def test_an_offline_run_is_uploaded_by_the_documented_command(tmp_path, server):
    log_to(tmp_path, NOWHERE, "offline", "round-00")
    sync(tmp_path, server.url)
    sent = server.run("round-00")["upserts"][0]
    assert (sent["groupName"], sent["jobType"], sent["project"]) == ("g", "round", "diverseevol")
    assert json.loads(sent["config"])["seed"]["value"] == 0
    assert [row["train/loss"] for row in server.history("round-00") if "train/loss" in row] == [1.0, 0.5]
    assert json.loads(server.run("round-00")["summary"])["vendi_score"] == 3.0
    sync(tmp_path, server.url)
    assert len(server.history("round-00")) == 3, "what was uploaded is not uploaded again"


def test_two_offline_folders_of_one_run_become_one_run_in_order_of_start(tmp_path, server):
    """What docs/wandb.md says of `wandb sync`: it resumes, so that the second follows the first."""
    for _ in range(2):
        log_to(tmp_path, NOWHERE, "offline", "round-00")
        for folder in (tmp_path / "wandb").glob("offline-run-*"):
            folder.rename(folder.with_name(f"kept-{folder.name}"))  # out of the reach of what supersedes it
        time.sleep(1.1)  # folders are named by the second
    for folder in (tmp_path / "wandb").glob("kept-*"):
        folder.rename(folder.with_name(folder.name.removeprefix("kept-")))
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
    sync(tmp_path, server.url)
    assert list(server.runs) == ["round-00"]
    history = server.history("round-00")
    assert [row["train/step"] for row in history if "train/step" in row] == [1, 2, 1, 2]
    assert [row["_step"] for row in history] == list(range(6))


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_rows_that_are_logged_again_are_the_same_version_of_one_artifact_made_of_the_source(tmp_path, server, mode):
    """The first round twice, as a round that was cut off after its upload; its lineage, also where it was offline."""
    for ids in ("rows-a,rows-bb", "rows-a"):
        assert log_to(tmp_path, server.url if mode == "online" else NOWHERE, mode, ids) == ""
        if mode == "offline":
            sync(tmp_path, server.url)
            time.sleep(1.1)  # folders are named by the second
    source, *subsets = sorted(server.artifacts.values(), key=lambda version: version["artifactTypeName"])
    assert (source["artifactCollectionName"], source["artifactTypeName"]) == ("toy", "dataset")
    assert set(source["used"]) == {"rows-a", "rows-bb"}
    assert source["committed"]
    assert len(subsets) == 2
    for id, rows in (("rows-a", 1), ("rows-bb", 2)):
        (version,) = (version for version in subsets if id in version["made"])
        assert (version["artifactCollectionName"], version["artifactTypeName"]) == ("g", "subset")
        assert set(version["named"]) == {id, "latest"}
        assert version["committed"]
        assert version["files"]["selected.jsonl"] == b'{"a": 1}\n' * rows
        assert version["files"]["receipts.jsonl"].count(b"\n") == rows
    left = {file.name for file in tmp_path.glob("wandb/*/artifacts/*")}
    assert left == ({"source.json", "selected.jsonl", "receipts.jsonl"} if mode == "offline" else set())


def sync(folder: Path, url: str) -> None:
    """The command of docs/wandb.md."""
    offline = sorted(map(str, folder.glob("**/wandb/offline-run-*")))
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *offline],
        env=environment(folder, url), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_an_online_run_reaches_its_server(tmp_path, server):
    assert log_to(tmp_path, server.url, "online", "round-00") == ""
    assert [row["train/step"] for row in server.history("round-00") if "train/step" in row] == [1, 2]


def test_a_server_out_of_reach_is_one_warning_and_offline_files(tmp_path):
    said = log_to(tmp_path, NOWHERE, "online", "round-00,round-01,round-02")
    assert said.count("W&B is out of reach") == 1
    assert len(said.splitlines()) == 1
    names = {folder.name.split("-", 3)[-1] for folder in (tmp_path / "wandb").glob("offline-run-*")}
    assert names == {"round-00", "round-01", "round-02"}


def test_a_server_that_goes_away_is_waited_for_no_longer_than_said(tmp_path, server):
    process = subprocess.Popen(
        [sys.executable, "-c", LOG, str(tmp_path), "online", "left-alone"],
        env=environment(tmp_path, server.url), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not server.runs and time.monotonic() < deadline:
        time.sleep(0.05)
    server.close()
    (tmp_path / "gone").touch()
    began = time.monotonic()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert time.monotonic() - began < 60
    (line,) = said.splitlines()
    assert "the logger failed" in line
    assert list((tmp_path / "wandb").glob("run-*-left-alone/run-left-alone.wandb")), "what was not sent is on disk"


def test_nobody_logged_in_is_one_warning_and_offline_files(tmp_path, server):
    said = log_to(tmp_path, server.url, "online", "round-00", WANDB_API_KEY="")
    assert "W&B is out of reach (No API key configured" in said
    assert len(list((tmp_path / "wandb").glob("offline-run-*-round-00"))) == 1


def test_an_agents_run_is_the_evolution_and_no_round(tmp_path, server):
    point = tmp_path / "point.yaml"
    point.write_text("wandb_version: 1\nsampler:\n  value: kcenter\n")
    agent = {"WANDB_SWEEP_ID": "thesweep", "WANDB_RUN_ID": "theagents", "WANDB_SWEEP_PARAM_PATH": str(point)}
    assert log_to(tmp_path, server.url, "online", "round-00,whole", **agent, WANDB_PROJECT="sweeps") == ""
    assert sorted(server.runs) == ["round-00", "theagents"]
    of_round, of_sweep = server.run("round-00")["upserts"][0], server.run("theagents")["upserts"][0]
    assert (of_round["sweep"], of_round["project"]) == (None, "diverseevol")
    assert (of_sweep["sweep"], of_sweep["project"]) == ("thesweep", "sweeps")
    assert json.loads(of_sweep["config"])["sampler"]["value"] == "kcenter"


@pytest.mark.slow
def test_an_evolution_whose_wandb_is_out_of_reach_is_whole(tmp_path):
    done = subprocess.run(
        [
            sys.executable, "-m", "diverseevol", "evolve", f"folder={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}",
            "logger.mode=online", *SMALL,
        ],
        env=environment(tmp_path, NOWHERE), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stderr.split()).count("W&B is out of reach") == 1
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run/selected.jsonl").exists()
    assert len(list((tmp_path / "run/wandb").glob("offline-run-*"))) == 3


@pytest.mark.slow
def test_what_is_judged_later_is_logged_with_all_that_was_known(tmp_path):
    """The evolution's run is replaced by one that has the scores, and its configuration is still there."""
    run = tmp_path / "outputs" / "a" / "b" / "c"
    common = [f"cache={tmp_path / 'cache'}", "logger=wandb"]
    for arguments in (["evolve", f"folder={run}", "judge=none", *SMALL], ["judge", f"folder={run}", "judge=gold"]):
        done = subprocess.run(
            [sys.executable, "-m", "diverseevol", *arguments, *common],
            env=environment(tmp_path, NOWHERE), capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    called = RunFolder(run, read_json(run / "fingerprint.json"))
    (whole,) = (run / "wandb").glob(f"offline-run-*-{called.overview_id}")
    said = inspected(whole)
    points = [record["item"] for record in said["history"] if "round" in record["item"]]
    for t, point in enumerate(points):
        score = read_json(run / f"rounds/{t:02d}/scores.json")["lab_natural"]["relative_score"]
        assert (point["round"], point["relative_score/lab_natural"]) == (t, pytest.approx(score))
    assert len(points) == 2
    config = said["run"][0]["config"]["update"]
    assert (config["choices"]["sampler"], config["seed"]) == ("kcenter", 0)
    assert config["arm"].startswith("kcenter-iterative-")
    assert config["fingerprint"] == called.fingerprint
    assert "torch" in config["provenance"]
    _, later = sorted((run / "wandb").glob(f"offline-run-*-{called.round_id(1)}"))
    (metrics,) = (record["item"] for record in inspected(later)["history"] if "vendi_score" in record["item"])
    assert {"relative_score/lab_natural", "coverage_radius", "pool_size"} <= set(metrics)
