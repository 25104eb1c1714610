import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diverseevol.geometry.projections import PROJECTIONS, map_name, tsne_map


def clusters(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Forty clusters around a common mean, so that two principal directions cannot tell them all apart."""
    which = np.arange(240) % 40
    centres = 5 * np.eye(40, 60)
    return (centres[which] + 0.1 * rng.normal(size=(240, 60)) + 100).astype(np.float32), which


def nearest_is_alike(xy: np.ndarray, which: np.ndarray) -> float:
    d = np.linalg.norm(xy[:, None] - xy[None], axis=-1) + np.diag(np.full(len(xy), np.inf))
    return float((which[d.argmin(axis=1)] == which).mean())


def test_tsne_keeps_neighbours_together_where_the_pca_cannot():
    X, which = clusters(np.random.default_rng(0))
    maps = {name: project(X) for name, project in PROJECTIONS.items()}
    assert nearest_is_alike(maps["tsne"], which) == 1
    assert nearest_is_alike(maps["pca"], which) < 0.9
    for xy in maps.values():
        assert xy.shape == (240, 2)
        assert xy.dtype == np.float32


def test_the_same_rows_give_the_same_map():
    X, _ = clusters(np.random.default_rng(1))
    np.testing.assert_array_equal(tsne_map(X), tsne_map(X))


@pytest.mark.parametrize("X", [np.zeros((3, 5)), np.ones((50, 5)), np.eye(2), np.arange(12.0).reshape(-1, 1)])
def test_what_has_nothing_to_arrange_still_has_a_map(X):
    xy = tsne_map(X)
    assert xy.shape == (len(X), 2)
    assert np.isfinite(xy).all()


def test_each_projection_has_a_file_of_its_own():
    assert [map_name(name) for name in ("pca", "tsne", "mine")] == ["map.npy", "map-tsne.npy", "map-mine.npy"]


@pytest.mark.slow
def test_a_run_that_is_whole_gets_a_further_map_which_the_report_shows(tmp_path: Path):
    def diverseevol(*words: str) -> str:
        words = (sys.executable, "-m", "diverseevol", *words)
        return subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True).stderr

    small = (
        "evolve", "data=lab", "data.size=80", "model=tiny", "benchmark=lab", "logger=none", "tuning.steps=1",
        "schedule=iterative", "schedule.rounds=1", "schedule.seed_size=5", "schedule.step_size=5", "folder=runs/one",
    )  # fmt: skip
    diverseevol(*small)
    assert not (tmp_path / "runs/one/map-tsne.npy").exists()
    assert '"reference"' in (tmp_path / "runs/one/questions/lab.jsonl").read_text()  # for the report, too
    assert "nothing to do: all rounds are complete" in diverseevol(*small, "projection=tsne")
    one, other = (np.load(tmp_path / "runs/one" / name) for name in ("map.npy", "map-tsne.npy"))
    assert one.shape == other.shape == (80, 2)
    assert not np.allclose(one, other)
    diverseevol("report", "folder=runs", "projection=tsne")
    assert "t-SNE of the foundation" in (tmp_path / "runs/report/figures/map.svg").read_text()
