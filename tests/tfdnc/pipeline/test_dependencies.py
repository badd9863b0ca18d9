"""Input files of stations: refused with the key that names them."""

from pathlib import Path

import pytest

from tfdnc.contracts.config import ClusterConfig, parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline.dependencies import judge_settings, previous_item_table, sections, train_settings


def test_an_item_table_of_an_earlier_run_must_be_there(tmp_path):
    """The message named the file alone, which `train.initial` may have chosen."""
    config = ClusterConfig(method="previous", previous=Path("runs/nope/cluster/items.parquet"))
    with pytest.raises(UserError, match=r"in cluster.previous, found no file runs/nope.*in train.initial"):
        previous_item_table(config, tmp_path)


def test_a_run_does_not_follow_itself(tmp_path):
    config = ClusterConfig(method="previous", previous=tmp_path / "cluster" / "items.parquet")
    with pytest.raises(UserError, match=r"which this run writes itself.*follows from train.initial"):
        previous_item_table(config, tmp_path)


def test_keys_that_earlier_versions_lacked_leave_their_trainings_up_to_date():
    old = train_settings(parse_config({"name": "x"}))
    new = {"optimizer", "draws", "hard_to", "stop_after", "auxiliary", "masked_items", "patience_drop"}
    assert not new & old["train"].keys()
    assert not {"history_clusters", "intent_width", "user_token", "popular_days"} & old["model"].keys()
    given = {"optimizer": "rowwise_adam", "draws": "batch", "stop_after": 3, "patience_drop": 0.5}
    given |= {"auxiliary": {"canonical_correlation": 0.1}, "masked_items": 0.2}
    hard = train_settings(parse_config({"name": "x", "train": {"loss": "sampled_softmax", "draws": "hard"}}))["train"]
    assert (hard["hard_from"], hard["hard_to"], hard["hard_refresh"]) == (1, 16, 1)
    tower = {"history_clusters": True, "intent_width": 1, "popular_days": 7}
    new = train_settings(parse_config({"name": "x", "model": tower, "train": given}))
    assert new["train"].items() >= given.items()
    assert new["model"].items() >= tower.items()


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("model", {"intent": "head"}),
        ("train", {"intent_weight": 0}),
        ("train", {"served_intent": "learned"}),
        ("cluster", {"method": "single"}),
        ("cluster", {"num_clusters": 1}),
    ],
)
def test_a_training_is_out_of_date_only_where_validation_may_choose_another_intent(section, values):
    """Earlier versions served the learned intent in all cases."""
    assert train_settings(parse_config({"name": "x"}))["train"]["served_intent"] == "auto"
    assert "served_intent" not in train_settings(parse_config({"name": "x", section: values}))["train"]
    named = parse_config({"name": "x", "model": {"intent": "head"}, "train": {"served_intent": "prior"}})
    assert train_settings(named)["train"]["served_intent"] == "prior"


@pytest.mark.parametrize(
    ("method", "number"), [("single", 10), ("category", 10), ("random", "auto"), ("word2vec_kmeans", "auto")]
)
def test_clusters_of_methods_that_do_not_read_the_number_stay_up_to_date(method, number):
    """The default was 10 before it was auto. A judge has the fingerprint of the method that it repeats."""
    config = parse_config({"name": "x", "cluster": {"method": method}, "evaluate": {"judge": {"method": method}}})
    assert sections("cluster")(config)["cluster"]["num_clusters"] == number
    assert judge_settings(config) == sections("cluster")(config)


def test_a_log_without_exposures_is_prepared_and_trained_as_before_there_were_any():
    plain = parse_config({"name": "x"})
    assert not {"exposures", "exposures_per_event"} & sections("data")(plain)["data"].keys()
    assert "exposure_weight" not in train_settings(plain)["train"]
    shown = {"data": {"exposures": {"action": ["impression"]}}, "train": {"loss": "exposure_softmax"}}
    config = parse_config({"name": "x", **shown})
    assert sections("data")(config)["data"]["exposures_per_event"] == 10
    assert train_settings(config)["train"]["exposure_weight"] == 0.1
