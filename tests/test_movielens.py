"""Real MovieLens-1M, from the log to served answers: the figures of the README, and what they rest on (`-m slow`).

Set TFDNC_ML1M to the folder with ratings.dat, and TFDNC_RUNS to a folder of earlier runs to reuse their stations.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serving.client import RetrievalClient
from tfdnc.pipeline.manifests import read_manifest

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("TFDNC_ML1M", ROOT.parent / "shared" / "data" / "ml-1m"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not (DATA / "ratings.dat").is_file(), reason="TFDNC_ML1M names no folder with ratings.dat"),
]

FLOORS = {
    "dnc": {"merge": {"recall@10": 0.285, "recall@20": 0.393, "recall@50": 0.548}}
    | {"within_cluster": {"recall@5": 0.355, "recall@20": 0.6, "recall@50": 0.775}},
    "sasrec": {"merge": {"recall@10": 0.2, "recall@20": 0.308, "recall@50": 0.478}},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Path(os.environ.get("TFDNC_RUNS") or tmp_path_factory.mktemp("runs"))


def run_config(config, runs, *settings):
    """`tfdnc run` on the real log; returns the folder of the run."""
    command = [sys.executable, "-m", "tfdnc.cli.main", "run", ROOT / "configs" / "ml1m" / f"{config}.yaml"]
    overrides = [part for setting in (f"data.path={DATA}", *settings) for part in ("--set", setting)]
    subprocess.run([*command, *overrides, "--runs", runs], check=True)
    return runs / f"ml1m-{config}"


@pytest.mark.parametrize("config", sorted(FLOORS))
def test_recall_reaches_its_floor(config, runs):
    run = run_config(config, runs)
    report = json.loads((run / "evaluate" / "report.json").read_text())
    for part, floors in FLOORS[config].items():
        for name, floor in floors.items():
            assert report[part][name] >= floor, f"{part} {name}"
    assert read_manifest(run / "train")["seconds"] <= 15 * 60


@pytest.mark.parametrize("index", ["exact", "scann"])
def test_every_cluster_answers_with_its_own_items_in_a_fresh_server(index, runs):
    """The trap of K ScaNN searchers in one SavedModel shows only in a process that did not build them."""
    from tfdnc.contracts.config import load_config
    from tfdnc.contracts.items import read_items
    from tfdnc.training.checkpoint import load_trained
    from tfdnc.training.records import read_held_out

    run = run_config("dnc", runs, f"export.index={index}")
    manifest = json.loads(next((run / "bundle").glob("*/assets.extra/manifest.json")).read_text())
    assert manifest["uses_scann"] == (index == "scann")
    items = read_items(run / "cluster")
    model = load_trained(load_config(run / "config.yaml"), items, run / "train")
    records = read_held_out(run / "examples" / "test")
    histories = [
        records.items[start:stop] for start, stop in zip(records.splits[:20], records.splits[1:21], strict=True)
    ]

    serve = subprocess.Popen(
        [sys.executable, "-m", "tfdnc.cli.main", "serve", run / "bundle", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = serve.stdout.readline().split()[-1]
        with RetrievalClient(address) as client:
            ids = [[items.item_ids[item - 1] for item in history] for history in histories]
            encoding = client.encode(ids)
            answers = client.retrieve(ids, num_candidates=500, alpha=0.0)
    finally:
        serve.terminate()
        serve.wait(timeout=30)

    vectors, log_intent = model.user_vectors(_padded([history[-model.max_length :] for history in histories]))
    np.testing.assert_allclose(encoding.user_embeddings, vectors, atol=2e-5)
    np.testing.assert_allclose(encoding.intent, np.exp(log_intent), atol=2e-5)
    row_of = {item_id: row for row, item_id in enumerate(items.item_ids)}
    found = wanted = 0
    for user, (history, answer) in enumerate(zip(histories, answers, strict=True)):
        rows = np.array([row_of[item_id] for item_id in answer.item_ids])
        np.testing.assert_array_equal(items.clusters[rows], answer.cluster_ids)
        for cluster in range(items.num_clusters):
            expected = _best_unseen(model, np.asarray(vectors)[user, cluster], history, cluster)
            mine = rows[answer.cluster_ids == cluster]
            assert len(mine) >= 40  # alpha = 0: an equal share of 500 for each of 10 clusters
            if index == "exact":
                np.testing.assert_array_equal(mine, expected[: len(mine)])
            found += len(set(mine) & set(expected[: len(mine)]))
            wanted += len(mine)
    assert found / wanted >= 0.98


def _best_unseen(model, vector, history, cluster):
    """Rows of a cluster by descending score, without the history."""
    start, stop = model.offsets[cluster], model.offsets[cluster + 1]
    order = np.argsort(-(model.item_embeddings.numpy()[start:stop] @ vector), kind="stable") + start
    return order[~np.isin(order, history - 1)]


def _padded(histories):
    width = max(len(history) for history in histories)
    return np.array([[*history, *[0] * (width - len(history))] for history in histories], np.int32)
