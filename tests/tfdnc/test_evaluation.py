"""The evaluator against a NumPy oracle that ranks one user at a time."""

import json

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.config import MergeConfig, ModelConfig, TrainConfig, parse_config
from tfdnc.evaluation import metrics
from tfdnc.evaluation.evaluator import Evaluator
from tfdnc.evaluation.plot import PLOT, plot_alpha_curve
from tfdnc.evaluation.report import REPORT, evaluate, validation_objective, validator, write_report
from tfdnc.items import ItemTable
from tfdnc.model.retriever import Retriever
from tfdnc.training.records import HeldOutRecords

OFFSETS = (0, 6, 7, 20)  # one cluster holds a single item
K, N, WIDTH = 3, 20, 12
CLUSTERS = np.repeat(np.arange(K), np.diff(OFFSETS)).astype(np.int32)
MERGES = [MergeConfig(method="joint"), *(MergeConfig(method="quota", alpha=alpha) for alpha in (0, 1, 3))]


def make_model(encoder="hadamard_per_position", offsets=OFFSETS):
    model = Retriever(ModelConfig(encoder=encoder, dim=8, max_length=5), TrainConfig(), offsets, seed=3)
    # Untrained scores are nearly equal; spread them, so that float noise cannot decide a rank.
    model.item_embeddings.assign(model.item_embeddings * 50)
    return model


def make_records(users=40):
    rng = np.random.default_rng(1)
    histories = [rng.choice(np.arange(1, N + 1), rng.integers(1, 9), replace=False) for _ in range(users)]
    targets = np.array([rng.choice(np.setdiff1d(np.arange(1, N + 1), history)) for history in histories], np.int32)
    splits = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    return HeldOutRecords(np.concatenate(histories).astype(np.int32), splits, targets, CLUSTERS[targets - 1])


def make_items(offsets=OFFSETS):
    clusters = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)).astype(np.int32)
    ids = [str(i) for i in range(1, N + 1)]
    names = [f"cluster {k}" for k in range(len(offsets) - 1)]
    return ItemTable(ids, np.arange(N, 0, -1), clusters, offsets, np.arange(1, N + 1), ids, names)


def history_of(records, user):
    return records.items[records.splits[user] : records.splits[user + 1]]


def scores_of(model, history):
    """Scores `[N]` of one user and log-intent `[K]`, from the model's own vectors."""
    vectors, log_intent = model.user_vectors(tf.constant(history[None, -5:], tf.int32))
    vectors = np.broadcast_to(vectors[0], [K, 8])
    return np.einsum("nd,nd->n", model.item_embeddings.numpy(), vectors[CLUSTERS]), log_intent[0].numpy()


def oracle_list(model, history, merge):
    """Rows of one user's list: full sort for the joint merge, seat by seat for the quotas."""
    scores, log_intent = scores_of(model, history)
    unseen = np.setdiff1d(np.arange(N), history - 1)
    if merge.method == "joint":
        log_partition = np.array([np.log(np.sum(np.exp(scores[k == CLUSTERS]))) for k in range(K)])
        keys = log_intent[CLUSTERS] + scores - log_partition[CLUSTERS]
        return unseen[np.argsort(-keys[unseen], kind="stable")][:WIDTH]
    queues = {k: sorted(unseen[CLUSTERS[unseen] == k], key=lambda row: -scores[row]) for k in range(K)}
    given, result = np.zeros(K), []
    while len(result) < WIDTH and any(queues.values()):
        # Webster: the next seat goes to the largest weight per (seats + 1/2).
        claims = [np.exp(merge.alpha * log_intent[k]) / (given[k] + 0.5) if queues[k] else -1 for k in range(K)]
        k = int(np.argmax(claims))
        result.append(queues[k].pop(0))
        given[k] += 1
    return np.array(result)


@pytest.mark.parametrize("encoder", ["transformer", "hadamard_per_position", "hadamard_literal"])
def test_lists_and_places_equal_the_oracle(encoder):
    model, records = make_model(encoder), make_records()
    retrieved = Evaluator(model, MERGES, WIDTH).retrieve(records)
    for merge, lists in zip(MERGES, retrieved.lists, strict=True):
        for user in range(len(records.targets)):
            expected = oracle_list(model, history_of(records, user), merge)
            found = lists.rows[user]
            np.testing.assert_array_equal(found[: len(expected)], expected)
            assert set(found[len(expected) :]) <= {-1}
            np.testing.assert_array_equal(lists.clusters[user, : len(expected)], CLUSTERS[expected])
    for user, target in enumerate(records.targets):
        history = history_of(records, user)
        scores, log_intent = scores_of(model, history)
        rivals = np.setdiff1d(np.flatnonzero(CLUSTERS[target - 1] == CLUSTERS), history - 1)
        place = int(np.sum(scores[rivals] > scores[target - 1]))
        expected = place if place < WIDTH else metrics.NOT_FOUND
        assert retrieved.within_places[user] == expected
        np.testing.assert_allclose(retrieved.log_intent[user], log_intent, atol=1e-5)


def test_a_target_seen_before_is_never_found():
    records = make_records()
    records = records._replace(targets=records.items[records.splits[:-1]])
    records = records._replace(target_clusters=CLUSTERS[records.targets - 1])
    retrieved = Evaluator(make_model(), MERGES, WIDTH).retrieve(records)
    assert not np.any(retrieved.lists[0].rows == records.targets[:, None] - 1)
    assert np.all(retrieved.within_places == metrics.NOT_FOUND)
    assert evaluate(make_config(), make_model(), make_items(), records)["seen_targets"] == 1.0


def make_config(**evaluate_settings):
    settings = {"candidates": [3, 10], "within_cluster": [1, 5], "alphas": [0, 1, 3], **evaluate_settings}
    return parse_config({"name": "x", "model": {"dim": 8, "max_length": 5}, "evaluate": settings})


def test_the_report_bounds_the_merge_by_oracle_intent_and_shows_the_alpha_curve(tmp_path):
    report = evaluate(make_config(), make_model(), make_items(), make_records())
    for m in (3, 10):
        recalls = [point[f"recall@{m}"] for point in report["alpha_curve"]]
        assert max(*recalls, report["merge"][f"recall@{m}"]) <= report["within_cluster"][f"recall@{m}"]
    assert [point["alpha"] for point in report["alpha_curve"]] == [0, 1, 3]
    entropies = [point["entropy@10"] for point in report["alpha_curve"]]
    assert entropies == sorted(entropies, reverse=True)  # sharper quotas, less spread
    assert sum(row["targets"] for row in report["within_cluster_by_cluster"]) == report["users"] == 40
    assert report["seen_targets"] == 0.0
    assert set(report["intent"]) == {"intent_accuracy", "intent_nll"}

    write_report(report, tmp_path)
    assert json.loads((tmp_path / REPORT).read_text()) == report
    plot_alpha_curve(report, tmp_path)
    assert (tmp_path / PLOT).read_bytes().startswith(b"\x89PNG")


def test_a_single_cluster_has_no_alpha_curve(tmp_path):
    offsets = (0, N)
    records = make_records()
    records = records._replace(target_clusters=np.zeros_like(records.targets))
    report = evaluate(make_config(), make_model("transformer", offsets), make_items(offsets), records)
    assert report["alpha_curve"] == []
    assert report["merge"]["recall@10"] == report["within_cluster"]["recall@10"]
    plot_alpha_curve(report, tmp_path)
    assert not (tmp_path / PLOT).exists()


def test_validation_follows_the_weights_of_the_model():
    config, model, records = make_config(), make_model(), make_records()
    validate = validator(config, records)
    before = validate(model)
    assert before == validate(model)
    model.item_embeddings.assign(-model.item_embeddings)
    assert validate(model) != before
    assert validation_objective(config) == "ndcg@10"
    assert validation_objective(config) in before
