"""End to end on a log that is split by time: not every user has a part in training, validation and test."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from serving.server import running
from tests.quick_exports import exporting
from tfdnc.api.runs import open_run
from tfdnc.cli.main import main
from tfdnc.contracts import schema
from tfdnc.contracts.items import read_items
from tfdnc.pipeline.manifests import read_manifest
from tfdnc.pipeline.stations import CLUSTER, EVALUATE, EXAMPLES, EXPORT, PREPARE
from tfdnc.training.records import read_held_out, read_training

DAY = 86_400
CONFIG = """
name: by-time
data:
  path: {log}
  min_item_events: 2
  min_user_events: 2
  num_shards: 2
  split: time
  validation_from: 1970-03-01
  test_from: 1970-04-01
cluster: {{num_clusters: 3, dim: 8, epochs: 5}}
model: {{dim: 8, max_length: 10, blocks: 1}}
train: {{epochs: 2, batch_tokens: 800, learning_rate: 0.01, warmup_steps: 5, validate_every: 1}}
evaluate: {{candidates: [5, 10], within_cluster: [5], alphas: [0, 1]}}
export: {{index: exact, num_candidates: 5, max_candidates: 20, warmup_batch_sizes: [1]}}
"""


def make_log():
    """Users of three tastes who come and go between January and May; from April on all of them know "hit" too."""
    rng = np.random.default_rng(4)
    for user in range(150):
        first_day, last_day = np.sort(rng.integers(0, 150, 2))
        for day in np.sort(rng.integers(first_day, last_day + 1, rng.integers(2, 16))):
            item = "hit" if day >= 92 and rng.random() < 0.1 else f"i{3 * rng.integers(0, 15) + user % 3}"
            yield user, item, day * DAY


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    log, config = folder / "log.csv", folder / "by-time.yaml"
    log.write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in make_log()))
    config.write_text(CONFIG.format(log=log))
    with exporting("retrieve", "encode", "describe"):
        assert main(["run", str(config), "--runs", str(folder)]) == 0
    return folder / "by-time"


@pytest.fixture(scope="module")
def sequences(run):
    return pq.read_table(run / PREPARE.folder / schema.SEQUENCES).to_pylist()


def test_there_are_users_of_every_kind(sequences):
    # Otherwise the other tests would say nothing.
    kinds = {(row["train_events"] > 0, row["validation"] >= 0, row["test"] >= 0) for row in sequences}
    assert kinds >= {(True, True, True), (True, False, True), (True, True, False), (True, False, False)}
    assert kinds >= {(False, False, True), (False, False, False)}


def test_no_model_learns_from_later_events(run, sequences):
    boundary = 59 * DAY  # the first of March
    trained = [i for row in sequences for i, t in zip(row["items"], row["times"], strict=True) if t < boundary]
    counts = dict(zip(*np.unique(trained, return_counts=True), strict=True))
    items = pq.read_table(run / CLUSTER.folder / schema.ITEMS).to_pylist()
    assert {row["sequence_index"]: row["count"] for row in items if row["count"]} == counts
    assert next(row["count"] for row in items if row["item_id"] == "hit") == 0
    assert len(read_training(run / EXAMPLES.folder / schema.TRAIN).items) == len(trained)


def test_the_report_is_of_the_users_who_have_a_target(run, sequences):
    figures = read_manifest(run / PREPARE.folder)["figures"]["split"]
    report = json.loads((run / EVALUATE.folder / schema.REPORT).read_text())
    for split in (schema.VALIDATION, schema.TEST):
        targets = [row["items"][row[split]] for row in sequences if row[split] >= 0]
        records = read_held_out(run / EXAMPLES.folder / split)
        numbers = read_items(run / CLUSTER.folder).sequence_indices
        assert numbers[records.targets - 1].tolist() == targets
        assert figures[split]["users"] == len(targets)
    assert report["users"] == len(targets)
    assert 0 < figures[schema.TEST]["cold"] < len(targets)
    assert np.isfinite(report["merge"]["recall@10"])


def test_the_floor_lists_what_is_popular_in_the_last_days_before_the_split(run, sequences):
    """`model.popular_days` counts training events alone; every other station is adopted."""
    flags = [f"model.{key}={value}" for key, value in {"encoder": "item_counts", "popular_days": 10}.items()]
    flags += ["name=floor", "train.epochs=0", "cluster.method=single", "cluster.num_clusters=1", "merge.method=score"]
    config = str(run.parent / "by-time.yaml")
    assert (
        main(["evaluate", config, "--runs", str(run.parent), *(part for flag in flags for part in ("--set", flag))])
        == 0
    )
    floor = open_run(run.parent / "floor")
    tower, items = floor.tower(), floor.items
    window = range(49 * DAY, 59 * DAY)  # the ten days before the first of March
    recent = [i for row in sequences for i, t in zip(row["items"], row["times"], strict=True) if t in window]
    counts = np.bincount(recent, minlength=len(items.item_ids) + 1)[items.sequence_indices]
    assert 0 < counts.sum() < items.counts.sum()
    np.testing.assert_allclose(tower.item_embeddings.numpy()[:, 0], np.log(np.maximum(counts, 0.5)), rtol=1e-6)


def test_another_encoder_does_not_take_the_days(run, capsys):
    """Before any station works."""
    flags = ["--set", "model.popular_days=10", "--set", "name=refused"]
    assert main(["evaluate", str(run.parent / "by-time.yaml"), "--runs", str(run.parent), *flags]) == 2
    assert "Expected model.popular_days only with an encoder that counts items" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.fixture(scope="module")
def server(run):
    with running(run / EXPORT.folder) as server:
        yield server


@pytest.mark.parametrize("has_target", [True, False])
def test_any_user_can_be_asked_for(run, server, sequences, has_target, capsys):
    row = next(row for row in sequences if (row["test"] >= 0) == has_target)
    asked = ["--user", row["user_id"], "--num-candidates", "10", "--target", server.address]
    assert main(["query", "--run", str(run), *asked]) == 0
    screen = capsys.readouterr().out
    events = row["test"] if has_target else len(row["items"])
    assert f"User {row['user_id']} of {run}: {events} events" in " ".join(screen.split())
    assert ("The held-out next item" if has_target else "No event of this user is held out") in screen
