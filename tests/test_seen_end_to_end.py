"""Recommend again on the whole road: a log whose users return to items, the report, and the bundle's own answers."""

import json
import subprocess
import sys

import numpy as np
import pytest

from serving.bundles.in_process import load_bundle
from tests.quick_exports import exporting
from tfdnc.cli.main import main
from tfdnc.contracts import schema
from tfdnc.contracts.config import load_config
from tfdnc.contracts.station_names import StationName
from tfdnc.evaluation import served_intent
from tfdnc.evaluation.report import evaluate
from tfdnc.pipeline import outputs
from tfdnc.pipeline.engine import standing
from tfdnc.pipeline.stations import EXAMPLES, GENERATE, PREPARE, TRAIN, stations_of

CONFIG = """
name: again
generate: {users: 400, items: 200, groups: 4, mean_events: 20, repeats: 0.5}
data: {num_shards: 1, min_item_events: 1, seen: allow}
cluster: {method: random, num_clusters: 2}
model: {dim: 16, max_length: 20, blocks: 1}
train: {epochs: 6, batch_tokens: 800, learning_rate: 0.01, warmup_steps: 10, validate_every: 6}
evaluate: {candidates: [10, 20], within_cluster: [10], alphas: [1], joint_alphas: [1], floors: [1]}
export: {index: exact, num_candidates: 20, max_candidates: 40, warmup_batch_sizes: [1]}
"""
ASK = """
import json, sys
from serving.bundles.in_process import load_bundle
histories = json.load(sys.stdin)
with load_bundle(sys.argv[1]) as bundle:
    lists = [found.item_ids for found in bundle.retrieve(histories)]
    print(json.dumps([lists, bundle.encode(histories).intent.tolist()]))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "again.yaml"
    path.write_text(CONFIG)
    with exporting("serving_default", "retrieve_controlled", "encode"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(served_intent, "replaces", lambda gain, error, fewer_nats: True)
        assert main(["run", str(path), "--runs", str(path.parent)]) == 0
    return path


@pytest.fixture
def run(config):
    return config.parent / "again"


@pytest.fixture
def report(run):
    return json.loads((run / StationName.EVALUATE.folder / schema.REPORT).read_text())


def test_repeated_targets_are_found_where_lists_may_hold_them_and_never_else(config, run, report):
    repeated = report["repeated_targets"]
    assert report["seen"] == "allow"
    assert 100 < repeated["targets"] == round(report["seen_targets"] * report["users"])
    assert repeated["targets"] + report["new_targets"]["targets"] == report["users"]
    assert repeated["recall@20"] > 0.6  # of 200 items
    items = outputs.item_table(run)
    excluding = load_config(config, ["data.seen=exclude"])
    tower = outputs.trained_tower(excluding, run, items)
    records = outputs.held_out_records(excluding, run, schema.TEST)
    other = evaluate(excluding, tower, items, records, records)
    assert other["repeated_targets"]["recall@20"] == 0
    assert other["repeated_targets"]["within_cluster"]["recall@10"] == 0
    assert other["new_targets"]["recall@20"] >= report["new_targets"]["recall@20"]  # seen ones take no places


def test_a_fresh_process_finds_as_many_targets_as_the_report_says(run, report):
    config = load_config(run / schema.RUN_CONFIG)
    items, records = outputs.item_table(run), outputs.held_out_records(config, run, schema.TEST)
    ids = np.array(["", *items.item_ids])
    histories = [ids[part].tolist() for part in np.split(records.items, records.splits[1:-1])]
    bundle = run / StationName.EXPORT.folder
    asked = [sys.executable, "-c", ASK, bundle]
    answer = subprocess.run(asked, input=json.dumps(histories), capture_output=True, text=True, check=True)
    lists, intents = json.loads(answer.stdout.splitlines()[-1])
    found = [target in row for target, row in zip(ids[records.targets], lists, strict=True)]
    assert np.mean(found) == pytest.approx(report["merge"]["recall@20"], abs=0.01)
    assert report["intent_check"]["served"] != "learned"  # an untrained intent serves, here as in the report
    nats = -np.log(np.array(intents)[np.arange(len(intents)), records.target_clusters])
    assert np.mean(nats) == pytest.approx(report["intent"]["intent_nll"], abs=1e-5)
    with load_bundle(bundle) as loaded:
        one = histories[0]
        [excluded] = loaded.retrieve([one], 40, seen="exclude")
        [both] = loaded.retrieve([one], 40, seen="exclude", exclude=[excluded.item_ids[:2]])
    assert not {*one} & {*excluded.item_ids}
    assert not {*one, *excluded.item_ids[:2]} & {*both.item_ids}


def test_the_rule_makes_examples_and_training_again_but_not_the_prepared_log(config, run):
    excluding = load_config(config, ["data.seen=exclude"])
    there = standing(stations_of(excluding), excluding, run)
    assert {GENERATE.name, PREPARE.name} <= there.keys()
    assert not {EXAMPLES.name, TRAIN.name} & there.keys()


def test_the_screen_shows_new_and_repeated_targets(config, report, capsys):
    assert main(["evaluate", str(config), "--runs", str(config.parent)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "all items ranked, seen ones too" in shown
    assert shown.count("serve as intent in place of the learned one (partition), by lists on validation") == 2
    assert f"{report['repeated_targets']['recall@20']:.4f} of {report['repeated_targets']['targets']} repeated" in shown
