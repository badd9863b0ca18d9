"""End to end with a declared number of events: `data.events: {dwell: number}`, `model.inputs: [dwell]`, no more.

After an event with a dwell above 0 a user takes one of the first hundred items, after one below 0 one of the others.
So half of what can be known of the next item stands in this column, and nowhere else.
"""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from serving import tensors
from serving.bundles.recorded import read_recorded
from tfdnc.cli.main import main
from tfdnc.contracts import schema
from tfdnc.contracts.bundle import HISTORY
from tfdnc.contracts.config import load_config
from tfdnc.contracts.features import log_features, model_features
from tfdnc.contracts.items import read_items
from tfdnc.training.records import read_held_out

CONFIG = {
    "name": "dwell",
    "data": {"events": {"dwell": "number"}, "num_shards": 2, "min_item_events": 1},
    "cluster": {"method": "single"},
    "model": {"dim": 16, "blocks": 1, "max_length": 12, "encoder": "transformer", "inputs": ["dwell"]},
    "train": {"loss": "softmax", "epochs": 8, "learning_rate": 0.01, "warmup_steps": 10, "validate_every": 8},
    "merge": {"method": "score"},
    "evaluate": {"candidates": [100], "within_cluster": [100], "alphas": [1]},
    "export": {"index": "exact", "num_candidates": 100, "max_candidates": 100, "warmup_batch_sizes": [1]},
}
KEY = "event_dwell"
UNKNOWN = np.float32(schema.UNKNOWN_NUMBER)


def write_log(path, users=300, events=12):
    """Every tenth dwell is missing."""
    rng = np.random.default_rng(1)
    rows = ["user_id,item_id,timestamp,dwell"]
    for user in range(users):
        dwell = rng.choice([-1, 1], events) * rng.uniform(20, 60, events)
        items = rng.integers(100, size=events) + 100 * (np.append(0, dwell[:-1]) < 0)
        missing = rng.random(events) < 0.1
        shown = ["" if gone else f"{value:.3f}" for value, gone in zip(dwell, missing, strict=True)]
        rows += [f"{user},i{item},{time},{value}" for time, (item, value) in enumerate(zip(items, shown, strict=True))]
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dwell")
    write_log(folder / "log.csv")
    config = CONFIG | {"data": CONFIG["data"] | {"path": str(folder / "log.csv")}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", str(folder / "config.yaml"), "--runs", str(folder / "runs")]) == 0
    return folder / "runs" / "dwell"


@pytest.fixture(scope="module")
def report(run):
    return json.loads((run / "evaluate" / "report.json").read_text())


@pytest.fixture(scope="module")
def users(run):
    """Test histories, their dwells and targets as clients know them."""
    config = load_config(run / schema.RUN_CONFIG)
    items, records = read_items(run / "cluster"), read_held_out(run / "examples" / "test", model_features(config))
    spans = [slice(*records.splits[user : user + 2]) for user in range(len(records.targets))]
    ids = [[items.item_ids[item - 1] for item in records.items[span]] for span in spans]
    dwells = [[None if value == UNKNOWN else float(value) for value in records.features[KEY][span]] for span in spans]
    return {"histories": ids, "dwell": dwells, "targets": [items.item_ids[target - 1] for target in records.targets]}


ASK = """
import json, pathlib, sys
from serving.client import RetrievalClient, RetrievalError
from serving.server import running

users = json.loads(sys.stdin.read())
histories, dwell = users["histories"], users["dwell"]
with running(pathlib.Path(sys.argv[1])) as server, RetrievalClient(server.address) as client:
    def hits(dwell):
        answers = client.retrieve(histories, 100, features={"dwell": dwell})
        return sum(target in answer.item_ids for target, answer in zip(users["targets"], answers)) / len(answers)

    def vectors(dwell):
        return client.encode(histories[:3], features={"dwell": dwell}).user_embeddings.tolist()

    told = {"known": hits(dwell), "unknown": hits([[]] * len(histories))}
    told["vectors"] = {"none": vectors([[]] * 3), "missing": vectors([[None] * len(one) for one in histories[:3]])}
    told["vectors"]["turned"] = vectors([[*one[:-1], -(one[-1] or -30)] for one in dwell[:3]])
    told["inputs"] = {name: of.inputs["history_dwell"].dtype for name, of in client.metadata().items()
                      if "history_dwell" in of.inputs}
    try:
        client.retrieve(histories[:1], 5)
    except RetrievalError as error:
        told["refusal"] = str(error)
    print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(run, users):
    """Answers to a client in a process that has never seen the model."""
    command = [sys.executable, "-c", ASK, str(run / "bundle")]
    done = subprocess.run(command, input=json.dumps(users), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_column_is_declared_once_and_read_by_name(run):
    config = load_config(run / schema.RUN_CONFIG)
    assert [feature.name for feature in log_features(config.data)] == ["time", "dwell"]
    assert [feature.name for feature in model_features(config)] == ["dwell"]
    values = pq.read_table(run / "prepare" / schema.SEQUENCES)[KEY].combine_chunks().values.to_numpy()
    assert 0.05 < (values == UNKNOWN).mean() < 0.15


def test_the_model_learns_from_it(report):
    """Without it .5 of the items are as likely as the others."""
    assert report["merge"]["recall@100"] > 0.75


def test_the_bundle_answers_what_the_evaluation_measured(told, report, users):
    count = len(users["targets"])
    assert told["known"] == pytest.approx(report["merge"]["recall@100"], abs=1.5 / count)


def test_a_request_may_not_know_it(told):
    assert told["unknown"] < 0.65
    vectors = told["vectors"]
    np.testing.assert_allclose(vectors["none"], vectors["missing"], atol=1e-6)
    assert np.abs(np.subtract(vectors["none"], vectors["turned"])).max() > 0.1


def test_every_signature_that_encodes_has_the_input_and_a_request_without_it_is_told_so(told):
    encoding = {"serving_default", "retrieve", "retrieve_joint", "retrieve_controlled", "encode"}
    assert told["inputs"].keys() == encoding
    assert "history_dwell" in told["refusal"]
    assert "Give in `features`" in told["refusal"]


def test_recorded_requests_know_it_of_real_users_and_of_others_do_not(run):
    sent = [log.request.inputs for log in read_recorded(run / "bundle" / "1")]
    sent = [inputs for inputs in sent if "history_dwell" in inputs]
    known = [(tensors.decode(inputs["history_dwell"]) != UNKNOWN).any(axis=1) for inputs in sent]
    assert any(row.all() for row in known)
    empty = [(tensors.decode(inputs[HISTORY]) == b"").all(axis=1) for inputs in sent]
    assert any(row.any() for row in empty)
    assert not any((one & other).any() for one, other in zip(known, empty, strict=True))
