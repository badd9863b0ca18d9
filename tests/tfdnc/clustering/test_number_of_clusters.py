"""`cluster.num_clusters: auto`: the rule against numbers by hand, and the station that replaces it once."""

import numpy as np
import pytest

from tests.tfdnc.clustering.prepared_logs import TINY, two_tastes, write_prepared
from tfdnc.clustering import CLUSTERERS, build_clusters, read_training_log
from tfdnc.clustering.number import auto_clusters, choose_number
from tfdnc.contracts.config import ClusterConfig
from tfdnc.pipeline.headlines import clusters

AUTO = TINY.model_copy(update={"num_clusters": "auto"})


@pytest.mark.parametrize(
    ("items", "number", "reason"),
    [
        (1, 1, "1 items with events are too few to divide"),
        (39, 1, "39 items with events are too few to divide"),
        (40, 2, "so that each has 20 or more of 40 items with events"),
        (80, 4, "so that each has 20 or more of 80 items"),
        (300, 4, "the least for 300 items with events: 3 by the rule"),
        (3_400, 10, "the square root of (3,400 items with events / 34)"),
        (85_000, 50, "the square root of (85,000 items"),
        (1_000_000, 100, "the most for 1,000,000 items with events: 171 by the rule"),
    ],
)
def test_the_number_follows_from_the_items_with_events(items, number, reason):
    chosen = auto_clusters(items)
    assert chosen.number == number
    assert chosen.reason.startswith(f"cluster.num_clusters: auto is {number}, {reason}")


def test_items_without_events_do_not_count():
    config, chosen = choose_number(AUTO, np.repeat([0, 3], [1_000, 80]))
    assert config.num_clusters == chosen.number == 4


@pytest.mark.parametrize("config", [TINY, ClusterConfig(method="single"), ClusterConfig(method="category")])
def test_a_number_of_the_config_and_methods_without_one_stay(config):
    assert choose_number(config, np.ones(1_000, int)) == (config, None)


def test_the_clusterer_is_asked_for_the_number_and_the_user_is_told(tmp_path, monkeypatch, caplog):
    asked = []

    def halves(log, config, seed):
        asked.append(config.num_clusters)
        return np.arange(log.num_items) % 2, {}

    monkeypatch.setitem(CLUSTERERS, "halves", halves)
    caplog.set_level("INFO")
    prepared = write_prepared(tmp_path / "prepared", two_tastes(items=80), 80)
    figures = build_clusters(prepared, AUTO.model_copy(update={"method": "halves"}), 1, tmp_path / "out")
    assert (asked, figures["num_clusters"], figures["clusters"]) == ([4], 4, 2)  # as with items of equal vectors
    reason = "cluster.num_clusters: auto is 4, so that each has 20 or more of 80 items with events"
    assert reason in caplog.text
    assert f"2 clusters of 40 to 40 items; {reason}; next item" in clusters(figures)


def test_a_clusterer_refuses_to_run_without_a_number(tmp_path):
    """A caller from Python that skips the station."""
    log = read_training_log(write_prepared(tmp_path / "prepared", two_tastes(), 20), tmp_path / "scratch")
    with pytest.raises(ValueError, match="expected a number, got auto"):
        CLUSTERERS["random"](log, AUTO, 1)
