"""A weight from the row of a log to the position of a training batch that its event is the target of."""

import numpy as np
import pytest

from beam_jobs.examples import build_examples
from beam_jobs.sequences import prepare
from tfdnc.clustering import build_clusters
from tfdnc.contracts import schema
from tfdnc.contracts.config import ClusterConfig, ExamplesConfig, TrainConfig, parse_config
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.features import WEIGHT
from tfdnc.contracts.items import read_items
from tfdnc.training.batches import TrainingBatches
from tfdnc.training.negative_sources import RecordedNegatives
from tfdnc.training.records import read_training

BY_TIME = {"split": "time", "validation_from": 700_000, "test_from": 850_000}


@pytest.mark.parametrize("split", [{}, BY_TIME], ids=["leave_last_two", "time"])
def test_every_target_of_a_batch_has_the_weight_of_its_event(split, tmp_path):
    rng = np.random.default_rng(0)
    users, items, times = (rng.integers(0, most, 900) for most in (30, 25, 10**6))
    # A weight that says which event it is: 1000 for the user, 10 for the item; rows come in no order of time.
    rows = [f"{items[r]},{1000 * users[r] + 10 * items[r]}.5,u{users[r]},{times[r]}" for r in range(900)]
    (tmp_path / "log.csv").write_text("\n".join(["item_id,weight,user_id,timestamp", *rows]) + "\n")
    data = DataConfig(path=tmp_path / "log.csv", columns={"weight": "weight"}, num_shards=4, **split)
    prepare(data, tmp_path / "prepared", ["--chunk_bytes=1000"])
    build_clusters(tmp_path / "prepared", ClusterConfig(method="random", num_clusters=3), 1, tmp_path / "cluster")
    sequences, table = tmp_path / "prepared" / schema.SEQUENCES, tmp_path / "cluster" / schema.ITEMS
    build_examples(sequences, table, ExamplesConfig(), 1, tmp_path / "examples")

    ids = np.array([0, *map(int, read_items(tmp_path / "cluster").item_ids)])
    records = read_training(tmp_path / "examples" / schema.TRAIN, features=[WEIGHT])
    config = parse_config({"name": "x", "train": {"loss": "bce", "negatives": "records"}})
    negatives = RecordedNegatives(config, None, records)
    batches = TrainingBatches(records, negatives, TrainConfig(batch_tokens=200), max_length=50, seed=1)
    positions = 0
    for batch in batches.epoch(0):
        filled = batch["target"] > 0
        owner = (batch["weight"] // 1000).astype(int)
        expected = np.where(filled, 1000 * owner + 10 * ids[batch["target"]] + 0.5, 0)
        np.testing.assert_array_equal(batch["weight"], expected)
        assert all(len(set(mine[here])) == 1 for mine, here in zip(owner, filled, strict=True))  # a user per row
        positions += filled.sum()
    trained = (times < BY_TIME["validation_from"]).sum() if split else 900 - 2 * 30
    assert positions == trained - 30  # the first event of a user is no target
