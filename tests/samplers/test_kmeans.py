import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from diverseevol.errors import InputError
from diverseevol.samplers.features import Features
from diverseevol.samplers.kmeans import KMeans

# Clusters of 4, 3 and 2 rows; in each the row that is nearest the centre, then the others by distance.
CLUSTERS = np.array(
    [[0, 0], [0, 1], [1, 0], [-2, -1.1], [20, 0], [21, 0], [18.6, 0], [0, 20], [0.5, 20.5]], dtype=np.float32
)
FREE = np.zeros(9, dtype=bool)


def select(sampler: KMeans, X: np.ndarray, taken: np.ndarray, n: int, seed: int = 0):
    return sampler.select(Features(np.ones(len(X), dtype=np.int64), X), taken, n, np.random.default_rng(seed))


def test_the_row_nearest_each_centre_is_chosen_the_largest_cluster_first():
    selection = select(KMeans(), CLUSTERS, FREE, 3)
    assert selection.rows[:2].tolist() == [0, 4]
    assert selection.rows[2] in (7, 8)  # as far from the point between them
    centres = [CLUSTERS[part].mean(axis=0) for part in (slice(4), slice(4, 7), slice(7, 9))]
    expected = np.linalg.norm(CLUSTERS[selection.rows] - centres, axis=1)
    np.testing.assert_allclose(selection.score, expected, atol=1e-4)


def test_clusters_have_the_same_quota_and_large_ones_give_what_small_ones_lack():
    cluster = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    two = select(KMeans(clusters=3), CLUSTERS, FREE, 6).rows
    assert np.bincount(cluster[two]).tolist() == [2, 2, 2]
    assert two[:3].tolist() == select(KMeans(), CLUSTERS, FREE, 3).rows.tolist()
    assert np.bincount(cluster[select(KMeans(clusters=3), CLUSTERS, FREE, 8).rows]).tolist() == [3, 3, 2]
    assert sorted(select(KMeans(clusters=3), CLUSTERS, FREE, 9).rows) == list(range(9))


def test_rows_taken_are_not_clustered():
    taken = np.arange(9) < 4
    assert set(select(KMeans(), CLUSTERS, taken, 2).rows) & {4} == {4}


def test_more_clusters_than_distinct_rows_leave_none_short():
    X = np.repeat(CLUSTERS[:3], 30, axis=0)
    rows = select(KMeans(), X, np.zeros(90, dtype=bool), 10).rows
    assert len(set(rows.tolist())) == 10
    assert set(rows // 30) == {0, 1, 2}


def test_a_large_common_mean_changes_no_cluster():
    # Spread of 1 around 20 centres, all of it 2,000 away from the origin.
    rng = np.random.default_rng(2)
    X = (10 * rng.normal(size=(20, 8)))[np.arange(600) % 20] + rng.normal(size=(600, 8)) + 2000
    rows = select(KMeans(), X.astype(np.float32), np.zeros(600, dtype=bool), 20).rows
    assert sorted(rows % 20) == list(range(20))


def test_the_number_of_threads_changes_no_pick():
    X = np.random.default_rng(1).normal(size=(3000, 16)).astype(np.float32)
    taken = np.zeros(3000, dtype=bool)
    chosen = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            chosen.append(select(KMeans(), X, taken, 50).rows.tolist())
    assert chosen[0] == chosen[1]
    assert chosen[0] != select(KMeans(), X, taken, 50, seed=1).rows.tolist()


@pytest.mark.parametrize("options", [{"clusters": 0}, {"passes": 0}])
def test_no_clusters_or_passes_are_refused(options):
    (name,) = options
    with pytest.raises(InputError, match=f"sampler.{name} is 0; it must be at least 1"):
        KMeans(**options)
