"""Measures of pools, against their definitions written out in a few lines."""

from pathlib import Path

import numpy as np
import pytest

from diverseevol.errors import InputError
from diverseevol.geometry.distances import coverage_radius, distance_to_pool, receipt_distances
from diverseevol.geometry.diversity import vendi_score, vendi_score_centred
from diverseevol.geometry.farthest_first import farthest_first
from diverseevol.geometry.projections import pca_map
from diverseevol.geometry.row_blocks import mean_row


def rows_with_large_mean(rows: int = 200, dim: int = 24, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, dim)) * rng.gamma(1, 1, size=(rows, 1)) + 50 * rng.standard_normal(dim)
    X[7] = X[3]
    return X.astype(np.float32)


def all_distances(X: np.ndarray) -> np.ndarray:
    X = X.astype(np.float64)
    return np.sqrt(np.square(X[:, None] - X).sum(axis=2))


def vendi_by_definition(X: np.ndarray) -> float:
    unit = X.astype(np.float64) / np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    share = np.linalg.eigvalsh(unit @ unit.T / len(X))
    share = share[share > 1e-12]
    return float(np.exp(-(share * np.log(share)).sum()))


@pytest.mark.parametrize(("rows", "dim"), [(6, 30), (30, 6), (8, 8), (1, 5)])
def test_vendi_score_is_its_definition_whichever_side_is_longer(rows: int, dim: int) -> None:
    X = np.random.default_rng(1).standard_normal((rows, dim))
    assert vendi_score(X) == pytest.approx(vendi_by_definition(X), rel=1e-9)


def test_vendi_score_counts_distinct_directions() -> None:
    assert vendi_score(np.eye(7)) == pytest.approx(7)
    assert vendi_score(np.ones((5, 3))) == pytest.approx(1)
    assert vendi_score(np.repeat(np.eye(3), 4, axis=0)) == pytest.approx(3)
    two_thirds = np.exp(-(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)))
    assert vendi_score(np.eye(2)[[0, 0, 1]]) == pytest.approx(two_thirds)


def test_vendi_score_looks_at_directions_and_not_at_lengths_or_order() -> None:
    X = np.random.default_rng(2).standard_normal((12, 5))
    lengths = np.random.default_rng(3).uniform(0.1, 9, size=(12, 1))
    assert vendi_score((X * lengths)[::-1].copy()) == pytest.approx(vendi_score(X))


def test_equal_zero_rows_count_as_one_direction_of_their_own() -> None:
    assert vendi_score(np.zeros((4, 3))) == pytest.approx(1)
    assert vendi_score(np.vstack([np.eye(3), np.zeros((1, 3))])) == pytest.approx(4)
    many = np.vstack([np.eye(3)] * 2 + [np.zeros((2, 3))])  # the same by the other side of the product
    assert vendi_score(many) == pytest.approx(4)


def test_a_common_mean_hides_diversity_from_all_but_the_centred_score() -> None:
    X = rows_with_large_mean()
    pool = np.arange(40)
    assert vendi_score(X[pool]) < 1.2
    expected = vendi_by_definition(X[pool] - X.astype(np.float64).mean(axis=0))
    assert vendi_score_centred(X, pool) == pytest.approx(expected, rel=1e-6)
    assert expected > 10


def test_rows_that_do_not_count_move_neither_mean_nor_directions() -> None:
    X, pool = rows_with_large_mean(), np.arange(40)
    more, counted = np.vstack([X, np.zeros((1000, X.shape[1]), np.float32)]), np.arange(len(X))
    assert vendi_score_centred(more, pool, counted) == vendi_score_centred(X, pool)
    assert vendi_score_centred(more, pool) < 0.9 * vendi_score_centred(X, pool)  # all is lost in the larger step
    np.testing.assert_allclose(pca_map(more, counted)[counted], pca_map(X), atol=1e-4)


def test_vendi_score_reads_memory_maps_of_float16(tmp_path: Path) -> None:
    X = np.random.default_rng(4).standard_normal((40, 6)).astype(np.float16)
    np.save(tmp_path / "E.npy", X)
    mapped = np.load(tmp_path / "E.npy", mmap_mode="r")
    assert vendi_score(mapped) == pytest.approx(vendi_by_definition(X))


def test_vendi_score_of_no_rows_or_of_nan_is_refused_by_name() -> None:
    X = np.ones((9, 2))
    with pytest.raises(ValueError, match="no rows"):
        vendi_score(X[:0])
    X[[2, 5]] = np.nan
    with pytest.raises(InputError, match="row 2, 5:"):
        vendi_score(X)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_distance_to_pool_is_the_least_of_all_distances(dtype: type) -> None:
    X = rows_with_large_mean().astype(dtype)
    pool, rows = np.array([150, 3, 20, 61]), np.array([9, 20, 7, 120, 199])
    distance, nearest = distance_to_pool(X, rows, pool)
    expected = all_distances(X)[np.ix_(rows, pool)]
    np.testing.assert_allclose(distance, expected.min(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(nearest, pool[expected.argmin(axis=1)])


def test_distances_between_near_duplicates_survive_a_large_mean() -> None:
    X = np.full((3, 512), 300.0, dtype=np.float32)
    X[1, 0] = np.nextafter(np.float32(300), np.float32(301))
    X[2, 0] = 301
    distance, nearest = distance_to_pool(X, np.array([1]), np.array([0, 2]))
    assert distance[0] == float(X[1, 0]) - 300
    assert nearest[0] == 0


def test_duplicates_are_exactly_zero_apart_and_ties_go_to_the_lowest_row() -> None:
    X = rows_with_large_mean()
    distance, nearest = distance_to_pool(X, np.array([3, 7]), np.array([7, 3]))
    assert distance.tolist() == [0, 0]
    assert nearest.tolist() == [3, 3]
    line = np.array([[0.0], [2.0], [1.0]])
    assert distance_to_pool(line, np.array([2]), np.array([1, 0]))[1].tolist() == [0]


def test_an_empty_pool_is_at_no_distance_and_no_rows_have_none() -> None:
    X = rows_with_large_mean()
    distance, nearest = distance_to_pool(X, np.array([1, 2]), np.array([], dtype=int))
    assert np.isnan(distance).all()
    assert nearest.tolist() == [-1, -1]
    assert len(distance_to_pool(X, np.array([], dtype=int), np.array([1]))[0]) == 0


def test_distances_to_nan_are_refused_by_name() -> None:
    X = rows_with_large_mean()
    X[11, 0] = np.inf
    for rows, pool in ([11, 4], [2]), ([2, 4], [11, 5]):
        with pytest.raises(InputError, match="row 11:"):
            distance_to_pool(X, np.array(rows), np.array(pool))


def test_a_receipt_counts_the_pool_and_the_earlier_picks() -> None:
    X = rows_with_large_mean()
    pool, chosen = np.array([5, 60]), np.array([44, 3, 130, 7, 9])
    distance, nearest = receipt_distances(X, chosen, pool)
    D = all_distances(X)
    for pick, row in enumerate(chosen):
        there = np.sort(np.concatenate([pool, chosen[:pick]]))
        assert distance[pick] == pytest.approx(D[row, there].min(), rel=1e-12)
        assert nearest[pick] == there[D[row, there].argmin()]
    assert distance[3] == 0  # row 7 equals row 3, picked before


def test_a_receipt_without_a_pool_starts_with_the_second_pick() -> None:
    X = rows_with_large_mean()
    distance, nearest = receipt_distances(X, np.array([8, 2]), np.array([], dtype=int))
    assert np.isnan(distance[0])
    assert nearest.tolist() == [-1, 8]


@pytest.mark.parametrize("size", [1, 2, 50, 199])
def test_coverage_radius_is_the_largest_distance_to_the_pool(size: int) -> None:
    X = rows_with_large_mean()
    pool = np.random.default_rng(5).choice(len(X), size, replace=False)
    expected = all_distances(X)[:, pool].min(axis=1).max()
    assert coverage_radius(X, pool) == pytest.approx(expected, rel=1e-12)


def test_coverage_radius_over_some_rows_leaves_the_others_out() -> None:
    X = rows_with_large_mean()
    pool, some = np.array([10, 30, 31]), np.flatnonzero(np.arange(len(X)) % 3)
    expected = all_distances(X)[some][:, pool].min(axis=1).max()
    assert coverage_radius(X, pool, some) == pytest.approx(expected, rel=1e-12)
    farthest = int(all_distances(X)[:, pool].min(axis=1).argmax())
    assert coverage_radius(X, pool, np.setdiff1d(np.arange(len(X)), [farthest])) < coverage_radius(X, pool)


def test_coverage_radius_is_the_distance_of_the_row_that_k_center_picks_next() -> None:
    X = rows_with_large_mean()
    taken = np.zeros(len(X), dtype=bool)
    taken[[10, 30, 31]] = True
    _, distance = farthest_first(X, taken, 1)
    assert coverage_radius(X, np.flatnonzero(taken)) == distance[0]


def test_a_larger_pool_covers_no_worse_and_all_rows_cover_themselves() -> None:
    X = rows_with_large_mean()
    order = np.random.default_rng(6).permutation(len(X))
    radii = [coverage_radius(X, order[:size]) for size in (1, 5, 25, 125, 200)]
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] == 0
    with pytest.raises(ValueError, match="empty pool"):
        coverage_radius(X, order[:0])


def test_the_map_keeps_distances_of_rows_that_lie_in_a_plane() -> None:
    rng = np.random.default_rng(7)
    plane = rng.standard_normal((60, 2)) * [5, 1]
    basis = np.linalg.qr(rng.standard_normal((9, 2)))[0]
    X = plane @ basis.T + 30
    coordinates = pca_map(X)
    np.testing.assert_allclose(all_distances(coordinates), all_distances(X), atol=1e-4)
    assert coordinates[:, 0].var() > coordinates[:, 1].var()
    np.testing.assert_allclose(coordinates.mean(axis=0), 0, atol=1e-4)


def test_the_map_does_not_depend_on_the_order_of_rows_and_fills_missing_directions() -> None:
    X = rows_with_large_mean()
    order = np.random.default_rng(8).permutation(len(X))
    np.testing.assert_allclose(pca_map(X[order]), pca_map(X)[order], atol=1e-3)
    assert pca_map(X).dtype == np.float32
    assert (pca_map(X[:, :1])[:, 1] == 0).all()


def test_the_mean_is_taken_in_float64() -> None:
    X = np.full((3000, 2), 0.1, dtype=np.float16)
    np.testing.assert_allclose(mean_row(X), float(np.float16(0.1)), rtol=1e-15)
