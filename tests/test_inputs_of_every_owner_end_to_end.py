"""End to end with inputs of events, of requests, of users, and kinds of targets: from columns to a gRPC answer.

Each of five inputs halves the items that may be next: 96 items are in 32 groups of three. So a list of three has the
next item if a model knows all of them, and every second one if it lacks one.
"""

import datetime
import json
import subprocess
import sys
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yaml

from serving import tensors
from serving.bundles.recorded import read_recorded
from tests.quick_exports import exporting
from tfdnc.cli.main import main
from tfdnc.contracts import schema
from tfdnc.contracts.bundle import HISTORY
from tfdnc.contracts.config import load_config
from tfdnc.contracts.features import model_features
from tfdnc.contracts.items import read_items
from tfdnc.training.checkpoint import read_checkpoint
from tfdnc.training.records import input_values, read_held_out

UNKNOWN = np.float32(schema.UNKNOWN_NUMBER)
ZONE = "Asia/Kolkata"  # five and a half hours before UTC
READ = ["dwell", "surface", "action", "device", "hour", "country"]
CONFIG = {
    "name": "owners",
    "data": {
        "events": {"dwell": "number", "surface": "value", "action": "value"},
        "targets": {"action": ["buy", "cart"]},
        "context": {"device": "value", "hour": "hour_of_day", "day": "day_of_week"},
        "time_zone": ZONE,
        "num_shards": 2,
        "min_item_events": 1,
    },
    "cluster": {"method": "single"},
    "model": {"dim": 24, "blocks": 1, "max_length": 12, "encoder": "transformer", "dropout": 0.0, "inputs": READ},
    "train": {"loss": "softmax", "epochs": 12, "learning_rate": 0.02, "warmup_steps": 10, "validate_every": 12},
    "merge": {"method": "score"},
    "evaluate": {"candidates": [3], "within_cluster": [3], "alphas": [1]},
    "export": {"index": "exact", "num_candidates": 3, "max_candidates": 6, "warmup_batch_sizes": [1]},
}


def write_log(folder, users=400, events=12):
    """Every tenth user is not in the file of users, and every twentieth dwell is missing."""
    rng = np.random.default_rng(1)
    rows, people = ["user_id,item_id,timestamp,dwell,surface,action,device"], ["id,country,age"]
    for user in range(users):
        at = 1_700_000_000 + int(rng.integers(86_400))
        people += [f"{user},{['DE', 'FR'][user % 2]},{20 + user % 50}"] if user % 10 else []
        long, surface = rng.integers(2, size=2)
        for _ in range(events):
            at += int(rng.integers(1, 24)) * 3600
            action, device = rng.choice(["buy", "cart", "view"], p=[0.4, 0.4, 0.2]), rng.integers(2)
            late = datetime.datetime.fromtimestamp(at, ZoneInfo(ZONE)).hour >= 12
            halves = [long, surface, action == "buy", late, device]
            item = 3 * np.dot(halves, [1, 2, 4, 8, 16]) + rng.integers(3)
            long, surface = rng.integers(2, size=2)
            dwell = "" if rng.random() < 0.05 else f"{(2 * long - 1) * rng.uniform(20, 60):.3f}"
            shown = [dwell, ["feed", "search"][surface], action, ["phone", "web"][device]]
            rows.append(f"{user},i{item},{at},{','.join(shown)}")
    (folder / "log.csv").write_text("\n".join(rows) + "\n")
    (folder / "users.csv").write_text("\n".join(people) + "\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("owners")
    write_log(folder)
    users = {"path": str(folder / "users.csv"), "user": "id", "features": {"country": "value", "age": "number"}}
    config = CONFIG | {"data": CONFIG["data"] | {"path": str(folder / "log.csv"), "users": users}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", str(folder / "config.yaml"), "--runs", str(folder / "runs")]) == 0
    return folder / "runs" / "owners"


@pytest.fixture(scope="module")
def token_run(run):
    """A run of the same log whose model has the country in a token of its own; it need not learn much."""
    command = ["run", str(run.parents[1] / "config.yaml"), "--runs", str(run.parent), "--set", "name=token"]
    few = ["model.user_token=true", "train.epochs=3", "train.validate_every=3"]
    with exporting("retrieve", "encode"):
        assert main([*command, *(part for one in few for part in ("--set", one))]) == 0
    return run.parent / "token"


@pytest.fixture(scope="module")
def report(run):
    return json.loads((run / "evaluate" / "report.json").read_text())


@pytest.fixture(scope="module")
def users(run):
    """Test histories, what is known of them, and targets as clients know them."""
    config, items = load_config(run / schema.RUN_CONFIG), read_items(run / "cluster")
    known = input_values(run / "examples")
    features = [feature.with_values(known) for feature in model_features(config)]
    records = read_held_out(run / "examples" / "test", features)
    spans = [slice(*records.splits[user : user + 2]) for user in range(len(records.targets))]
    asked = {}
    for feature in features:
        for row in feature.request_rows:
            values = [feature.asked(records.features[feature.key][span], 0)[row.name] for span in spans]
            asked[row.name.removeprefix("history_")] = values
    asked["dwell"] = [[None if value == UNKNOWN else value for value in of_user] for of_user in asked["dwell"]]
    return {
        "histories": [[items.item_ids[item - 1] for item in records.items[span]] for span in spans],
        "features": asked,
        "targets": [items.item_ids[target - 1] for target in records.targets],
    }


ASK = """
import json, pathlib, sys
from serving.client import RetrievalClient
from serving.server import running

users = json.loads(sys.stdin.read())
with running(pathlib.Path(sys.argv[1])) as server, RetrievalClient(server.address) as client:
    def hits(**changed):
        answers = client.retrieve(users["histories"], 3, features=users["features"] | changed)
        return sum(target in answer.item_ids for target, answer in zip(users["targets"], answers)) / len(answers)

    told = {"known": hits()}
    for name in ("request_action", "request_device", "request_hour"):
        told[name] = hits(**{name: None})
    few = {name: values[:3] for name, values in users["features"].items()}
    for country in ("DE", "FR", "AT", None):
        vectors = client.encode(users["histories"][:3], features=few | {"user_country": country}).user_embeddings
        told[f"vectors {country}"] = vectors.tolist()
    told |= {name: hits(**{name: [[]] * len(users["histories"])}) for name in ("dwell", "surface")}
    told["left out"] = len(client.retrieve(users["histories"][:2], 3, features={})[0].item_ids)
    told["inputs"] = {name: tensor.dtype for name, tensor in client.metadata()["encode"].inputs.items()}
    told["refusals"] = []
    mistakes = {"user_country": 7, "request_hour": "noon", "hour": [["8"]], "age": [[1]]}
    for wrong in (*({name: value} for name, value in mistakes.items()), {"request_hour": 24}, None):
        try:
            client.retrieve([["i1"]], 3, features=wrong)
        except Exception as error:
            told["refusals"].append(f"{type(error).__name__}: {error}")
    print(json.dumps(told))
"""


def ask(run, users):
    """Answers to a client in a process that has never seen the model."""
    command = [sys.executable, "-c", ASK, str(run / "bundle")]
    done = subprocess.run(command, input=json.dumps(users), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def told(run, users):
    return ask(run, users)


def test_the_model_learns_from_all_of_them_and_the_bundle_answers_the_same(report, told, users):
    assert report["merge"]["recall@3"] > 0.7
    assert told["known"] == pytest.approx(report["merge"]["recall@3"], abs=1.5 / len(users["targets"]))


@pytest.mark.parametrize("name", ["dwell", "surface", "request_action", "request_device", "request_hour"])
def test_a_request_without_one_finds_the_half(told, name):
    assert 0.3 < told[name] < 0.7


def test_the_country_of_a_user_matters_and_a_value_that_is_new_is_an_unknown_one(told):
    assert np.abs(np.subtract(told["vectors DE"], told["vectors FR"])).max() > 0.01
    assert np.abs(np.subtract(told["vectors DE"], told["vectors AT"])).max() > 0.01
    np.testing.assert_allclose(told["vectors AT"], told["vectors None"], atol=1e-6)


def test_a_bundle_with_a_user_token_answers_as_its_report_says(token_run, told, users):
    found = ask(token_run, users)
    report = json.loads((token_run / "evaluate" / "report.json").read_text())
    assert found["known"] == pytest.approx(report["merge"]["recall@3"], abs=1.5 / len(users["targets"]))
    assert report["merge"]["recall@3"] > 0.2  # of random lists .03
    assert np.abs(np.subtract(found["vectors DE"], found["vectors FR"])).max() > 0.01
    np.testing.assert_allclose(found["vectors AT"], found["vectors None"], atol=1e-6)
    assert found["inputs"] == told["inputs"]


def test_the_signatures_have_the_declared_names_and_types(told):
    rows = {"history_surface", "history_action", "request_action", "history_device", "request_device", "user_country"}
    expected = dict.fromkeys(rows, "string") | dict.fromkeys(["history_hour", "request_hour"], "int32")
    assert told["inputs"] == expected | {"history": "string", "history_dwell": "float"}
    assert told["left out"] == 3


def test_wrong_types_and_names_are_told_in_a_sentence(told):
    text, number, numbers, unread, range_, without = told["refusals"]
    assert "Expected text in features['user_country']" in text
    assert "Expected features['request_hour'] in numbers of int32, got 'noon'" in number
    assert "Expected features['hour'] in numbers of int32" in numbers
    assert "Expected features that the model reads, got 'age'; it reads " in unread
    assert unread.count("request_") == 3
    assert "Expected request_hour from 0 to 23, or -1 for an unknown one" in range_
    assert "history_surface" in without
    assert "Give in `features`" in without


def test_only_the_wanted_kinds_are_targets_and_are_measured_apart(report, run):
    by_kind = report["by_target"]
    assert {row["value"] for row in by_kind} == {"buy", "cart"}
    assert sum(row["targets"] for row in by_kind) == report["users"]
    assert all(row["recall@3"] > 0.65 for row in by_kind)


def test_the_report_says_what_requests_lose_that_know_none_of_them(report):
    without = {owner: figures["recall@3"] for owner, figures in report["without_inputs"].items()}
    assert without.keys() == {"event", "request", "user"}
    assert without["event"] < 0.35
    assert without["request"] < 0.3


def test_the_checkpoint_names_the_values_and_the_model_has_no_weights_for_what_it_does_not_read(run):
    checkpoint = read_checkpoint(run / "train")
    assert checkpoint.values["country"] == ["DE", "FR"]
    assert {name for name in checkpoint.variables if name.startswith("inputs/") and name.endswith("rows")} == {
        f"inputs/readers/{key}/rows"
        for key in (
            *("event_surface", "event_action", "request_action", "event_device", "request_device"),
            *("event_hour", "request_hour", "user_country"),
        )
    }


def test_recorded_requests_know_them_of_real_users_and_of_others_do_not(run):
    sent = [log.request.inputs for log in read_recorded(run / "bundle" / "1")]
    sent = [inputs for inputs in sent if "request_device" in inputs]
    known = [tensors.decode(inputs["request_device"]) != b"" for inputs in sent]
    empty = [(tensors.decode(inputs[HISTORY]) == b"").all(axis=1) for inputs in sent]
    assert any(row.all() for row in known)
    assert any(row.any() for row in empty)
    assert not any((one & other).any() for one, other in zip(known, empty, strict=True))
