"""K-Center by a running minimum on a CUDA device picks what the greedy algorithm in float64 does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from kcenter_cases import DATA, clustered, greedy, scattered

from diverseevol.errors import InputError
from diverseevol.geometry import farthest_first_cuda
from diverseevol.geometry.farthest_first import farthest_first
from diverseevol.samplers.base import Selection, choose
from diverseevol.samplers.features import Features
from diverseevol.samplers.kcenter import KCenter

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("size", [0, 1, 40])
def test_picks_are_those_of_a_greedy_algorithm_in_float64(
    device: torch.device, data: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = DATA[data]
    monkeypatch.setattr(farthest_first_cuda, "BLOCK_ELEMENTS", 128 * X.shape[1])
    taken = scattered(len(X), size)
    rows, distance = farthest_first_cuda.running_minimum(X, taken, 60, None, device)
    expected, expected_distance = greedy(X, taken, 60)
    assert rows.tolist() == expected
    np.testing.assert_allclose(distance, expected_distance, rtol=1e-9)


def select(device: str, X: np.ndarray, taken: np.ndarray, n: int, tokens: np.ndarray | None = None) -> Selection:
    features = Features(np.ones(len(X), dtype=np.int64) if tokens is None else tokens, X)
    return choose(KCenter(device=device), features, taken, n, np.random.default_rng(0))


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_mapped_file_is_read_from_where_it_lies(tmp_path: Path, kind: type) -> None:
    X = np.empty((20_000, 96), dtype=kind)
    X[:] = clustered(20_000, 96) - 2000
    np.save(tmp_path / "E.npy", X)
    mapped, taken = np.load(tmp_path / "E.npy", mmap_mode="r"), scattered(20_000, 300)
    ours, theirs = (select(device, mapped, taken, 200) for device in ("cuda", "cpu"))
    assert ours.rows.tolist() == theirs.rows.tolist()
    np.testing.assert_allclose(ours.score, theirs.score, rtol=1e-9)


@pytest.mark.parametrize("left", [0, 1, 5])
def test_it_ends_where_the_rows_end(left: int) -> None:
    X = DATA["many ties"]
    taken = np.arange(len(X)) >= left
    for n in range(left + 1):
        ours, theirs = (select(device, X, taken, n) for device in ("cuda", "cpu"))
        assert ours.rows.tolist() == theirs.rows.tolist()
        assert len(ours.rows) == n


def test_ineligible_rows_are_neither_picked_nor_centres() -> None:
    X, taken = DATA["clustered"], scattered(700, 90)
    tokens = np.where(np.arange(700) % 3, 1, 0)
    taken |= tokens == 0
    ours, theirs = (select(device, X, taken, 40, tokens) for device in ("cuda", "cpu"))
    assert ours.rows.tolist() == theirs.rows.tolist()


def test_bad_rows_and_too_many_rows_are_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    X, taken = DATA["clustered"].copy(), scattered(700, 5)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    with pytest.raises(InputError, match=r"sampler.device is cuda, which has 0 MiB free .* sampler.device=cpu"):
        select("cuda", X, taken, 3)
    monkeypatch.undo()
    X[17, 3] = np.nan
    with pytest.raises(InputError, match="row 17"):
        select("cuda", X, taken, 3)


def test_tf32_and_other_settings_of_torch_change_no_pick(device: torch.device) -> None:
    X, taken = clustered(3000, 64), scattered(3000, 50)
    expected = farthest_first(X, taken, 100)[0].tolist()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert farthest_first_cuda.running_minimum(X, taken, 100, None, device)[0].tolist() == expected
        assert farthest_first(X, taken, 100)[0].tolist() == expected
    finally:
        torch.set_float32_matmul_precision(before)
