"""End to end with exposures: rows that were shown and passed over, from a log to a gRPC answer.

48 items are in 16 groups of three. What was passed over after an event says the group of the next event, and nothing
else does. So a list of three has the next item if a model reads exposures, and every sixteenth if it does not.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml

from serving import tensors
from serving.bundles.recorded import read_recorded
from tfdnc.cli.main import main
from tfdnc.contracts import schema
from tfdnc.contracts.config import load_config
from tfdnc.contracts.features import EXPOSURES, model_features
from tfdnc.contracts.items import read_items
from tfdnc.export.histories import sample_histories
from tfdnc.operations.next_events import read_questions
from tfdnc.operations.run_users import first_user
from tfdnc.training.records import read_held_out

GROUPS, SIZE = 16, 3
CONFIG = {
    "name": "shown",
    "data": {"exposures": {"action": ["impression"]}, "exposures_per_event": 3, "num_shards": 2, "min_item_events": 1},
    "cluster": {"method": "single"},
    "model": {"dim": 24, "blocks": 1, "max_length": 10, "encoder": "transformer", "dropout": 0.0},
    "train": {"loss": "softmax", "epochs": 10, "validate_every": 10, "learning_rate": 0.02, "warmup_steps": 10},
    "merge": {"method": "score"},
    "evaluate": {"candidates": [3], "within_cluster": [3], "alphas": [1]},
    "export": {"index": "exact", "num_candidates": 3, "max_candidates": 6, "warmup_batch_sizes": [1]},
}
CONFIG["model"]["inputs"] = ["exposures"]
CONFIG["data"]["seen"] = "allow"


def write_log(file, users=300, events=10):
    """One item in twenty that is shown has no event ever."""
    rng = np.random.default_rng(1)
    rows = ["user_id,item_id,timestamp,action"]
    for user in range(users):
        at, group = 1_700_000_000 + int(rng.integers(86_400)), rng.integers(GROUPS)
        for _ in range(events):
            rows.append(f"{user},i{SIZE * group + rng.integers(SIZE)},{at},click")
            group = rng.integers(GROUPS)
            for _ in range(rng.integers(1, 6)):
                at += 1
                unseen = rng.random() < 0.05
                item = "never" if unseen else f"i{(SIZE * (group + 1) + rng.integers(SIZE)) % (SIZE * GROUPS)}"
                rows.append(f"{user},{item},{at},impression")
            at += 1
    file.write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    write_log(folder / "log.csv")
    config = CONFIG | {"data": CONFIG["data"] | {"path": str(folder / "log.csv")}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", str(folder / "config.yaml"), "--runs", str(folder / "runs")]) == 0
    return folder / "runs" / "shown"


@pytest.fixture(scope="module")
def report(run):
    return json.loads((run / "evaluate" / "report.json").read_text())


@pytest.fixture(scope="module")
def users(run):
    """Test histories, what was passed over after each of their items, and targets, as clients know them."""
    config, items = load_config(run / schema.RUN_CONFIG), read_items(run / "cluster")
    features = model_features(config)
    records = read_held_out(run / "examples" / "test", features)
    histories, known = sample_histories(records, items.item_ids, len(records.targets), features)
    by_length = np.argsort(np.diff(records.splits), kind="stable")
    return {
        "histories": histories,
        "exposures": [of_user["history_exposures"] for of_user in known],
        "targets": [items.item_ids[records.targets[user] - 1] for user in by_length],
    }


ASK = """
import json, pathlib, sys
from serving.client import RetrievalClient
from serving.server import running

users = json.loads(sys.stdin.read())
with running(pathlib.Path(sys.argv[1])) as server, RetrievalClient(server.address, batch_size=100) as client:
    def hits(**features):
        answers = client.retrieve(users["histories"], 3, features=features)
        return sum(target in answer.item_ids for target, answer in zip(users["targets"], answers)) / len(answers)

    told = {"known": hits(exposures=users["exposures"]), "left out": hits()}
    told["none"] = hits(exposures=[[]] * len(users["histories"]))
    one = {"exposures": [[["i1", "what is this", "i2"], None, []]]}
    known = {"exposures": [[["i1", "i2"], [], []]]}
    told["unknown item"] = [client.encode([["i4"] * 3], features=of).user_embeddings.tolist() for of in (one, known)]
    told["inputs"] = {name: (one.dtype, one.shape) for name, one in client.metadata()["encode"].inputs.items()}
    told["refusals"] = []
    for wrong in ([["i1"]], [[["i1"], ["i2"]]], [[[7]]], 3, None):
        try:
            client.retrieve([["i1"]], 3, features=None if wrong is None else {"exposures": wrong})
        except Exception as error:
            told["refusals"].append(f"{type(error).__name__}: {error}")
    print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(run, users):
    """Answers to a client in a process that has never seen the model."""
    command = [sys.executable, "-c", ASK, str(run / "bundle")]
    done = subprocess.run(command, input=json.dumps(users), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_exposures_are_no_events_and_every_row_has_one_account(run):
    figures = json.loads((run / "prepare" / "manifest.json").read_text())["figures"]
    assert figures["events"] == 3000
    shown = figures["exposures"]
    assert figures["rows_read"] == figures["events"] + shown["rows"]
    assert shown["rows"] == shown["kept"] + sum(shown["left_out"].values())
    assert shown["left_out"]["unknown_item"] > 100
    assert shown["left_out"]["exposures_per_event"] > 100
    items = read_items(run / "cluster")
    assert "never" not in items.item_ids
    assert items.counts.sum() == figures["split"]["train_events"]


def test_the_model_learns_from_them_and_the_bundle_answers_the_same(report, told, users):
    assert report["merge"]["recall@3"] > 0.8
    assert told["known"] == pytest.approx(report["merge"]["recall@3"], abs=1.5 / len(users["targets"]))


def test_without_them_a_list_has_one_group_by_chance(report, told, users):
    assert told["none"] == told["left out"] < 0.2
    assert report["without_inputs"]["event"]["recall@3"] == pytest.approx(told["none"], abs=1.5 / len(users["targets"]))


def test_the_signature_has_their_items_beside_the_history(told):
    assert told["inputs"]["history_exposures"] == ["string", [None, None, None]]
    one, other = told["unknown item"]
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_wrong_ones_are_told_in_a_sentence(told):
    flat, many, number, single, without = told["refusals"]
    assert "Expected features['exposures'] to be a sequence of item ids as text for each user, got 'i1'" in flat
    assert (
        "Expected features['exposures'] for each of 1 histories, none or as many as it has items ([1]), got [2]" in many
    )
    assert "got 7 (int) in row 0" in number
    assert "Expected features['exposures'] to be a sequence of" in single
    assert "history_exposures" in without


def test_recorded_requests_have_them(run):
    sent = [log.request.inputs for log in read_recorded(run / "bundle" / "1")]
    shown = [tensors.decode(inputs["history_exposures"]) for inputs in sent if "history_exposures" in inputs]
    assert max(array.shape[2] for array in shown) == 3
    assert all((array[:, 0] == b"").all() for array in shown)


def test_users_of_a_run_and_of_a_log_bring_theirs(run):
    config, items = load_config(run / schema.RUN_CONFIG), read_items(run / "cluster")
    user = first_user(run, items, [EXPOSURES])
    questions = read_questions(config.data, [config.data.path], None, 1000)
    known = next(
        of for of, history in zip(questions.known, questions.histories, strict=True) if history == user.history
    )
    assert user.known["history_exposures"] == known["history_exposures"]
    assert len(user.known["history_exposures"]) == len(user.history)
    assert {item for shown in user.known["history_exposures"] for item in shown} <= set(items.item_ids)
