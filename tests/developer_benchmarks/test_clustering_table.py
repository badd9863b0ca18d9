"""The figures of the table that a person cannot check by looking at it."""

import numpy as np
import pytest

from developer_benchmarks.clustering import cluster_config, similarity
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable


def table_of(clusters, categories):
    clusters = np.array(clusters)
    size = len(clusters)
    offsets = tuple(np.searchsorted(clusters, np.arange(clusters.max() + 2)).tolist())
    ids = [str(row) for row in range(size)]
    return ItemTable(ids, np.ones(size), clusters, offsets, np.arange(1, size + 1), ids, ["a", "b"], categories)


def test_similarity_is_the_mean_over_all_pairs_inside_clusters():
    table = table_of([0, 0, 0, 1, 1], [["x"], ["x", "y"], ["z"], ["x"], ["x"]])
    assert similarity(table, seed=1) == pytest.approx((1 / 2 + 0 + 0 + 1) / 4, abs=0.005)
    assert np.isnan(similarity(table_of([0, 0, 1], None), seed=1))


def test_a_row_is_a_method_and_its_settings():
    config = cluster_config("word2vec_kmeans max_words=2000 sample=0.5", num_clusters=7)
    assert (config.method, config.max_words, config.sample, config.num_clusters) == ("word2vec_kmeans", 2000, 0.5, 7)
    with pytest.raises(UserError, match=r"unknown key 'cluster\.epoch'"):
        cluster_config("word2vec_kmeans epoch=2", num_clusters=7)
