"""End to end with new items, found by their features: from the item file to the answer of a server."""

import json

import numpy as np
import pytest

from serving.client import RetrievalClient
from serving.server import running
from tfdnc.cli.main import main
from tfdnc.contracts import schema
from tfdnc.pipeline.stations import EVALUATE, EXPORT

TASTES, USERS, SHOWN = 3, 150, 9
CONFIG = """
name: features
data:
  path: {log}
  items: {{path: {items}, features: {{brand: values, price: number}}}}
  catalogue: items
  min_item_events: 1
  num_shards: 2
cluster: {{method: random, num_clusters: 2}}  # so that no cluster is a taste
model: {{dim: 16, max_length: 10, blocks: 1, item_features: {features}}}
train: {{epochs: 40, batch_tokens: 400, learning_rate: 0.01, warmup_steps: 5, validate_every: 10, hidden_items: 0.3}}
evaluate: {{candidates: [5, 10], within_cluster: [5], alphas: [1]}}
export: {{index: exact, num_candidates: 5, max_candidates: 30, warmup_batch_sizes: [1]}}
"""


def make_log():
    """Users of one taste each: nine of its ten old items, then one of five new ones, the test target."""
    rng = np.random.default_rng(4)
    for user in range(USERS):
        taste = user % TASTES
        items = [f"old{TASTES * number + taste}" for number in rng.permutation(10)[:SHOWN]]
        for time, item in enumerate([*items, f"new{TASTES * rng.integers(0, 5) + taste}"]):
            yield user, item, time


def write_files(folder):
    log, items = folder / "log.csv", folder / "items.csv"
    log.write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in make_log()))
    ages = (("old", 30), ("new", 15), ("next", 3))
    rows = [(f"{age}{n}", f"brand{n % TASTES}|all", n) for age, most in ages for n in range(most)]
    items.write_text("item_id,brand,price\n" + "".join(f"{i},{brand},{price}\n" for i, brand, price in rows))
    return log, items


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    log, items = write_files(folder)
    found = {}
    for features in (True, False):
        config = folder / f"{features}.yaml"
        config.write_text(CONFIG.format(log=log, items=items, features=str(features).lower()))
        command = ["run" if features else "evaluate", str(config), "--runs", str(folder / str(features))]
        assert main(command) == 0
        found[features] = folder / str(features) / "features"
    return found


def cold_targets(run):
    return json.loads((run / EVALUATE.folder / schema.REPORT).read_text())["cold_targets"]


def test_features_find_targets_that_were_in_no_training_history(runs):
    with_features, without = cold_targets(runs[True]), cold_targets(runs[False])
    assert with_features["targets"] == without["targets"] == USERS
    # Seven items of a user's taste are left, six of them new; a list of ten has a result for each of them.
    assert with_features["recall@10"] > 0.8
    assert without["recall@10"] < 0.6


def test_a_server_recommends_new_items_of_the_users_taste(runs):
    histories = [[f"old{TASTES * number + taste}" for number in range(9)] for taste in range(TASTES)]
    with running(runs[True] / EXPORT.folder) as server, RetrievalClient(server.address) as client:
        answers = client.retrieve(histories, num_candidates=10)
    for taste, answer in enumerate(answers):
        own = {item_id for item_id in answer.item_ids if int(item_id[3:].lstrip("t")) % TASTES == taste}
        assert len([item_id for item_id in own if item_id.startswith("new")]) >= 4
        assert f"next{taste}" in own  # it stands in the item file, and in no event
