"""Clusters of items with similar vectors, and cold items in the cluster with the nearest centroid."""

import numpy as np
import pytest

from tests.tfdnc.clustering.prepared_logs import TINY, read_items, two_tastes, write_prepared
from tfdnc.clustering import build_clusters, content
from tfdnc.clustering.cold import UNASSIGNED
from tfdnc.clustering.content import Directions, nearest_centroids
from tfdnc.contracts import schema
from tfdnc.contracts.config import ClusterConfig
from tfdnc.contracts.errors import UserError

CONFIG = ClusterConfig(method="content_kmeans", num_clusters=2)


def planted(num_items, seed=1):
    """Returns `[N, 5]`: vectors of two kinds, odd and even items, of any length and around a common mean."""
    rng = np.random.default_rng(seed)
    kinds = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]])[np.arange(num_items) % 2]
    return ((kinds + rng.normal(0, 0.05, (num_items, 5))) * rng.uniform(0.9, 1.2, (num_items, 1)) + 3).astype("f4")


def write_vectors(prepared, vectors, name="look"):
    (prepared / schema.VECTORS).mkdir(exist_ok=True)
    np.save(prepared / schema.VECTORS / f"{name}.npy", vectors)


class TestNearest:
    LABELS = np.array([4, 4, 7, 7, UNASSIGNED, UNASSIGNED, UNASSIGNED])

    def test_the_nearest_mean_direction_and_nothing_for_items_without_a_vector(self):
        vectors = planted(7)[[0, 2, 1, 3, 4, 5, 6]]
        vectors[6] = np.nan
        found = nearest_centroids(self.LABELS, Directions({"look": vectors}), np.array([4, 5, 6]))
        assert found.tolist() == [UNASSIGNED] * 4 + [4, 7, UNASSIGNED]

    def test_several_vectors_count_alike_however_long_they_are(self):
        first, second = planted(7)[[0, 2, 1, 3, 4, 4, 4]], 1000 * planted(7, 2)[[0, 2, 1, 3, 4, 4, 4]]
        directions = Directions({"look": first, "sound": second})
        lengths = np.linalg.norm(directions.rows(np.arange(7)), axis=1)
        np.testing.assert_allclose(lengths, 2**0.5, rtol=1e-5)

    def test_an_item_at_the_mean_has_some_direction(self):
        vectors = np.array([[1, 0], [-1, 0], [0, 0]], np.float32)
        assert np.isfinite(Directions({"look": vectors}).rows(np.arange(3))).all()


class TestStation:
    """Items 21 to 24 are in no event, and 24 has no vector."""

    @pytest.fixture
    def prepared(self, tmp_path):
        folder = write_prepared(tmp_path / "prepared", two_tastes(), 24)
        vectors = planted(24)
        vectors[23] = np.nan
        write_vectors(folder, vectors)
        return folder

    def clusters_of(self, prepared, config):
        figures = build_clusters(prepared, config, 1, prepared.parent / "out")
        items = read_items(prepared.parent / "out")
        return dict(zip(items["sequence_index"], items["cluster"], strict=True)), figures

    def test_planted_kinds_are_found_and_cold_items_placed_by_them(self, prepared):
        found, figures = self.clusters_of(prepared, CONFIG)
        odd, even = ({found[item] for item in range(first, 24, 2)} for first in (1, 2))
        assert len(odd) == len(even) == 1
        assert odd != even
        assert (figures["cold_items"], figures["items_without_vector"]) == (4, 1)

    def test_every_item_goes_to_its_nearest_centroid_where_k_means_learns_from_some(self, prepared, monkeypatch):
        everything = self.clusters_of(prepared, CONFIG)[0]
        monkeypatch.setattr(content, "_SAMPLE", 8)
        found = self.clusters_of(prepared, CONFIG)[0]
        assert [found[item] == found[1] for item in range(1, 24)] == [
            everything[item] == everything[1] for item in range(1, 24)
        ]

    def test_other_clusters_get_a_cold_item_by_its_vector_if_it_has_no_features(self, prepared):
        found, _ = self.clusters_of(prepared, TINY)
        assert [found[item] for item in (21, 22, 23)] == [found[1], found[2], found[1]]

    def test_vectors_are_needed(self, tmp_path):
        prepared = write_prepared(tmp_path / "prepared", two_tastes(), 20)
        with pytest.raises(
            UserError, match=r"Expected vectors of the items for cluster\.method: content_kmeans, found"
        ):
            self.clusters_of(prepared, CONFIG)
