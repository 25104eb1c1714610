import base64
import dataclasses
import functools
import hashlib
import json
import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diverseevol.evolution.loop import evolve
from diverseevol.options import Schedule
from diverseevol.runs.subset import write_subset
from diverseevol.runs.trackers import wandb_tracker
from diverseevol.runs.trackers.csv_tracker import CSV
from diverseevol.runs.trackers.wandb_tracker import Wandb
from diverseevol.runs.tracking import KeepsData, NoLogger, RoundData, RunName, opened
from diverseevol.storage.files import read_json, read_jsonl

CONFIG = {"seed": 0, "sampler": {"metric": "euclidean"}, "versions": {"torch": "2"}}
ONCE = Schedule(1, 6, 4)


def inspected(folder: Path) -> dict[str, list[dict]]:
    """What an offline W&B run says, by type of record; read by W&B's own reader."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said: dict[str, list[dict]] = {}
    for line in done.stdout.splitlines():
        record = json.loads(line)
        said.setdefault(record["type"], []).append(record[record["type"]])
    return said


def items(said: dict[str, list[dict]]) -> list[dict]:
    return [record["item"] for record in said["history"]]


def runs(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*"))


def of_id(folder: Path, id: str) -> Path:
    (found,) = (run for run in runs(folder) if run.name.endswith(f"-{id}"))
    return found


def plain(said: dict[str, list[dict]]) -> list[dict]:
    """The history without W&B's own keys, which tell the time."""
    return [{key: value for key, value in item.items() if not key.startswith("_")} for item in items(said)]


@pytest.fixture(scope="module")
def logged(evolution, tmp_path_factory):
    """The folder of an evolution that was logged, and what its two rounds said."""
    this = evolution(tmp_path_factory.mktemp("tracked"), tracker=Wandb("a-project"), schedule=ONCE, config=CONFIG)
    evolve(this)
    said = {run["run"][0]["display_name"]: run for run in map(inspected, runs(this.run.path))}
    return this, said


def test_every_round_is_a_run_of_its_own_that_was_closed(logged):
    this, said = logged
    assert len(runs(this.run.path)) == 3
    assert sorted(said) == sorted(["round-00", "round-01", this.run.name])
    for t in (0, 1):
        (run,) = said[f"round-{t:02d}"]["run"]
        assert run["run_id"] == this.run.round_id(t)
        assert run["run_group"] == this.run.name
        assert (run["job_type"], run["project"]) == ("round", "a-project")
        assert {key: run["config"]["update"][key] for key in CONFIG} == CONFIG
        assert said[f"round-{t:02d}"]["exit"][0]["exit_code"] == 0


def test_a_run_holds_the_rounds_metrics_and_scores_once_and_in_its_summary(logged):
    this, said = logged
    for t in (0, 1):
        folder = this.run.round(t).path
        scores = read_json(folder / "scores.json")["small"]
        expected = {"round": t, **read_json(folder / "round.json")["metrics"]}
        expected |= {f"{name}/small": scores[name] for name in ("relative_score", "win", "tie", "lose")}
        with_metrics = [item for item in items(said[f"round-{t:02d}"]) if "vendi_score" in item]
        assert len(with_metrics) == 1
        summary: dict = {}
        for record in said[f"round-{t:02d}"]["summary"]:
            summary |= record["update"]
        for name, value in expected.items():
            assert with_metrics[0][name] == pytest.approx(value), name
            assert summary[name] == pytest.approx(value), name


def test_the_training_curve_has_a_step_axis_of_its_own(logged):
    this, said = logged
    for t in (0, 1):
        curve = [item for item in items(said[f"round-{t:02d}"]) if "train/loss" in item]
        points = [
            {"step": item["train/step"], "loss": item["train/loss"], "learning_rate": item["train/learning_rate"]}
            for item in curve
        ]
        expected = read_jsonl(this.run.round(t).path / "training.jsonl")
        assert [point["step"] for point in points] == [1, 2, 3]
        for point, line in zip(points, expected, strict=True):
            assert point == pytest.approx(line)
        axes = {metric.get("glob_name"): metric.get("step_metric") for metric in said[f"round-{t:02d}"]["metric"]}
        assert axes["train/*"] == "train/step"


def test_the_rows_chosen_are_a_table_and_the_last_round_has_none(logged):
    this, _ = logged
    (file,) = of_id(this.run.path, this.run.round_id(0)).glob("files/media/table/chosen_*.table.json")
    table = json.loads(file.read_text())
    receipt = read_jsonl(this.run.round(0).path / "chosen.jsonl")
    assert table["columns"] == list(receipt[0])
    assert table["data"] == [list(line.values()) for line in receipt]


def test_a_round_that_is_taken_up_again_is_logged_whole_under_the_same_id(evolution, tmp_path):
    this = evolution(tmp_path, tracker=Wandb(), schedule=Schedule(0, 6, 0))
    evolve(this)
    first = inspected(of_id(tmp_path, this.run.round_id(0)))
    (tmp_path / "rounds/00/round.json").unlink()
    evolve(this)
    (again,) = (run for run in map(inspected, runs(tmp_path)) if run["run"][0]["job_type"] == "round")
    assert again["run"][0]["run_id"] == this.run.round_id(0)

    assert plain(first)
    assert plain(again) == plain(first)


def points(this) -> list[dict]:
    """What the run of the whole evolution should hold, from the run folder."""
    expected = []
    for t in range(this.schedule.rounds + 1):
        folder = this.run.round(t).path
        done, scores = read_json(folder / "round.json"), read_json(folder / "scores.json")["small"]
        point = {"round": t, **done["metrics"], "seconds": sum(done["seconds"].values())}
        point["peak_memory_gb"] = max(done["peak_memory"].values()) / 1e9
        expected.append(point | {f"{name}/small": scores[name] for name in ("relative_score", "win", "tie", "lose")})
    return expected


def test_an_evolution_is_one_run_with_a_point_a_round_over_pool_size(logged):
    this, said = logged
    run = said[this.run.name]
    (about,) = run["run"]
    assert about["run_id"] == this.run.overview_id
    assert (about["run_group"], about["job_type"]) == (this.run.name, "evolution")
    assert {key: about["config"]["update"][key] for key in CONFIG} == CONFIG
    *found, table = plain(run)
    assert [point["pool_size"] for point in found] == [6, 10]
    for point, expected in zip(found, points(this), strict=True):
        assert point == pytest.approx(expected)
    assert any(name.startswith("chosen") for name in table)
    (file,) = of_id(this.run.path, this.run.overview_id).glob("files/media/table/chosen_*.table.json")
    columns, receipt = json.loads(file.read_text())["columns"], read_jsonl(this.run.round(0).path / "chosen.jsonl")
    assert columns == ["round", *receipt[0]]
    assert json.loads(file.read_text())["data"] == [[0, *line.values()] for line in receipt]
    assert {metric.get("glob_name"): metric.get("step_metric") for metric in run["metric"]}["*"] == "pool_size"


def test_an_evolution_that_is_whole_is_not_logged_again_and_one_that_grew_is_with_all_its_rounds(evolution, tmp_path):
    this = evolution(tmp_path, tracker=Wandb(), schedule=ONCE)
    evolve(this)
    before = runs(tmp_path)
    evolve(this)
    assert runs(tmp_path) == before
    grown = evolution(tmp_path, tracker=Wandb(), schedule=Schedule(2, 6, 4))
    evolve(grown)
    *whole, _ = plain(inspected(of_id(tmp_path, this.run.overview_id)))
    assert [point["pool_size"] for point in whole] == [6, 10, 14]
    for point, expected in zip(whole, points(grown), strict=True):
        assert point == pytest.approx(expected)


def test_what_was_uploaded_already_stays_when_a_run_is_logged_again(tmp_path):
    run = RunName("g", "round-00", "theid")
    for synced in (False, True, False):
        with opened(Wandb(), run, tmp_path, {}) as log:
            log.metrics({"vendi_score": 1.0})
        if synced:
            uploaded = of_id(tmp_path, "theid")
            (uploaded / "run-theid.wandb.synced").touch()
        time.sleep(1.1)  # W&B names folders by the second
    assert uploaded in runs(tmp_path)
    assert len(runs(tmp_path)) == 2


def artifacts(said: dict[str, list[dict]]) -> dict[str, dict]:
    """The artifacts of a run, by type, but for those that W&B makes of tables."""
    return {record["type"]: record for record in said["artifact"] if record["type"] != "run_table"}


def test_a_rounds_rows_are_a_version_of_the_evolutions_artifact_made_of_the_data_set(logged):
    this, said = logged
    for t in (0, 1):
        found = artifacts(said[f"round-{t:02d}"])
        source, subset = found["dataset"], found["subset"]
        assert source["name"] == this.dataset.name
        assert source["use_after_commit"], "the run is said to use it once it is there"
        assert json.loads(source["metadata"])["fingerprint"] == this.dataset.fingerprint
        assert subset["name"] == re.sub(r"[^\w.-]+", "-", this.run.name)
        assert set(subset["aliases"]) == {f"round-{t:02d}", "latest"}
        assert json.loads(subset["metadata"])["rows"] == [6, 10][t]
        files = {entry["path"]: Path(entry["local_path"]) for entry in subset["manifest"]["contents"]}
        assert all(file.is_relative_to(of_id(this.run.path, this.run.round_id(t))) for file in files.values())
        rows = read_json(this.run.round(t).path / "round.json")["trained_on"]
        assert [receipt["row"] for receipt in read_jsonl(files["receipts.jsonl"])] == rows
        for name, file in files.items():
            kept = (this.run.path / name).read_text().splitlines()
            assert file.read_text().splitlines() == kept[: len(rows)]
            assert len(rows) < len(kept) or t == 1
    assert "artifact" not in said[this.run.name] or not artifacts(said[this.run.name])


def rows_of(folder: Path, **given: object) -> RoundData:
    """A row of a file, as a round is trained on it."""
    file = folder / "rows.jsonl"
    file.write_text('{"a": 1}\n')
    write = functools.partial(write_subset, receipts=[{"row": 2, "joined": 0}], line=lambda row: '{"a": 3}')
    return dataclasses.replace(RoundData("my rows", {"fingerprint": "f"}, {"a": str(file)}, 1, write), **given)


def log_rows(folder: Path, tracker: Wandb, *data: RoundData) -> dict[str, dict]:
    """Log rounds, and the artifacts of the last."""
    for t, of_round in enumerate(data):
        with opened(tracker, RunName("group", f"round-{t:02d}", f"id-{t}"), folder, {}) as log:
            assert isinstance(log, KeepsData)
            log.data(of_round)
            log.metrics({"vendi_score": 1.0})
    said = inspected(of_id(folder, f"id-{len(data) - 1}"))
    assert "vendi_score" in items(said)[0]
    return artifacts(said) if "artifact" in said else {}


def test_a_source_that_is_a_file_is_referred_to_and_identified_but_not_copied(tmp_path):
    source = log_rows(tmp_path, Wandb(), rows_of(tmp_path, places={"a b": str(tmp_path / "rows.jsonl"), "hub": "x/y"}))
    entries = {entry["path"]: entry for entry in source["dataset"]["manifest"]["contents"]}
    assert source["dataset"]["name"] == "my-rows"
    assert set(entries) == {"source.json", "sources/0-a-b"}
    assert entries["sources/0-a-b"]["ref"] == (tmp_path / "rows.jsonl").as_uri()
    digest = base64.b64encode(hashlib.md5((tmp_path / "rows.jsonl").read_bytes()).digest()).decode()
    assert entries["sources/0-a-b"]["digest"] == digest
    assert json.loads(source["dataset"]["metadata"])["places"]["hub"] == "x/y"


def test_artifacts_can_be_switched_off(tmp_path):
    assert log_rows(tmp_path, Wandb(artifacts=False), rows_of(tmp_path)) == {}


def test_artifacts_that_fail_are_one_warning_and_the_rest_is_logged(tmp_path, caplog):
    def fail(folder: Path) -> None:
        raise OSError("no room")

    with caplog.at_level(logging.WARNING):
        found = log_rows(tmp_path, Wandb(), *[rows_of(tmp_path, write=fail)] * 2)
    assert found == {}
    (warning,) = (record for record in caplog.records if not record.name.startswith("wandb"))
    assert warning.getMessage() == "W&B artifacts cannot be logged (no room); going on without them"


def test_rows_beyond_a_limit_are_left_out_of_the_artifact_and_their_receipts_are_not(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(wandb_tracker, "LARGEST", 40)
    write = functools.partial(write_subset, receipts=[{"row": 2, "joined": 0}], line=lambda row: "1" * 41)
    with caplog.at_level(logging.WARNING):
        found = log_rows(tmp_path, Wandb(), rows_of(tmp_path, write=write))
    assert [entry["path"] for entry in found["subset"]["manifest"]["contents"]] == ["receipts.jsonl"]
    (warning,) = (record for record in caplog.records if not record.name.startswith("wandb"))
    assert (
        "selected.jsonl of round-00 is 42 bytes long and no part of its W&B artifact, which takes 40"
        in warning.getMessage()
    )


class Failing(NoLogger):
    """A tracker that fails in one call."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.calls: list[str] = []

    def open(self, run, folder, config):
        self.fail("open")
        log = super().open(run, folder, config)
        for method in ("curve", "metrics", "table", "close"):
            setattr(log, method, lambda *given, method=method: self.fail(method))
        return log

    def fail(self, method: str) -> None:
        self.calls.append(method)
        if method == self.method:
            raise RuntimeError(f"no {method} today")


@pytest.mark.parametrize("method", ["open", "curve", "metrics", "table", "close"])
def test_a_logger_that_fails_is_left_alone_after_one_warning(method, tmp_path, caplog):
    tracker = Failing(method)
    with caplog.at_level(logging.WARNING), opened(tracker, RunName("g", "round-00", "id"), tmp_path, {}) as log:
        for step in (1, 2):
            log.curve(step, {"loss": 1.0})
        log.metrics({"vendi_score": 2.0})
        log.table("chosen", ["row"], [[1]])
    (warning,) = caplog.records
    assert f"no {method} today" in warning.getMessage()
    assert "the run folder has every fact" in warning.getMessage()
    assert tracker.calls.count(method) == 1
    assert tracker.calls[-1] == method  # and nothing more was asked of it


def test_an_evolution_does_not_depend_on_its_logger(evolution, tmp_path, caplog):
    plain = evolve(evolution(tmp_path / "plain", schedule=ONCE))
    with caplog.at_level(logging.WARNING):
        failing = evolve(evolution(tmp_path / "failing", schedule=ONCE, tracker=Failing("curve")))
    assert [(a.trained_on, a.chosen, a.metrics) for a in plain] == [
        (b.trained_on, b.chosen, b.metrics) for b in failing
    ]
    assert len(caplog.records) == 1, "said once for all rounds"


@pytest.mark.parametrize("tracker", [Wandb(), CSV()])
def test_a_place_that_cannot_be_written_to_is_a_warning(tracker, tmp_path, caplog):
    for name in ("wandb", "csv"):  # a file where the folder should be: a closed door to root, too
        (tmp_path / name).write_text("")
    run = RunName("g", "round-00", "id")
    with caplog.at_level(logging.WARNING), opened(tracker, run, tmp_path, {"seed": 0}) as log:
        log.metrics({"vendi_score": 1.0})
    (warning,) = (record for record in caplog.records if not record.name.startswith("wandb"))
    assert "the run folder has every fact" in warning.getMessage()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["csv", "wandb"]


def test_a_run_is_closed_when_the_round_fails(tmp_path):
    tracker = Failing("nothing")
    with pytest.raises(ZeroDivisionError), opened(tracker, RunName("g", "round-00", "id"), tmp_path, {}):
        raise ZeroDivisionError
    assert tracker.calls == ["open", "close"]


def test_no_tracker_logs_nowhere(tmp_path):
    with opened(NoLogger(), RunName("g", "round-00", "id"), tmp_path, {}) as log:
        log.metrics({"vendi_score": 1.0})
        log.table("chosen", ["row"], [[1]])
    assert not list(tmp_path.iterdir())
