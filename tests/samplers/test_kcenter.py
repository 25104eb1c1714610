"""K-Center picks what a greedy algorithm picks that knows all distances in float64."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kcenter_cases import DATA, clustered, greedy, scattered

from diverseevol.errors import InputError
from diverseevol.geometry import farthest_first as module
from diverseevol.geometry import farthest_first_cuda
from diverseevol.geometry.distances import receipt_distances
from diverseevol.geometry.farthest_first import farthest_first
from diverseevol.parallel.threads import workers
from diverseevol.samplers.base import Selection, choose
from diverseevol.samplers.features import Features
from diverseevol.samplers.kcenter import KCenter


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("size", [0, 1, 40, 130])
def test_picks_are_those_of_a_greedy_algorithm_in_float64(data: str, size: int) -> None:
    X = DATA[data]
    taken = scattered(len(X), size)
    rows, distance = farthest_first(X, taken, 60)
    expected, expected_distance = greedy(X, taken, 60)
    assert rows.tolist() == expected
    np.testing.assert_allclose(distance, expected_distance, rtol=1e-9)


@pytest.mark.parametrize("data", DATA)
def test_a_first_pick_lies_nearest_the_mean_of_the_rows_that_count(data: str) -> None:
    X, among = DATA[data], np.arange(0, len(DATA[data]), 3)
    taken = ~np.isin(np.arange(len(X)), among)
    none = np.empty(0, dtype=np.int64)
    squared = np.square(X[among].astype(np.float64) - X[among].astype(np.float64).mean(axis=0)).sum(axis=1)
    expected = among[squared.argmin()]
    for found in (
        farthest_first(X, taken, 3, none, among),
        farthest_first_cuda.running_minimum(X, taken, 3, none, torch.device("cpu"), among),
    ):
        assert found[0][0] == expected
        assert found[1][0] == pytest.approx(np.sqrt(squared.min()))


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("size", [0, 1, 40])
def test_a_running_minimum_picks_the_same(data: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X = DATA[data]
    monkeypatch.setattr(farthest_first_cuda, "BLOCK_ELEMENTS", 128 * X.shape[1])
    taken = scattered(len(X), size)
    rows, distance = farthest_first_cuda.running_minimum(X, taken, 60, None, torch.device("cpu"))
    expected, expected_distance = greedy(X, taken, 60)
    assert rows.tolist() == expected
    np.testing.assert_allclose(distance, expected_distance, rtol=1e-9)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_said_before_any_work() -> None:
    with pytest.raises(InputError, match="device is cuda, and there is no CUDA device here"):
        KCenter(device="cuda")


def test_a_running_minimum_keeps_to_the_centres_given_and_names_bad_rows() -> None:
    X, cpu = DATA["clustered"].copy(), torch.device("cpu")
    taken, centres = scattered(len(X), 90), np.array([3, 11])
    found = farthest_first_cuda.running_minimum(X, taken, 20, centres, cpu)
    expected = farthest_first(X, taken, 20, centres)
    assert found[0].tolist() == expected[0].tolist()
    assert farthest_first_cuda.running_minimum(X, taken, 0, None, cpu)[0].tolist() == []
    X[17, 3] = np.nan
    with pytest.raises(InputError, match="row 17"):
        farthest_first_cuda.running_minimum(X, taken, 3, None, cpu)


@pytest.mark.parametrize("data", ["clustered", "float16", "iid", "many ties"])
def test_picks_do_not_depend_on_how_rows_are_cut_into_blocks(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X = DATA[data]
    taken = scattered(len(X), 90)
    whole = farthest_first(X, taken, 80)
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 64 * X.shape[1] + 5)
    pieces = farthest_first(X, taken, 80)
    assert whole[0].tolist() == pieces[0].tolist()
    assert whole[1].tolist() == pieces[1].tolist()


def test_many_centres_and_many_open_candidates_change_nothing() -> None:
    X = np.random.default_rng(5).standard_normal((6000, 16)).astype(np.float32)
    taken = scattered(len(X), 1300)
    assert farthest_first(X, taken, 300)[0].tolist() == greedy(X, taken, 300)[0]


@pytest.mark.parametrize("kept", [0, 3, 7])
@pytest.mark.parametrize("data", ["clustered", "iid", "many ties"])
def test_picks_do_not_depend_on_how_many_of_them_are_kept(
    data: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = DATA[data]
    monkeypatch.setattr(module, "KEPT_ELEMENTS", kept * X.shape[1])
    taken = scattered(len(X), 30)
    rows, distance = farthest_first(X, taken, 60)
    expected, expected_distance = greedy(X, taken, 60)
    assert rows.tolist() == expected
    np.testing.assert_allclose(distance, expected_distance, rtol=1e-9)


def test_what_is_kept_of_picks_and_centres_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.random.default_rng(5).standard_normal((22_000, 3)).astype(np.float32)
    taken = scattered(len(X), 20_000)
    monkeypatch.setattr(module, "KEPT_ELEMENTS", 100 * 3)
    columns, product = [], module.product

    def noted(A: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
        columns.append(len(C))
        return product(A, C)

    monkeypatch.setattr(module, "product", noted)
    with workers() as pool:
        candidates = module.Candidates(X, taken, 120, np.flatnonzero(taken), pool)
        assert set(columns) == {1024}  # and not a sixteenth, 1,250
        rows = [candidates.pick()[0] for _ in range(120)]
    assert candidates.picked.shape == (100, 3)
    assert rows == farthest_first(X, taken, 120)[0].tolist()


def test_all_rows_can_be_picked() -> None:
    X = DATA["clustered"]
    taken = scattered(len(X), 600)
    rows, _ = farthest_first(X, taken, 100)
    assert sorted(rows.tolist()) == np.flatnonzero(~taken).tolist()
    assert sorted(farthest_first(X[:9], np.zeros(9, dtype=bool), 9)[0].tolist()) == list(range(9))


@pytest.mark.parametrize("data", ["clustered", "iid", "tiny numbers", "near duplicates", "all equal"])
def test_first_bounds_hold_though_products_are_rounded_to_bfloat16(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    product, calls = module.product, []

    def rounded(A: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
        calls.append(A.dtype)
        return product(A.bfloat16().float(), C.bfloat16().float())

    monkeypatch.setattr(module, "product", rounded)
    X = DATA[data]
    centres = np.flatnonzero(scattered(len(X), 90))
    exact = np.square(X[:, None].astype(np.float64) - X[centres]).sum(axis=2).min(axis=1)
    with workers() as pool:
        assert (module.upper_bounds(X, centres, pool) >= exact).all()
    assert set(calls) == {torch.float32}
    taken = scattered(len(X), 90)
    assert farthest_first(X, taken, 40)[0].tolist() == greedy(X, taken, 40)[0]


def test_memory_maps_are_read_where_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "E.npy", DATA["float16"])
    mapped = np.load(tmp_path / "E.npy", mmap_mode="r")
    taken = scattered(len(mapped), 20)
    assert farthest_first(mapped, taken, 30)[0].tolist() == greedy(DATA["float16"], taken, 30)[0]


def test_rows_need_not_lie_in_one_piece() -> None:
    X = DATA["clustered"][::-1, ::3]
    taken = scattered(len(X), 20)
    assert farthest_first(X, taken, 30)[0].tolist() == greedy(X, taken, 30)[0]


@pytest.mark.skipif(sys.platform != "linux", reason="limits private memory the way Linux counts it")
def test_a_mapped_file_needs_less_memory_than_a_copy_of_it(tmp_path: Path) -> None:
    rows, dim = 60_000, 1024
    E = np.lib.format.open_memmap(tmp_path / "E.npy", mode="w+", dtype=np.float16, shape=(rows, dim))
    rng = np.random.default_rng(6)
    sparse = rng.integers(0, rows * dim, size=200_000)
    E.reshape(-1)[sparse] = rng.standard_normal(len(sparse))
    E.flush()
    script = f"""
import resource
import numpy as np
from diverseevol.geometry.farthest_first import farthest_first
from diverseevol.parallel.threads import workers
E = np.load({str(tmp_path / "E.npy")!r}, mmap_mode="r")
taken = np.arange(len(E)) < 100
farthest_first(E[:2000], taken[:2000], 3)
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + {rows * dim * 2 * 3 // 4}, -1))
print(*farthest_first(E, taken, 20)[0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 20


def test_a_worked_example() -> None:
    X = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [20.0]])
    rows, distance = farthest_first(X, np.arange(6) == 0, 5)
    assert rows.tolist() == [5, 3, 2, 1, 4]  # 1 and 11 are equally far at last, and 1 is the lower row
    assert distance.tolist() == [20, 10, 2, 1, 1]
    rows, distance = farthest_first(X, np.zeros(6, dtype=bool), 2)  # the mean is 22 / 3
    assert rows.tolist() == [3, 0]  # rows 0 and 5 are both 10 away from row 3
    np.testing.assert_allclose(distance, [8 / 3, 10])


def test_no_rows_are_no_work_even_where_there_are_no_distances() -> None:
    X = np.full((4, 2), np.nan)
    rows, distance = farthest_first(X, np.zeros(4, dtype=bool), 0)
    assert len(rows) == len(distance) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("size", [0, 30])
def test_rows_that_are_not_finite_are_named(value: float, size: int) -> None:
    X = clustered()
    X[[17, 300], 5] = value
    with pytest.raises(InputError, match="row 17, 300:"):
        farthest_first(X, scattered(len(X), size), 5)
    X[100:200] = value
    with pytest.raises(InputError, match="row 17, 100, 101, 102, 103 and 97 more:"):
        farthest_first(X, scattered(len(X), size), 5)


def select(sampler: KCenter, X: np.ndarray, taken: np.ndarray, n: int) -> Selection:
    features = Features(np.ones(len(X), dtype=np.int64), X)
    return choose(sampler, features, taken, n, np.random.default_rng(0))


def test_the_score_is_the_distance_that_the_receipt_states() -> None:
    X = DATA["clustered"]
    taken = scattered(len(X), 25)
    selection = select(KCenter(), X, taken, 40)
    distance, _ = receipt_distances(X, selection.rows, np.flatnonzero(taken))
    np.testing.assert_array_equal(selection.score, distance)
    assert (np.diff(selection.score) <= 0).all()


def test_permuting_the_rows_permutes_the_picks() -> None:
    X = DATA["iid"]
    taken = scattered(len(X), 25)
    order = np.random.default_rng(7).permutation(len(X))
    for sampler in KCenter(), KCenter(metric="cosine"), KCenter(whiten=8):
        straight, permuted = select(sampler, X, taken, 40), select(sampler, X[order], taken[order], 40)
        assert order[permuted.rows].tolist() == straight.rows.tolist()


def test_ineligible_rows_are_neither_picked_nor_counted_as_covered() -> None:
    X = np.array([[0.0], [10.0], [9.0], [4.0]])
    features = Features(np.array([1, 0, 1, 1]), X)
    taken = np.array([True, True, False, False])
    selection = choose(KCenter(), features, taken, 2, np.random.default_rng(0))
    assert selection.rows.tolist() == [2, 3]  # row 2 lies beside the ineligible row 1, and far from the pool
    assert selection.score.tolist() == [9, 4]
    nothing_yet = np.array([False, True, False, False])
    assert choose(KCenter(), features, nothing_yet, 1, np.random.default_rng(0)).rows.tolist() == [3]


def test_cosine_compares_directions_only() -> None:
    rng = np.random.default_rng(8)
    X = rng.standard_normal((300, 20))
    taken = scattered(len(X), 10)
    stretched = (X * rng.uniform(0.1, 50, size=(300, 1))).astype(np.float32)
    expected, _ = greedy(X / np.linalg.norm(X, axis=1, keepdims=True), taken, 30)
    assert select(KCenter(metric="cosine"), stretched, taken, 30).rows.tolist() == expected
    stretched[[12, 40]] = 0
    with pytest.raises(InputError, match="row 12: is zero"):
        select(KCenter(metric="cosine"), stretched, taken, 30)


def test_cosine_does_not_mind_rows_without_a_response_that_are_zero() -> None:
    rng = np.random.default_rng(8)
    X = rng.standard_normal((60, 5)).astype(np.float32)
    tokens, taken = np.ones(60, dtype=np.int64), scattered(60, 6)
    left_out = np.flatnonzero(~taken)[:3]
    tokens[left_out], X[left_out] = 0, 0
    sound = np.flatnonzero(tokens)
    expected, _ = greedy(X[sound] / np.linalg.norm(X[sound], axis=1, keepdims=True), taken[sound], 9)
    found = KCenter(metric="cosine").select(Features(tokens, X), taken | (tokens == 0), 9, rng)
    assert found.rows.tolist() == sound[expected].tolist()


def test_whitening_gives_every_direction_the_same_say() -> None:
    rng = np.random.default_rng(9)
    plain = rng.standard_normal((400, 6))
    plain = (plain - plain.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(plain.T)).T)
    X = (plain * [1, 5, 20, 0.1, 3, 300]) @ np.linalg.qr(rng.standard_normal((6, 6)))[0] + 40
    taken = scattered(len(X), 10)
    expected, _ = greedy(plain, taken, 50)
    assert select(KCenter(whiten=6), X, taken, 50).rows.tolist() == expected
    widest, _ = greedy(plain[:, [5]], taken, 50)
    assert select(KCenter(whiten=1), X, taken, 50).rows.tolist() == widest


def test_whitening_comes_before_the_scaling_to_unit_length() -> None:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((200, 8)) * np.linspace(1, 20, 8) + 5
    taken = scattered(len(X), 5)
    _, _, directions = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    white = (X - X.mean(axis=0)) @ directions[:4].T
    white /= white.std(axis=0)
    expected, _ = greedy(white / np.linalg.norm(white, axis=1, keepdims=True), taken, 30)
    assert select(KCenter(metric="cosine", whiten=4), X, taken, 30).rows.tolist() == expected


def test_whitening_keeps_duplicates_together() -> None:
    X = DATA["clustered"]
    taken = np.zeros(len(X), dtype=bool)
    taken[:20] = True  # rows 350 to 369 equal them
    rows = select(KCenter(whiten=10), X, taken, len(X) - 20)
    assert set(rows.rows[-20:].tolist()) == set(range(350, 370))
    assert (rows.score[-20:] == 0).all()


def test_options_that_cannot_be_are_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"sampler.whiten is 0; it must be null or at least 1"):
        KCenter(whiten=0)
    with pytest.raises(InputError, match=r"sampler.whiten is 60; .* vary in 48 directions only"):
        select(KCenter(whiten=60), DATA["constant columns"], scattered(700, 5), 3)


def with_loss(places: list[float], loss: list[float]) -> Features:
    X = np.array(places, dtype=np.float32)[:, None]
    return Features(np.ones(len(X), dtype=np.int64), X, {"response_loss": np.array(loss, dtype=np.float32)})


@pytest.mark.parametrize(("drop", "row"), [(0.0, 4), (0.24, 4), (0.25, 3), (0.5, 2), (0.99, 1)])
def test_the_candidates_of_the_highest_loss_are_not_chosen(drop, row):
    # The pool at 0, of high loss itself; the farther a row, the higher its loss.
    features, taken = with_loss([0, 1, 5, 9, 10], [9, 0.1, 0.2, 0.3, 0.4]), np.arange(5) == 0
    selection = KCenter(drop=drop).select(features, taken, 1, np.random.default_rng(0))
    assert selection.rows.tolist() == [row]


def test_no_more_rows_are_dropped_than_leaves_enough_to_choose():
    features, taken = with_loss([0, 1, 5, 9, 10], [9, 0.1, 0.2, 0.3, 0.4]), np.arange(5) == 0
    selection = KCenter(drop=0.9).select(features, taken, 3, np.random.default_rng(0))
    assert sorted(selection.rows.tolist()) == [1, 2, 3]


def test_losses_are_asked_for_only_where_rows_are_dropped():
    assert KCenter().needs.statistics == frozenset()
    assert KCenter(drop=0.01).needs.statistics == {"response_loss"}


@pytest.mark.parametrize("drop", [-0.1, 1.0])
def test_a_share_of_rows_to_drop_is_a_share(drop):
    with pytest.raises(InputError, match=r"sampler\.drop is .*; it is a share"):
        KCenter(drop=drop)
