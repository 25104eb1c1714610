"""The W&B dashboard: built and checked without a server, saved to one that only keeps it."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from wandb_server import WandbServer

ROOT = Path(__file__).parents[1]
needed = pytest.mark.skipif(find_spec("wandb_workspaces") is None, reason="the extra `dashboard` is not installed")


def command(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    places = {f"WANDB_{name}_DIR": str(tmp_path) for name in ("CACHE", "CONFIG", "DATA")}
    inherited = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    return subprocess.run(
        [sys.executable, "-m", "diverseevol.report.dashboard", *arguments],
        env={**inherited, **places, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def panels(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for section in spec["section"]["panelBankConfig"]["sections"] for panel in section["panels"]]


@needed
def test_the_dashboard_draws_every_measure_over_training_rows_a_line_a_sampler_with_a_band(tmp_path):
    server = WandbServer()
    try:
        key = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.url}
        done = command(tmp_path, "me", "mine", "--benchmarks", "vicuna,koala", **key)
    finally:
        server.close()
    assert done.returncode == 0, done.stderr
    assert "/me/mine" in done.stdout
    (view,) = server.views
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("me", "mine", "diverseevol")
    spec = json.loads(view["spec"])
    curves = [panel["config"] for panel in panels(spec) if panel["viewType"] == "Run History Line Plot"]
    drawn = {curve["metrics"][0] for curve in curves}
    # The names that an evolution's run logs: tests/test_tracking.py reads them back.
    assert {"relative_score/vicuna", "relative_score/koala", "vendi_score", "coverage_radius", "train_loss"} <= drawn
    assert {"held_out_loss", "reference_loss/vicuna", "reference_loss/koala"} <= drawn
    (losses,) = (s for s in spec["section"]["panelBankConfig"]["sections"] if s["name"].startswith("Losses"))
    assert not losses["isOpen"]  # there may be none
    assert "lower is better; a warning light, not a judge" in losses["name"]
    for curve in curves:
        assert (curve["xAxis"], curve["groupBy"]) == ("pool_size", "arm.value")
        assert (curve["groupAgg"], curve["groupArea"]) == ("mean", "minmax")
    (runs,) = spec["section"]["runSets"]
    assert [(one["key"]["name"], one["value"]) for one in runs["filters"]["filters"]] == [("jobType", "evolution")]
    assert [one["name"] for one in runs["grouping"]] == ["arm.value"]
    kinds = {panel["viewType"] for panel in panels(spec)}
    assert {"Bar Chart", "Scatter Plot", "Run Comparer", "Weave"} <= kinds
    assert any('"chosen"' in json.dumps(panel) for panel in panels(spec) if panel["viewType"] == "Weave")


@needed
def test_the_dashboard_can_be_checked_without_a_server(tmp_path):
    done = command(tmp_path, "me", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing was saved" in done.stdout


@needed
def test_a_dashboard_that_cannot_be_saved_is_a_sentence(tmp_path):
    done = command(tmp_path, "me", WANDB_API_KEY="", WANDB_BASE_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("diverseevol: "))
    assert "W&B did not save the dashboard" in line
    assert "Traceback" not in done.stderr


def test_without_its_package_the_extra_is_named(tmp_path):
    (tmp_path / "wandb_workspaces.py").write_text("raise ImportError\n")
    done = command(tmp_path, "me", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 2
    assert (
        done.stderr
        == "diverseevol: the dashboard needs a package that is not installed: pip install 'diverseevol[dashboard]'\n"
    )
