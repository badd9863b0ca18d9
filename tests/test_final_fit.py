"""The model to ship: trained on every event, for the epochs that the run with held-out events found best."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from serving.bundles.in_process import load_bundle
from tests.quick_exports import exporting
from tfdnc.cli.main import main
from tfdnc.contracts.config import load_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME
from tfdnc.evaluation import served_intent
from tfdnc.page.runs import read_runs
from tfdnc.training.records import TrainingRecords, whole_histories

SMALL = Path(__file__).parent / "data" / "small.yaml"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two epochs of a model that reads times, the second of which is the best, and the final fit."""
    folder = tmp_path_factory.mktemp("final")
    config = folder / "mine.yaml"
    changes = {"model": {"times": True}, "train": {"epochs": 4, "validate_every": 1}, "export": {"index": "exact"}}
    changes |= {"cluster": {"method": "random", "num_clusters": "auto"}, "generate": {"users": 120}}
    config.write_text(yaml.safe_dump({"extends": str(SMALL), "name": "mine", **changes}))
    assert main(["run", str(config), "--runs", str(folder), "--final"]) == 2  # nothing has found the epochs yet
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served_intent, "replaces", lambda gain, error, fewer_nats: True)
        assert main(["train", str(config), "--runs", str(folder)]) == 0
    with exporting("retrieve", "encode"):
        assert main(["run", str(config), "--runs", str(folder), "--final"]) == 0
    return folder


@pytest.fixture(scope="module")
def final(runs):
    return runs / "mine-final"


def figures(folder):
    return json.loads((folder / "manifest.json").read_text())["figures"]


def test_it_trains_on_every_event_for_the_best_number_of_epochs(runs, final):
    prepared, held_out = figures(final / "prepare"), figures(runs / "mine" / "prepare")
    assert prepared["split"]["train_events"] == prepared["events"] == held_out["events"]
    assert held_out["split"]["train_events"] < held_out["events"]
    trained, best = figures(final / "train"), figures(runs / "mine" / "train")["best_epoch"]
    assert trained["epochs"] == best
    assert not trained["stopped_early"]
    config = load_config(final / "config.yaml")
    assert (config.train.stop_after, config.train.epochs, config.train.epochs_from) == (best, 4, str(runs / "mine"))
    assert config.cluster.num_clusters == figures(runs / "mine" / "cluster")["num_clusters"] == 4  # not auto again
    choice = figures(runs / "mine" / "train")["served_intent"]["served"]
    assert choice != "learned"
    assert config.train.served_intent == figures(final / "train")["served_intent"]["served"] == choice
    history = json.loads((final / "train" / "history.json").read_text())
    assert not [name for epoch in history for name in epoch if name.startswith("val_")]


def test_it_has_no_test_figures_and_says_so(final):
    assert not (final / "evaluate").exists()
    [version] = (final / "bundle").glob("[0-9]*")
    manifest = json.loads((version / "assets.extra" / "manifest.json").read_text())
    assert (manifest["metrics"], manifest["epochs_from"]) == (None, str(final.with_name("mine")))
    assert manifest["last_learned"] == figures(final / "prepare")["times"][1]
    with pytest.raises(UserError, match=r"trained on every event and has no test figures.*train.epochs_from"):
        read_runs([final])


def test_its_bundle_answers(final):
    """Its index was tuned, and its recorded requests made, on whole histories."""
    with load_bundle(final / "bundle") as bundle:
        [answer] = bundle.retrieve([["s1", "s2"]], num_candidates=10, times=[[1, 2]], request_time=3)
    assert len(answer.item_ids) == 10


def test_a_final_fit_follows_its_run(runs, capsys):
    """Another learning rate is another run: its best epoch is not known."""
    arguments = ["run", str(runs / "mine.yaml"), "--runs", str(runs), "--final", "--set", "train.learning_rate=0.5"]
    assert main(arguments) == 2
    refusal = " ".join(capsys.readouterr().err.split())
    assert "up to date for this config" in refusal
    assert "(train: train.learning_rate is 0.5, was 0.0" in refusal


def test_a_whole_history_ends_with_the_last_event():
    """A request is made at the time of that event; elapsed times are those from each event to the next."""
    records = TrainingRecords(
        items=np.array([3, 1, 2], np.int32),
        clusters=np.zeros(3, np.int32),
        negatives=np.zeros([3, 0], np.int32),
        splits=np.array([0, 2, 3]),
        users=np.array([0, 1], np.int32),
        features={TIME.key: np.array([7, 0, 9], np.int64)},  # the last ones are of other users
    )
    whole = whole_histories(records, [TIME])
    assert whole.items.tolist() == [3, 1, 2]
    assert whole.features[TIME.key].tolist() == [7, 0, 0]
    assert whole.targets.tolist() == [0, 0]
    assert records.features[TIME.key].tolist() == [7, 0, 9]
