"""End to end with new items, found by their features: from the item file to the answer of a server."""

import json
import threading

import numpy as np
import pytest

from serving.bundles.in_process import load_bundle
from serving.bundles.publish import publish, rollback
from serving.client import RetrievalClient, RetrievalError
from serving.server import running
from tests.quick_exports import exporting
from tests.serving.waiting import until_available
from tfdnc.cli.main import main
from tfdnc.contracts import bundle, schema
from tfdnc.pipeline.stations import EVALUATE, EXPORT

TASTES, USERS, SHOWN = 3, 150, 9
ASKED = ("retrieve", "retrieve_filtered", "encode")
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
export:
  {{index: exact, num_candidates: 5, max_candidates: 30, warmup_batch_sizes: [1], attributes: {{brand: values}}}}
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
        with exporting(*ASKED):
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


@pytest.fixture(scope="module")
def refreshed(runs):
    """The run after a refresh: items came, and two left."""
    file = runs[True].parent / "newer.csv"
    rows = (runs[True].parents[1] / "items.csv").read_text().splitlines()
    stay = [row for row in rows if row.partition(",")[0] not in ("old0", "new0")]
    later = [f"later{taste},brand{taste}|all,4" for taste in range(TASTES)]
    file.write_text("\n".join([*stay, *later, "odd,brand9,"]))
    with exporting(*ASKED):
        assert main(["refresh", str(runs[True]), "--items", str(file)]) == 0
    return runs[True]


def others_of_taste(taste):
    return [f"old{TASTES * number + taste}" for number in range(1, 10)]


def test_a_refresh_lists_new_items_by_taste_and_no_item_that_left(refreshed):
    histories = [others_of_taste(taste) for taste in range(TASTES)]
    with load_bundle(refreshed / EXPORT.folder / "1") as before, load_bundle(refreshed / EXPORT.folder) as after:
        assert "old0" in before.retrieve(histories[:1], 30)[0].item_ids
        for taste, answer in enumerate(after.retrieve(histories, 30)):
            assert not {"old0", "new0", "odd"} & set(answer.item_ids)
            ranks = [list(answer.item_ids).index(f"later{other}") for other in range(TASTES)]
            assert np.argmin(ranks) == taste
        # A history with an item that left says what it said before; no history at all says something else.
        left = [["old0"], ["old0", "old3", "new0"]]
        expected = before.encode(left).user_embeddings
        np.testing.assert_allclose(after.encode(left).user_embeddings, expected, rtol=1e-5, atol=1e-6)
        assert np.abs(expected - after.encode([[]]).user_embeddings).max() > 0.01


def test_conditions_know_the_attributes_of_the_newer_file(refreshed):
    with load_bundle(refreshed / EXPORT.folder) as after:
        [answer] = after.retrieve([others_of_taste(0)], 30, where={"brand": "brand1"})
        [allowed] = after.retrieve([others_of_taste(0)], 30, allow=[["old0", "later1", "unheard"]])  # old0 has left
    assert list(allowed.item_ids) == ["later1"]
    numbers = [int("".join(filter(str.isdigit, item))) for item in answer.item_ids]
    assert "later1" in answer.item_ids
    assert {number % TASTES for number in numbers} == {1}


def test_the_manifest_says_what_a_refresh_has_done(refreshed):
    manifest = json.loads((refreshed / EXPORT.folder / "2" / bundle.MANIFEST_ASSET).read_text())
    before = json.loads((refreshed / EXPORT.folder / "1" / bundle.MANIFEST_ASSET).read_text())
    found = manifest["refreshed"]
    assert (found["from_version"], found["new"], found["left"], found["left_out"]) == (1, TASTES, 2, 1)
    assert (found["replaced"], found["returned"], found["history_only"]) == (0, 0, 2)
    assert manifest["items"] == before["items"] + TASTES - 2
    assert {key: manifest[key] for key in ("config", "metrics", "files")} == {
        key: before[key] for key in ("config", "metrics", "files")
    }


def test_a_running_server_takes_the_refreshed_version_without_a_failed_request(refreshed, tmp_path):
    versions = refreshed / EXPORT.folder
    publish(versions / "1", tmp_path, lambda path: None)
    failed, lists, done = [], [], threading.Event()

    def ask(address):
        with RetrievalClient(address) as client:
            while not done.wait(0.05):
                try:
                    lists.append(set(client.retrieve([others_of_taste(1)], 30)[0].item_ids))
                except RetrievalError as error:
                    failed.append(error)

    with running(tmp_path, file_system_poll_wait_seconds=0) as server:
        user = threading.Thread(target=ask, args=(server.address,))
        user.start()
        try:
            for version, bring in (
                (2, lambda: publish(versions / "2", tmp_path, lambda path: None)),
                (3, lambda: rollback(tmp_path)),
            ):
                bring()
                server.source.poll()
                until_available(server, bundle.MODEL_NAME, version)
                asked = len(lists)
                while len(lists) < asked + 3 and user.is_alive():
                    done.wait(0.01)
        finally:
            done.set()
            user.join()
    assert failed == []
    assert [len(group) > 0 for group in (lists, [one for one in lists if "later1" in one])] == [True, True]
    assert "later1" not in lists[0] | lists[-1]
