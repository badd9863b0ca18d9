"""Spectral vectors against linear algebra that needs no Beam, and the clusterer on any runner."""

import numpy as np
import pytest

from tests.tfdnc.clustering.prepared_logs import HELD_OUT, TINY, two_tastes, write_prepared
from tfdnc.clustering import build_clusters
from tfdnc.clustering.__main__ import main
from tfdnc.clustering.spectral import spectral_vectors
from tfdnc.contracts import schema

SPECTRAL = TINY.model_copy(update={"method": "spectral_kmeans"})


@pytest.fixture
def co_occurrences():
    """Three groups of eight items, which meet each other now and then; the last item is alone."""
    rng = np.random.default_rng(0)
    groups = np.arange(24) // 8
    mean = np.where(groups[:, None] == groups, 12, 1) * np.outer(*[1 + np.arange(24) % 8] * 2)
    upper = np.triu(rng.poisson(mean))
    matrix = np.zeros((25, 25))
    matrix[:24, :24] = upper + upper.T
    return matrix


def counts_of(matrix):
    return np.maximum(matrix.sum(axis=1), 1)


def test_rounds_lead_to_the_eigenvectors_beside_popularity(co_occurrences):
    counts = counts_of(co_occurrences)
    vectors = spectral_vectors(lambda v: co_occurrences @ v, counts, 4, 40, seed=0)
    scaled = co_occurrences / np.sqrt(np.outer(counts, counts))
    values, leading = np.linalg.eigh(scaled)
    found, _ = np.linalg.qr(vectors)
    # One eigenvector is popularity itself, and the next two tell the three groups apart.
    assert values[-3:].min() > 2 * np.abs(values[:-3]).max()
    assert np.abs(leading[:, -1] @ np.sqrt(counts)) == pytest.approx(np.sqrt(counts[:-1].sum()), rel=1e-3)
    assert np.linalg.norm(found.T @ leading[:, -3:-1], axis=0) == pytest.approx(1, abs=1e-3)
    assert np.abs(found.T @ leading[:, -1]).max() < 0.1


def test_items_of_a_group_have_one_direction(co_occurrences):
    vectors = spectral_vectors(lambda v: co_occurrences @ v, counts_of(co_occurrences), 8, 3, seed=0)[:24]
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = directions @ directions.T
    same = np.arange(24)[:, None] // 8 == np.arange(24) // 8
    assert cosines[same].min() > 0.8
    assert cosines[~same].max() < 0


def test_items_without_neighbours_or_events_have_no_vector(co_occurrences):
    counts = counts_of(co_occurrences)
    counts[3] = 0
    co_occurrences[3] = co_occurrences[:, 3] = 0
    vectors = spectral_vectors(lambda v: co_occurrences @ v, counts, 4, 2, seed=0)
    assert np.flatnonzero(~vectors.any(axis=1)).tolist() == [3, 24]


def test_more_dimensions_than_items_are_no_error():
    matrix = np.ones((3, 3)) - np.eye(3)
    assert spectral_vectors(lambda v: matrix @ v, np.full(3, 2), 8, 2, seed=0).shape == (3, 3)


def test_an_item_that_is_always_alone_is_placed_like_a_cold_one(tmp_path):
    sequences = [*two_tastes(), [21, *HELD_OUT], [22, *HELD_OUT]]
    categories = [["even" if item % 2 == 0 else "odd"] for item in range(1, 23)]
    write_prepared(tmp_path / "prepared", sequences, 22, categories=categories)
    figures = build_clusters(tmp_path / "prepared", SPECTRAL, 1, tmp_path / "out")
    assert (figures["smallest"], figures["largest"]) == (11, 11)


def test_the_command_on_another_runner_writes_the_same_bytes(tmp_path):
    """And with other boundaries between the files: sums of integers do not depend on their order."""
    sequences = two_tastes(users=60)
    write_prepared(tmp_path / "a", sequences, 20)
    write_prepared(tmp_path / "b", [[20, 19, *HELD_OUT], *sequences, [20, 19, *HELD_OUT]], 20)
    write_prepared(tmp_path / "c", [*sequences, *[[20, 19, *HELD_OUT]] * 2], 20)
    settings = {"method": "spectral_kmeans", "num_clusters": 3, "dim": 4, "max_share": 1}
    (tmp_path / "config.yaml").write_text(f"name: spectral\ncluster: {settings}\n")
    config = SPECTRAL.model_copy(update=settings)
    build_clusters(tmp_path / "b", config, 1, tmp_path / "expected")
    flags = ["--config", tmp_path / "config.yaml", "--prepared", tmp_path / "c", "--output", tmp_path / "out"]
    runner = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]
    assert main([*map(str, flags), *runner]) == 0
    for name in (schema.ITEMS, schema.CLUSTERS):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    assert {path.name for path in (tmp_path / "expected").iterdir()} == {schema.ITEMS, schema.CLUSTERS}
