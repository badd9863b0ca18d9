"""One contract for every method of configs/ml1m: the pipeline on a planted log, and a bundle with the same answers.

The log has three disjoint tastes, and a user has one of them: a trained model recommends from the right third.
Methods share the stations they have in common, and all bundles are loaded by one fresh process.
"""

import gc
import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from serving.bundles import recorded
from tests.tfdnc.export.graph_ops import SCANN_OPS, foreign, ops_of
from tfdnc.backend import tf
from tfdnc.contracts import bundle, schema
from tfdnc.contracts.config import load_config
from tfdnc.contracts.features import TIME, model_features
from tfdnc.contracts.items import read_items
from tfdnc.export import users
from tfdnc.export.module import RetrievalModule
from tfdnc.model.encoders import USER_ENCODERS
from tfdnc.pipeline.engine import run_station
from tfdnc.pipeline.manifests import read_manifest
from tfdnc.pipeline.stations import CLUSTER, EVALUATE, EXAMPLES, EXPORT, TRAIN, stations_of
from tfdnc.retrieval.index import INDEXES
from tfdnc.training.batches import history_batches
from tfdnc.training.checkpoint import load_trained
from tfdnc.training.records import read_held_out

CONFIGS = sorted((Path(__file__).parents[1] / "configs" / "ml1m").glob("*.yaml"))
READER = Path(__file__).parent / "tfdnc" / "export" / "export_reader.py"
GROUPS, ITEMS, LENGTH, MAX_LENGTH, EPOCHS = 3, 120, 20, 12, 10
ONE_PER_CLUSTER = {
    *("hadamard_per_position", "hadamard_state", "hadamard_literal", "prefix", "target_attention", "mmoe", "ple")
}


def small(path):
    """The method of a config file, on a small planted log and in a small size."""
    given = load_config(path)
    epochs = min(EPOCHS, given.train.epochs)
    clusterer = {"num_clusters": GROUPS, "dim": 16, "epochs": 20, "sample": 0}
    settings = {
        "generate": {
            "users": 200,
            "items": ITEMS,
            "groups": GROUPS,
            "interests_per_user": 1,
            "mean_events": 14,  # and up to 20: more than a window holds
        },
        "data.num_shards": 1,
        "model.dim": min(16, given.model.dim),
        "model.blocks": 1,
        "model.experts": 2,
        "model.max_length": MAX_LENGTH,
        "train.epochs": epochs,
        "train.batch_tokens": 600,
        "train.learning_rate": 0.02,
        "train.warmup_steps": 5,
        "train.validate_every": max(1, epochs),
        "train.num_negatives": 16,
        "evaluate.candidates": [10, LENGTH],
        "evaluate.within_cluster": [5],
        "evaluate.alphas": [0, 1],
        # Several interests are searched by either index.
        "export.index": "scann" if given.model.encoder == "comirec" else "exact",
        "export.num_candidates": LENGTH,
        "export.max_candidates": 30,
        "export.warmup_batch_sizes": [1],
    }
    if given.model.encoder == "mind":
        settings["seed"] = 3  # with four of ten seeds, the first one among them, routing stays with one interest
    if given.cluster.method != "single":
        settings |= {f"cluster.{key}": value for key, value in clusterer.items()}
    if given.evaluate.judge:
        settings |= {f"evaluate.judge.{key}": value for key, value in clusterer.items()}
    return load_config(path, [f"{key}={json.dumps(value)}" for key, value in settings.items()])


METHODS = {path.stem: small(path) for path in CONFIGS}
# What a loss has trained is exported like anything else, so one method for each tower and its surroundings is enough.
EXPORTED = sorted(
    {
        (config.model.encoder, config.cluster.method, config.model.history_clusters): name
        for name, config in reversed(METHODS.items())
    }.values()
)
ASKED = ("retrieve", "encode", "search")
"""Signatures of the bundles: what the others add is no encoder's, and tests/tfdnc/export asks for all of them."""
ALL_SIGNATURES = "hadamard_literal"
"""The encoder that encodes for each request what its signature needs."""


def chosen():
    """Methods that bring an encoder, a loss with its negatives, or a merge that no method before them has.

    The others pair what these have, as `dnc_ple_bce` does; each trains for seconds, and `-m slow` runs them too.
    """
    seen, found = set(), []
    for name in [*EXPORTED, *(name for name in METHODS if name not in EXPORTED)]:
        config = METHODS[name]
        parts = {
            ("tower", config.model.encoder, config.cluster.method, config.model.history_clusters),
            ("loss", config.train.loss, config.examples.sampler, config.train.intent_weight > 0),
            ("merge", config.merge.method),
        }
        if parts - seen:
            found.append(name)
        seen |= parts
    return found


CHOSEN = chosen()
EVERY_METHOD = [name if name in CHOSEN else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
LEARNING = [name for name, config in METHODS.items() if config.train.epochs]
EVERY_LEARNING = [name if name in CHOSEN else pytest.param(name, marks=pytest.mark.slow) for name in LEARNING]


class Road:
    """Runs methods through the pipeline, each on first use; finished stations of another one are adopted."""

    def __init__(self, folder):
        self._folder = folder
        self._runs = {}

    def __getitem__(self, name):
        if name not in self._runs:
            self._runs[name] = self._run(METHODS[name], self._folder / name, name in EXPORTED)
        return self._runs[name]

    def _run(self, config, folder, export):
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            if config.model.encoder != ALL_SIGNATURES:
                patch.setattr(bundle, "SIGNATURES", {name: bundle.SIGNATURES[name] for name in ASKED})
            # It loads the bundle, seconds for each; here one process loads them all, and asks them more.
            patch.setattr(recorded, "record", lambda *_: 0)
            patch.setattr(recorded, "recorded_vectors", lambda *_: [])
            patch.setattr(users, "refuse_other_vectors", lambda *_: None)
            for station in stations_of(config):
                if station is not EXPORT or export:
                    run_station(station, config, folder)
        report, history = folder / EVALUATE.folder / schema.REPORT, folder / TRAIN.folder / schema.HISTORY_FILE
        return SimpleNamespace(
            config=config, folder=folder, report=json.loads(report.read_text()), history=json.loads(history.read_text())
        )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Road(tmp_path_factory.mktemp("methods"))


class Exported:
    """One bundle: what it is asked, and what answers beside it in this process."""

    def __init__(self, run, asset_folder):
        self.items = read_items(run.folder / CLUSTER.folder)
        self.bundle = run.folder / EXPORT.folder / "1"
        self.reads_times = run.config.model.times
        self.test = read_held_out(run.folder / EXAMPLES.folder / schema.TEST, model_features(run.config))
        tower = load_trained(run.config, self.items, run.folder / TRAIN.folder)
        validation = read_held_out(run.folder / EXAMPLES.folder / schema.VALIDATION, model_features(run.config))
        [batch] = history_batches(validation, MAX_LENGTH)
        self.cold_vectors = tf.reduce_mean(tower.user_vectors(*batch.inputs)[0], axis=0).numpy()
        # Exact whatever the bundle has: on a small log ScaNN searches exactly too.
        index = INDEXES.resolve("exact")(tower.item_embeddings, self.items.offsets)
        self.module = RetrievalModule(
            tower, self.items, index, self.cold_vectors, run.config.merge, run.config.export, asset_folder
        )
        self.histories = [
            [self.items.item_ids[item - 1] for item in self.test.items[start:stop]]
            for start, stop in itertools.pairwise(self.test.splits)
        ]
        lengths = np.diff(self.test.splits)
        self.long, self.short = int(lengths.argmax()), int(lengths.argmin())
        plain = self.histories[self.short]
        self.odd = {"empty": [], "unknown": ["nobody", "knows"], "mixed": ["nobody", *plain[:2], "", *plain[2:]]}
        all_users = range(len(self.histories))
        all_inputs = self.history_inputs(all_users, [[]])
        encoded = self.module.encode(**{name: tf.constant(value) for name, value in all_inputs.items()})
        bring = {name: value.numpy()[:-1] for name, value in encoded.items()}
        bring[bundle.HISTORY] = strings(self.histories)
        self.requests = {
            "all": ("retrieve", self.history_inputs(all_users) | controls(len(all_users))),
            "odd": ("retrieve", self.history_inputs([], [*self.odd.values(), plain]) | controls(4)),
            "long": ("retrieve", self.history_inputs([self.long]) | controls(1)),
            "short": ("retrieve", self.history_inputs([self.short]) | controls(1)),
            "encode": ("encode", all_inputs),
            "search": ("search", bring | controls(len(all_users), bundle.JOINT_ALPHA)),
        }

    def history_inputs(self, users, more=()):
        """Histories of users, with their times for a model that reads them, and more histories, without."""
        history = strings([*(self.histories[user] for user in users), *more])
        if not self.reads_times:
            return {bundle.HISTORY: history}
        times = np.full(history.shape, -1)
        request_time = np.full([len(history)], -1)
        for row, user in enumerate(users):
            elapsed = self.test.features[TIME.key][slice(*self.test.splits[user : user + 2])]
            times[row, : len(elapsed)] = np.cumsum(elapsed) - elapsed
            request_time[row] = elapsed.sum()
        return {bundle.HISTORY: history, bundle.HISTORY_TIMES: times, bundle.REQUEST_TIME: request_time}

    def rows(self, ids):
        numbers = {item_id.encode(): row for row, item_id in enumerate(self.items.item_ids)}
        return np.array([numbers[item_id] for item_id in ids])


def strings(histories):
    width = max(len(row) for row in histories)
    return np.array([row + [""] * (width - len(row)) for row in histories], dtype=object)


def controls(batch, *others):
    """Nothing but a length: `ALPHA`, and the `others`, are not asked for."""
    unsaid = {name: np.full([batch], -1, np.float32) for name in (bundle.ALPHA, *others)}
    return {bundle.NUM_CANDIDATES: np.full([batch], LENGTH, np.int32)} | unsaid


@pytest.fixture(scope="module")
def exported(runs, tmp_path_factory):
    return {name: Exported(runs[name], tmp_path_factory.mktemp(name)) for name in EXPORTED}


@pytest.fixture(scope="module")
def answers(exported, tmp_path_factory):
    """Method -> request -> answer, all from one process that has never seen tfdnc."""
    folder = tmp_path_factory.mktemp("answers")
    requests = {case.bundle: list(case.requests.values()) for case in exported.values()}
    (folder / "requests").write_bytes(pickle.dumps(requests))
    command = [sys.executable, READER, "tf1_session", folder / "requests", folder / "answers"]
    subprocess.run(command, check=True, timeout=300, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"})
    found = pickle.loads((folder / "answers").read_bytes())
    return {name: dict(zip(case.requests, found[case.bundle], strict=True)) for name, case in exported.items()}


@pytest.fixture(params=EXPORTED)
def served(request, exported, answers):
    return SimpleNamespace(name=request.param, case=exported[request.param], answers=answers[request.param])


def test_every_encoder_is_in_a_bundle_that_stock_tf_serving_has_the_kernels_for(exported):
    assert {METHODS[name].model.encoder for name in exported} == set(USER_ENCODERS)
    for name, case in exported.items():
        lacking = foreign(ops_of(case.bundle))
        assert lacking == (SCANN_OPS if METHODS[name].export.index == "scann" else set()), name


def assert_same(found, expected):
    if found.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", EVERY_LEARNING)
def test_the_loss_falls(runs, name):
    history = runs[name].history
    assert len(history) == runs[name].config.train.epochs
    # A softmax over forty items of one taste, most of them possible, starts at log 40 and has not far to fall.
    assert history[-1]["retrieval_loss"] < 0.97 * history[0]["retrieval_loss"]
    if runs[name].config.train.intent_weight and "intent_loss" in history[0]:
        assert history[-1]["intent_loss"] < 0.5 * history[0]["intent_loss"]


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_the_list_holds_the_taste_of_the_user(runs, name):
    """A random list holds one target in six; a list of the right taste, half of whose items are seen, nearly all."""
    recall = runs[name].report["merge"][f"recall@{LENGTH}"]
    assert recall > (3.5 if name in LEARNING else 1.3) * LENGTH / ITEMS


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_the_report_measures_every_method_alike(runs, name):
    report = runs[name].report
    several = runs[name].config.cluster.method != "single"
    assert report["judged_by"] == ("own clusters" if several else "word2vec_kmeans, 3 clusters")
    measures = ("recall", "ndcg", "coverage", "entropy", "gini", "item_coverage", "ild")
    assert set(report["merge"]) == {f"{measure}@{m}" for measure in measures for m in (10, LENGTH)}
    assert report["within_cluster"][f"recall@{LENGTH}"] >= report["merge"][f"recall@{LENGTH}"]
    assert len(report["within_cluster_by_cluster"]) == GROUPS
    informed = several and runs[name].config.train.intent_weight > 0
    assert bool(report["alpha_curve"]) == bool(report["tuned"]) == bool(report["calibration"]) == informed
    figures = [*report["merge"].values(), *report["within_cluster"].values(), *report["intent"].values()]
    assert np.isfinite(figures).all()


def test_popularity_makes_the_lists_that_every_report_compares_with(runs):
    report = runs["popularity"].report
    for measure in ("gini", "item_coverage", "entropy", "ild"):
        assert report["merge"][f"{measure}@{LENGTH}"] == pytest.approx(report["popularity"][f"{measure}@{LENGTH}"])
    # Among items of one count the report counts against the target.
    assert report["merge"][f"recall@{LENGTH}"] >= report["popularity"][f"recall@{LENGTH}"]


def test_what_has_nothing_to_train_is_validated_once(runs):
    [entry] = runs["popularity"].history
    assert entry["epoch"] == 0
    assert entry[f"val_ndcg@{LENGTH}"] > 0
    figures = read_manifest(runs["popularity"].folder / TRAIN.folder)["figures"]
    assert (figures["epochs"], figures["steps"], figures["best_epoch"], figures["cpu_seconds"]) == (0, 0, 0, 0)


def test_a_fresh_process_answers_what_this_one_does(served):
    for name, (signature, inputs) in served.case.requests.items():
        module = served.case.module
        rows = bundle.inputs_of(signature, module.features)
        expected = getattr(module, signature)(**{row.name: tf.constant(inputs[row.name]) for row in rows})
        assert set(served.answers[name]) == set(bundle.SIGNATURES[signature].output_names)
        for output, value in served.answers[name].items():
            assert_same(value, expected[output].numpy())


def test_a_bundle_has_the_recall_of_the_report(served, runs):
    rows = np.array([served.case.rows(ids) for ids in served.answers["all"][bundle.ITEM_IDS][:, :LENGTH]])
    found = np.mean((rows == served.case.test.targets[:, None] - 1).any(axis=1))
    # Items with one count are in the order of the model's clusters here, of the judge's there.
    ties = 0.05 if served.name == "popularity" else 0.5 / len(rows)
    assert found == pytest.approx(runs[served.name].report["merge"][f"recall@{LENGTH}"], abs=ties)


def test_a_row_does_not_depend_on_its_batch(served):
    for name in ("long", "short"):  # the long one is longer than the model reads
        row = getattr(served.case, name)
        for output, alone in served.answers[name].items():
            assert_same(alone[0], served.answers["all"][output][row])


def test_unknown_ids_carry_no_signal_and_empty_histories_are_answered(served):
    answer = served.answers["odd"]
    assert (answer[bundle.NUM_RESULTS] == LENGTH).all()
    empty, unknown, mixed, plain = range(4)
    for value in answer.values():
        assert_same(value[empty], value[unknown])
        assert_same(value[mixed], value[plain])
    np.testing.assert_allclose(answer[bundle.INTENT][empty], served.case.items.cluster_prior(), rtol=1e-5)


def test_all_users_get_the_vectors_of_the_method(served):
    config, clusters = METHODS[served.name], served.case.items.num_clusters
    vectors = served.answers["encode"][bundle.USER_EMBEDDINGS]
    interests = config.model.interests if config.model.encoder in ("mind", "comirec") else 1
    expected = clusters if config.model.encoder in ONE_PER_CLUSTER else interests
    assert vectors.shape == (len(served.case.histories) + 1, expected, config.model.dim)
    assert_same(vectors[-1], served.case.cold_vectors)  # of the empty history: the mean user


def test_vectors_that_a_caller_brings_are_searched_as_its_history_is(served):
    for output, value in served.answers["search"].items():
        assert_same(value, served.answers["all"][output])


def test_a_cold_start_is_answered_with_what_is_liked_on_average(served):
    items, vectors = served.case.items, served.case.cold_vectors
    assert (np.linalg.norm(vectors, axis=1) > 1e-3).all()
    found = served.case.rows(served.answers["odd"][bundle.ITEM_IDS][0, :LENGTH])
    if served.name != "mind":  # whose mean user, of three disjoint tastes, likes nothing in particular
        assert items.counts[found].mean() > items.counts.mean()
    if served.name == "popularity":
        np.testing.assert_array_equal(vectors, [[1.0]])
        np.testing.assert_array_equal(found, np.argsort(-items.counts, kind="stable")[:LENGTH])


def test_the_user_table_stays_behind(runs, exported, caplog):
    """A request brings a history, so evaluation and bundle do without; loading must not complain about that."""
    run, case = runs["mf"], exported["mf"]
    table = [len(case.histories), run.config.model.dim]
    assert table in [shape for _, shape in tf.train.list_variables(str(run.folder / TRAIN.folder / schema.WEIGHTS))]
    saved = tf.train.list_variables(str(case.bundle / "variables" / "variables"))
    assert table not in [shape for _, shape in saved]
    caplog.clear()
    tower = load_trained(run.config, case.items, run.folder / TRAIN.folder)
    del tower
    gc.collect()
    assert not caplog.records


def test_both_indexes_search_several_interests(exported):
    for name, kind in (("mind", "exact"), ("comirec", "scann_brute_force")):
        manifest = json.loads((exported[name].bundle / bundle.MANIFEST_ASSET).read_text())
        assert [cluster["kind"] for cluster in manifest["index"]] == [kind]
