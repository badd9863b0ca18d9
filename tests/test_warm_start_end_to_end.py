"""Warm start on the whole road: a run on a grown log starts from the run of the day before."""

import csv

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.cli.main import main
from tfdnc.contracts.config import GenerateConfig, load_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.schema import CHECKPOINT_ITEMS
from tfdnc.datasets.generate import LOG, generate_log
from tfdnc.pipeline import outputs
from tfdnc.pipeline.engine import standing
from tfdnc.pipeline.stations import TRAIN, stations_of
from tfdnc.training.checkpoint import read_checkpoint

CONFIG = """
name: {name}
data: {{path: {log}, num_shards: 1, min_item_events: 1}}
{cluster}
model: {{dim: 8, max_length: 10, blocks: 1}}
train: {{epochs: {epochs}, initial: {initial}, batch_tokens: 200}}
"""
NEW = 5


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Configs and runs of two days; on the second, five more items have events. It trains for no epoch."""
    folder = tmp_path_factory.mktemp("days")
    generate_log(GenerateConfig(users=60, items=60, groups=3, mean_events=10), 1, folder)
    with (folder / LOG).open() as log:
        header, *rows = csv.reader(log)
    new = sorted({item for _, item, _ in rows})[:NEW]
    days = {"monday": [row for row in rows if row[1] not in new], "tuesday": rows}
    cluster, made = "cluster: {method: random, num_clusters: 3}", {}
    for name, kept in days.items():
        log, config = folder / f"{name}.csv", folder / f"{name}.yaml"
        log.write_text("\n".join(",".join(row) for row in [header, *kept]))
        first = name == "monday"
        initial = "null" if first else folder / "runs" / "monday"
        own = cluster if first else ""
        config.write_text(CONFIG.format(name=name, log=log, cluster=own, epochs=int(first), initial=initial))
        assert main(["train", str(config), "--runs", str(folder / "runs")]) == 0
        made[name] = load_config(config), folder / "runs" / name
    return made


def test_common_items_and_users_have_the_vectors_of_the_day_before(configs):
    (monday, tuesday), towers = (read_checkpoint(run / TRAIN.folder) for _, run in configs.values()), []
    rows = tuesday.rows(monday.item_ids)
    assert len(tuesday.item_ids) == len(monday.item_ids) + NEW
    assert (rows >= 0).all()
    np.testing.assert_array_equal(tuesday.embeddings[rows], monday.embeddings)
    np.testing.assert_array_equal(tuesday.clusters[rows], monday.clusters)
    towers = [outputs.trained_tower(config, run, outputs.item_table(run)) for config, run in configs.values()]
    first, second = (tower.user_vectors(tf.constant([[1 + n]])) for tower, n in zip(towers, (0, rows[0]), strict=True))
    np.testing.assert_allclose(first[0], second[0], atol=1e-6)


def test_a_newer_initial_run_makes_the_training_stale(configs):
    config, run = configs["tuesday"]
    assert TRAIN.name in standing(stations_of(config), config, run)
    items = configs["monday"][1] / TRAIN.folder / CHECKPOINT_ITEMS
    before = items.read_bytes()
    items.write_bytes(before + b" ")
    assert TRAIN.name not in standing(stations_of(config), config, run)
    items.write_bytes(before)


@pytest.mark.parametrize("initial", ["nowhere", "itself"])
def test_an_initial_run_without_weights_is_refused(configs, tmp_path, initial):
    config, run = configs["tuesday"]
    place = run if initial == "itself" else tmp_path
    other = config.model_copy(update={"train": config.train.model_copy(update={"initial": place})})
    with pytest.raises(UserError, match=r"^Expected (train\.initial of another run|the folder of a trained run)"):
        TRAIN.files(other, run)
