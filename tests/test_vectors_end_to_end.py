"""End to end with content vectors: clusters of them, cold items found by them, and new items that a refresh lists."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from serving.bundles.in_process import load_bundle
from tests.quick_exports import exporting
from tfdnc.cli.main import main
from tfdnc.contracts import schema
from tfdnc.contracts.items import read_items
from tfdnc.pipeline.stations import CLUSTER, EVALUATE

TASTES, USERS = 3, 150
CONFIG = """
name: vectors
data:
  path: {log}
  items:
    path: {items}
    features: {{look: vector}}
    vectors: {{look: {{path: {array}, ids: {ids}}}}}
  min_item_events: 1
  num_shards: 2
cluster: {{method: content_kmeans, num_clusters: 3, max_share: 0.5}}
model: {{dim: 16, max_length: 10, blocks: 1, item_features: true}}
train: {{epochs: 30, batch_tokens: 400, learning_rate: 0.01, warmup_steps: 5, validate_every: 10, hidden_items: 0.3}}
evaluate: {{candidates: [5, 10], within_cluster: [5], alphas: [1]}}
"""


def make_log(rng):
    """Yields the events of users of one taste each: nine of its ten old items, then one of five new ones."""
    for user in range(USERS):
        taste = user % TASTES
        old = [f"old{TASTES * number + taste}" for number in rng.permutation(10)[:9]]
        for time, item in enumerate([*old, f"new{TASTES * rng.integers(0, 5) + taste}"]):
            yield f"{user},{item},{time}\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs the stations on a log whose items have vectors around that of their taste; one has none."""
    folder = tmp_path_factory.mktemp("vectors")
    rng = np.random.default_rng(6)
    (folder / "log.csv").write_text("user_id,item_id,timestamp\n" + "".join(make_log(rng)))
    names = [f"{age}{number}" for age, most in (("old", 30), ("new", 15)) for number in range(most)]
    (folder / "items.csv").write_text("item_id\n" + "\n".join(names))
    tastes = rng.normal(0, 1, (TASTES, 24))
    vectors = np.array([tastes[int(name[3:]) % TASTES] + rng.normal(0, 0.4, 24) for name in names])
    np.save(folder / "look.npy", vectors[1:])
    (folder / "look.txt").write_text("\n".join(names[1:]))
    files = {name: folder / file for name, file in (("log", "log.csv"), ("items", "items.csv"))}
    (folder / "mine.yaml").write_text(CONFIG.format(**files, array=folder / "look.npy", ids=folder / "look.txt"))
    with exporting("encode", "retrieve"):
        assert main(["run", str(folder / "mine.yaml"), "--runs", str(folder / "runs")]) == 0
    return folder / "runs" / "vectors"


def test_clusters_are_the_planted_tastes(run):
    items = read_items(run / CLUSTER.folder)
    clusters = {item: cluster for item, cluster in zip(items.item_ids, items.clusters, strict=True) if item != "old0"}
    for taste in range(TASTES):
        assert len({cluster for item, cluster in clusters.items() if int(item[3:]) % TASTES == taste}) == 1


def test_cold_targets_are_found_by_their_vectors(run):
    """Without features it is none: every new item is a target of the test part only."""
    cold = json.loads((run / EVALUATE.folder / schema.REPORT).read_text())["cold_targets"]
    assert cold["targets"] == USERS
    assert cold["recall@10"] > 0.8


def test_a_refresh_lists_new_items_by_their_vectors(run):
    """It was refused: only names of features were read of the newer file."""
    folder = run.parent.parent
    vectors, names = np.load(folder / "look.npy"), (folder / "look.txt").read_text().split()
    np.save(folder / "newer.npy", vectors[[names.index("old3"), names.index("old4")]] + 0.01)  # of tastes 0 and 1
    newer = {suffix: folder / f"newer.{suffix}" for suffix in ("csv", "npy", "txt")}
    newer["txt"].write_text("fresh0\nfresh1")
    newer["csv"].write_text("item_id\nfresh0\nfresh1\nunknown")
    arrays = ["look", str(newer["npy"]), str(newer["txt"])]
    with exporting("encode", "retrieve"):
        assert main(["refresh", str(run), "--items", str(newer["csv"]), "--keep-missing", "--vectors", *arrays]) == 0
    table = pq.read_table(run / "bundle" / "2" / schema.VERSION_ITEMS, columns=["item_id", "cluster"]).to_pydict()
    cluster_of = dict(zip(table["item_id"], table["cluster"], strict=True))
    with load_bundle(run / "bundle") as bundle:
        answers = bundle.retrieve([["old0", "old6", "old9"], ["old1", "old7", "old10"]], num_candidates=44)
    for taste, answer in enumerate(answers):
        assert cluster_of[f"fresh{taste}"] == cluster_of[f"old{3 + taste}"]
        assert len(answer.item_ids) == 44  # all but the history and the item that nothing is known about
        own, other = (answer.item_ids.index(f"fresh{number}") for number in (taste, 1 - taste))
        assert own < other
    assert "unknown" not in cluster_of
