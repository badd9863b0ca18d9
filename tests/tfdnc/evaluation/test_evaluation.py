"""The evaluator against a NumPy oracle that ranks one user at a time."""

import copy
import dataclasses
import functools
import json

import numpy as np
import pytest

from tests.tfdnc.retrieval.bounds.bound_oracle import choose
from tfdnc.backend import tf
from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.config import EvaluateConfig, MergeConfig, ModelConfig, TrainConfig, parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.evaluation import metrics
from tfdnc.evaluation.evaluator import Evaluator, Lists
from tfdnc.evaluation.judge import make_judge
from tfdnc.evaluation.list_bounds import ListBounds
from tfdnc.evaluation.plot import PLOT, plot_alpha_curve
from tfdnc.evaluation.report import (
    REPORT,
    evaluate,
    tuning_objective,
    write_report,
)
from tfdnc.evaluation.validation import Validator, validation_objective
from tfdnc.model.tower import Tower
from tfdnc.training.records import HeldOutRecords
from tfdnc.training.served_intent import ServedIntent

OFFSETS = (0, 6, 7, 20)  # one cluster holds a single item
K, N, WIDTH = 3, 20, 12
CLUSTERS = np.repeat(np.arange(K), np.diff(OFFSETS)).astype(np.int32)
FIGURES = ("recall", "ndcg", "coverage", "entropy", "gini", "item_coverage", "ild")
MERGES = [MergeConfig(method="joint"), *(MergeConfig(method="quota", alpha=alpha) for alpha in (0, 1, 3))]


def make_model(encoder="hadamard_per_position", offsets=OFFSETS):
    model = Tower.make(ModelConfig(encoder=encoder, dim=8, blocks=1, max_length=5), TrainConfig(), offsets, seed=3)
    # Untrained scores are nearly equal; spread them, so that float noise cannot decide a rank.
    model.item_embeddings.assign(model.item_embeddings * 50)
    return model


def make_records(users=40, repeats=False):
    """Histories and next items: new ones, or with `repeats` any."""
    rng = np.random.default_rng(1)
    histories = [rng.choice(np.arange(1, N + 1), rng.integers(1, 9), replace=False) for _ in range(users)]
    had = [[] if repeats else history for history in histories]
    targets = np.array([rng.choice(np.setdiff1d(np.arange(1, N + 1), history)) for history in had], np.int32)
    splits = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    return HeldOutRecords(np.concatenate(histories).astype(np.int32), splits, targets, CLUSTERS[targets - 1])


def make_items(offsets=OFFSETS):
    clusters = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)).astype(np.int32)
    ids = [str(i) for i in range(1, N + 1)]
    names = [f"cluster {k}" for k in range(len(offsets) - 1)]
    categories = [["even"] if i % 2 else ["odd", "other"] for i in range(N)]
    return ItemTable(ids, np.arange(N, 0, -1), clusters, offsets, np.arange(1, N + 1), ids, names, categories)


def make_judging_items():
    """The same items, mixed up, in the clusters of OFFSETS."""
    order = np.random.default_rng(5).permutation(N)
    single = make_items((0, N))
    categories = [single.categories[row] for row in order]
    ids = [single.item_ids[row] for row in order]
    names = [f"judge {k}" for k in range(K)]
    counts = single.counts[order]
    return ItemTable(ids, counts, CLUSTERS, OFFSETS, single.sequence_indices[order], ids, names, categories)


def make_single():
    """A model with one cluster, its items and its records."""
    records = make_records()
    records = records._replace(target_clusters=np.zeros_like(records.targets))
    return make_model("transformer", (0, N)), make_items((0, N)), records


def retrieve(evaluator, records, merges=(), floors=(), floor_length=0):
    """The whole lists of every user by each merge and each floor, and the ranks."""
    kept = [{} for _ in range(1 + len(merges) + len(floors))]

    def keep(store):
        return lambda users, lists: store.update(zip(users.tolist(), zip(*lists, strict=True), strict=True))

    ranked = evaluator.run(records, [keep(store) for store in kept], merges, floors, floor_length)
    users = range(len(records.targets))
    return [Lists(*map(np.stack, zip(*(store[user] for user in users), strict=True))) for store in kept], ranked


def history_of(records, user):
    return records.items[records.splits[user] : records.splits[user + 1]]


def scores_of(model, history):
    """Scores `[N]` of one user and log-intent `[K]`, from the model's own vectors."""
    return _scores_of(model, tuple(history[-5:].tolist()))


@functools.cache
def _scores_of(model, history):
    vectors, log_intent = model.user_vectors(tf.constant([history], tf.int32))
    vectors = np.broadcast_to(vectors[0], [K, 8])
    return np.einsum("nd,nd->n", model.item_embeddings.numpy(), vectors[CLUSTERS]), log_intent[0].numpy()


def oracle_list(model, history, merge, allows_seen=False, width=WIDTH):
    """Rows of one user's list: full sort for the joint merge, result by result for the quotas."""
    scores, log_intent = scores_of(model, history)
    unseen = np.setdiff1d(np.arange(N), [] if allows_seen else history - 1)
    if merge.method == "joint":
        log_partition = np.array([np.log(np.sum(np.exp(scores[k == CLUSTERS]))) for k in range(K)])
        keys = log_intent[CLUSTERS] + scores - log_partition[CLUSTERS]
        return unseen[np.argsort(-keys[unseen], kind="stable")][:width]
    queues = {k: sorted(unseen[CLUSTERS[unseen] == k], key=lambda row: -scores[row]) for k in range(K)}
    given, result = np.zeros(K), []
    while len(result) < width and any(queues.values()):
        # Webster: the next result goes to the largest weight per (results + 1/2).
        claims = [np.exp(merge.alpha * log_intent[k]) / (given[k] + 0.5) if queues[k] else -1 for k in range(K)]
        k = int(np.argmax(claims))
        result.append(queues[k].pop(0))
        given[k] += 1
    return np.array(result)


@pytest.mark.parametrize(
    ("encoder", "allows_seen"),
    [("transformer", False), ("hadamard_per_position", False), ("hadamard_literal", False), ("transformer", True)],
)
def test_lists_and_places_equal_the_oracle(encoder, allows_seen):
    model, records = make_model(encoder), make_records(repeats=allows_seen)
    found, retrieved = retrieve(Evaluator(model, MERGES[0], WIDTH, allows_seen=allows_seen), records, MERGES[1:])
    for merge, lists in zip(MERGES, found, strict=True):
        for user in range(len(records.targets)):
            expected = oracle_list(model, history_of(records, user), merge, allows_seen)
            rows = lists.rows[user]
            np.testing.assert_array_equal(rows[: len(expected)], expected)
            assert set(rows[len(expected) :]) <= {-1}
            np.testing.assert_array_equal(lists.clusters[user, : len(expected)], CLUSTERS[expected])
    for user, target in enumerate(records.targets):
        history = history_of(records, user)
        scores, log_intent = scores_of(model, history)
        had = [] if allows_seen else history - 1
        rivals = np.setdiff1d(np.flatnonzero(CLUSTERS[target - 1] == CLUSTERS), had)
        place = int(np.sum(scores[rivals] > scores[target - 1]))
        expected = place if place < WIDTH else metrics.NOT_FOUND
        assert retrieved.within_ranks[user] == expected
        log_partition = np.array([np.log(np.sum(np.exp(scores[k == CLUSTERS]))) for k in range(K)])
        keys = log_intent[CLUSTERS] + scores - log_partition[CLUSTERS]
        rivals = np.setdiff1d(np.flatnonzero(CLUSTERS[target - 1] != CLUSTERS), had)
        place = int(np.sum(keys[rivals] >= keys[target - 1]))
        assert retrieved.outside_ranks[user] == (place if place < WIDTH else metrics.NOT_FOUND)
        np.testing.assert_allclose(retrieved.log_intent[user], log_intent, atol=1e-5)


def test_few_users_at_a_time_change_no_list(monkeypatch):
    """A batch has at most so many scores, users x items; 10,000 users of 100,000 items would take 4 GB for them."""
    evaluator, records, sizes = Evaluator(make_model(), MERGES[0], WIDTH), make_records(), []
    whole, ranked = retrieve(evaluator, records, MERGES[1:], [1], 10)
    monkeypatch.setattr("tfdnc.evaluation.evaluator._MOST_SCORES", 7 * N + 1)
    parts, again = retrieve(evaluator, records, MERGES[1:], [1], 10)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(ranked.within_ranks, again.within_ranks)
    evaluator.run(records, [lambda users, lists: sizes.append(len(users))])
    assert max(sizes) == 7


def test_a_target_seen_before_is_never_found():
    records = make_records()
    records = records._replace(targets=records.items[records.splits[:-1]])
    records = records._replace(target_clusters=CLUSTERS[records.targets - 1])
    [lists], retrieved = retrieve(Evaluator(make_model(), MergeConfig(), WIDTH), records)
    assert not np.any(lists.rows == records.targets[:, None] - 1)
    assert np.all(retrieved.within_ranks == metrics.NOT_FOUND)
    assert evaluate(make_config(), make_model(), make_items(), records, records)["seen_targets"] == 1.0


def test_the_report_tells_new_targets_from_repeated_ones():
    model, items, records = make_model(), make_items(), make_records(repeats=True)
    had = np.array([target in history_of(records, user) for user, target in enumerate(records.targets)])
    reports = {}
    for seen in ("exclude", "allow"):
        config = make_config()
        config = config.model_copy(update={"data": config.data.model_copy(update={"seen": seen})})
        report = reports[seen] = evaluate(config, model, items, records, records)
        new, repeated = report["new_targets"], report["repeated_targets"]
        assert (report["seen"], report["seen_targets"]) == (seen, np.mean(had))
        assert (new["targets"], repeated["targets"]) == (np.sum(~had), np.sum(had))
        lists = [oracle_list(model, history_of(records, u), MERGES[0], seen == "allow")[:10] for u in range(40)]
        hits = np.array([target - 1 in row for target, row in zip(records.targets, lists, strict=True)])
        for figures, chosen in ((new, ~had), (repeated, had), (report["merge"], had | ~had)):
            assert figures["recall@10"] == pytest.approx(np.mean(hits[chosen]))
        # Items are popular in order of their rows.
        gone = [np.sum(history_of(records, u) < t) for u, t in enumerate(records.targets)]
        ranks = records.targets - 1 - (gone if seen == "exclude" else np.zeros_like(gone))
        found = [rank < 10 and (seen == "allow" or not one) for rank, one in zip(ranks, had, strict=True)]
        assert report["popularity"]["recall@10"] == pytest.approx(np.mean(found))
    assert 0 < np.sum(had) < 40
    assert reports["exclude"]["repeated_targets"]["recall@10"] == 0 < reports["allow"]["repeated_targets"]["recall@10"]
    assert evaluate(make_config(), model, items, make_records(), make_records())["repeated_targets"] is None


def make_config(merge="joint", **evaluate_settings):
    settings = {"candidates": [3, 10], "within_cluster": [1, 5], "alphas": [0, 1, 3], **evaluate_settings}
    model = {"dim": 8, "max_length": 5}
    return parse_config({"name": "x", "model": model, "merge": {"method": merge}, "evaluate": settings})


@pytest.fixture(scope="module")
def evaluated():
    return evaluate(make_config(), make_model(), make_items(), make_records(), make_records())


@pytest.fixture
def report(evaluated):
    """The report of the plainest evaluation, to be taken apart."""
    return copy.deepcopy(evaluated)


def test_the_report_bounds_the_merge_by_oracle_intent_and_shows_the_alpha_curve(report, tmp_path):
    for m in (3, 10):
        recalls = [point[f"recall@{m}"] for point in report["alpha_curve"]]
        assert max(*recalls, report["merge"][f"recall@{m}"]) <= report["within_cluster"][f"recall@{m}"]
    assert [point["alpha"] for point in report["alpha_curve"]] == [0, 1, 3]
    entropies = [point["entropy@10"] for point in report["alpha_curve"]]
    assert entropies == sorted(entropies, reverse=True)  # sharper quotas, less spread
    assert sum(row["targets"] for row in report["within_cluster_by_cluster"]) == report["users"] == 40
    assert report["seen_targets"] == 0.0
    assert set(report["intent"]) == {"intent_accuracy", "intent_nll", "intent_nll_prior", "intent_nll_history"}
    check = report["intent_check"]  # validation and test are the same records here
    assert check.items() >= report["intent"].items()
    assert check["advice"].startswith("The intent model (partition) is no better than the shares of")
    assert sum(row["count"] for row in report["calibration"]["bins"]) == 40
    assert report["judged_by"] == "own clusters"
    assert report["without_times"] is None

    write_report(report, tmp_path)
    assert json.loads((tmp_path / REPORT).read_text()) == report
    plot_alpha_curve(report, tmp_path)
    assert (tmp_path / PLOT).read_bytes().startswith(b"\x89PNG")


def test_the_joint_curve_goes_through_the_configured_merge():
    report = evaluate(make_config(joint_alphas=[0.5, 1, 3]), make_model(), make_items(), make_records(), make_records())
    curve = {point.pop("alpha"): point for point in report["joint_curve"]}
    assert list(curve) == [0.5, 1, 3]
    assert curve[1] == report["merge"]
    entropies = [point["entropy@10"] for point in curve.values()]
    assert entropies == sorted(entropies, reverse=True)


@pytest.mark.filterwarnings("error")
def test_another_merge_has_no_joint_curve_and_is_drawn_as_a_level(tmp_path):
    report = evaluate(make_config("quota"), make_model(), make_items(), make_records(), make_records())
    assert report["joint_curve"] == []
    plot_alpha_curve(report, tmp_path)
    assert (tmp_path / PLOT).exists()


@pytest.mark.filterwarnings("error")  # limits of an axis that are the same make Matplotlib warn
def test_a_single_alpha_is_drawn_as_a_point(tmp_path):
    report = evaluate(make_config(alphas=[1]), make_model(), make_items(), make_records(), make_records())
    plot_alpha_curve(report, tmp_path)
    assert (tmp_path / PLOT).exists()


def test_floors_give_every_cluster_its_least_results_and_leave_the_rest_to_the_merge():
    floors, length = (1, 2, 3), 9
    records = make_records()
    evaluator = Evaluator(make_model(), MergeConfig(), WIDTH)
    (joint, _, one, two, three), _ = retrieve(evaluator, records, MERGES[1:2], floors, length)
    for floor, (rows, clusters) in zip(floors, (one, two, three), strict=True):
        assert rows.shape == (40, length)
        for user in range(40):
            seen = records.items[slice(*records.splits[user : user + 2])] - 1
            left = np.bincount(np.delete(CLUSTERS, seen), minlength=K)
            found = np.bincount(clusters[user], minlength=K)
            assert (found >= np.minimum(floor, left)).all()
            # What the merge alone would give a cluster, it keeps, unless others have their floors from it.
            alone = np.bincount(joint.clusters[user, :length], minlength=K)
            assert (found <= np.maximum(alone, np.minimum(floor, left))).all()
            assert len(set(rows[user])) == length


def test_the_report_has_the_floors_that_fit_at_one_length():
    report = evaluate(make_config(floors=[1, 3, 4]), make_model(), make_items(), make_records(), make_records())
    assert [point["floor"] for point in report["floor_curve"]] == [1, 3]  # 3 x 4 are more than 10
    for point in report["floor_curve"]:
        assert set(point) == {"floor", *(f"{name}@10" for name in FIGURES)}
    coverage = [report["merge"]["coverage@10"], *(point["coverage@10"] for point in report["floor_curve"])]
    assert coverage == sorted(coverage)
    assert coverage[1] > 0.9  # not 1: the only item of a cluster may have been seen


def test_every_list_of_the_report_has_the_same_figures(report):
    names = {f"{name}@{m}" for name in FIGURES for m in (3, 10)}
    for figures in (report["merge"], report["popularity"], report["tuned"]["figures"]):
        assert set(figures) == names
    for point in report["alpha_curve"]:
        assert set(point) == {"alpha", *names}
    assert report["popularity"]["gini@3"] > report["merge"]["gini@3"]  # popular lists use few items


def test_a_model_that_reads_times_is_also_asked_without_them():
    config = make_config()
    config = config.model_copy(update={"model": config.model.model_copy(update={"times": True})})
    model = Tower.make(config.model, TrainConfig(), OFFSETS, seed=3)
    model.item_embeddings.assign(model.item_embeddings * 50)
    model.inputs.variables[0].assign(tf.random.stateless_normal([65, 8], seed=[1, 2]) * 5)
    records = make_records()
    times = np.random.default_rng(2).integers(0, 10**6, len(records.items))
    timed, silent = (records._replace(features={"elapsed": of}) for of in (times, np.full_like(times, -1)))
    report = evaluate(config, model, make_items(), timed, timed)
    assert report["without_times"] == evaluate(config, model, make_items(), silent, silent)["merge"]
    assert report["without_times"] != report["merge"]


def test_without_categories_there_is_no_distance_between_items():
    items = dataclasses.replace(make_items(), categories=None)
    report = evaluate(make_config(), make_model(), items, make_records(), make_records())
    assert not any(name.startswith("ild") for name in report["merge"])


def test_alpha_is_tuned_on_validation_and_measured_on_test():
    config, test = make_config(candidates=[10, 3]), make_records()
    validation = test._replace(targets=test.targets[::-1].copy(), target_clusters=test.target_clusters[::-1].copy())
    report = evaluate(config, make_model(), make_items(), test, validation)
    on_validation = evaluate(config, make_model(), make_items(), validation, validation)
    recalls = [point["recall@10"] for point in on_validation["alpha_curve"]]
    best = int(np.argmax(recalls))
    assert report["tuned"]["objective"] == "recall@10"  # the second shortest list
    assert report["tuned"]["validation"] == recalls[best]
    point = report["alpha_curve"][best]
    assert {"alpha": report["tuned"]["alpha"], **report["tuned"]["figures"]} == point


def test_cold_targets_are_reported_by_themselves_and_change_no_other_figure(report):
    model, records, config = make_model(), make_records(), make_config()
    cold = np.arange(N) % 3 == 0
    with_cold = evaluate(config, model, dataclasses.replace(make_items(), cold=cold), records, records)
    found = with_cold.pop("cold_targets")
    assert report.pop("cold_targets") is None
    assert with_cold == report

    [lists], retrieved = retrieve(Evaluator(model, config.merge, 10), records)
    users = np.flatnonzero(cold[records.targets - 1])
    assert 0 < found["targets"] == len(users) < 40
    for m in (3, 10):
        hits = [records.targets[user] - 1 in lists.rows[user, :m] for user in users]
        assert found[f"recall@{m}"] == pytest.approx(np.mean(hits))
    assert found["within_cluster"]["recall@5"] == pytest.approx(np.mean(retrieved.within_ranks[users] < 5))
    assert set(found) == {"targets", "recall@3", "recall@10", "within_cluster"}


def test_cold_items_that_are_nobodys_target_are_not_reported():
    records = make_records()
    cold = ~np.isin(np.arange(1, N + 1), records.targets[:20])
    records = records._replace(targets=np.resize(records.targets[:20], 40))
    records = records._replace(target_clusters=CLUSTERS[records.targets - 1])
    items = dataclasses.replace(make_items(), cold=cold)
    assert evaluate(make_config(), make_model(), items, records, records)["cold_targets"] is None


def test_a_judge_knows_the_models_cold_targets():
    model, items, records = make_single()
    cold = np.arange(N) % 3 == 0
    items, config = dataclasses.replace(items, cold=cold), make_config(judge={"method": "category"})
    plain = evaluate(make_config(), model, items, records, records)["cold_targets"]
    judged = evaluate(config, model, items, records, records, make_judging_items())["cold_targets"]
    assert {name: judged[name] for name in ("targets", "recall@3", "recall@10")} == {
        name: plain[name] for name in ("targets", "recall@3", "recall@10")
    }


def test_the_shortest_list_tunes_alpha_only_where_it_is_the_only_one():
    assert tuning_objective(EvaluateConfig(candidates=(50,))) == "recall@50"
    assert tuning_objective(EvaluateConfig(candidates=(100, 20, 10))) == "recall@20"


def test_a_single_cluster_has_no_alpha_curve(tmp_path):
    model, items, records = make_single()
    report = evaluate(make_config(), model, items, records, records)
    assert report["floor_curve"] == report["alpha_curve"] == report["joint_curve"] == []
    assert report["tuned"] is report["calibration"] is report["judged_by"] is None
    assert report["intent"] == {}  # an accuracy of 1.0 where nothing can be wrong
    assert not any("intent" in name for name in Validator(make_config(), records)(model))
    assert not any(name.startswith(("coverage", "entropy")) for name in report["merge"])
    assert report["merge"]["recall@10"] == report["within_cluster"]["recall@10"]
    plot_alpha_curve(report, tmp_path)
    assert not (tmp_path / PLOT).exists()


class SeveralInterests(Tower):
    """A transformer that shifts its vector to two more interests."""

    def user_vectors(self, history, inputs=None):
        vectors, log_intent = super().user_vectors(history)
        return tf.concat([vectors, tf.roll(vectors, 1, axis=2), -vectors], axis=1), log_intent


def several_interests():
    config = ModelConfig(encoder="transformer", dim=8, max_length=5)
    model = SeveralInterests.make(config, TrainConfig(), (0, N), seed=3)
    model.item_embeddings.assign(model.item_embeddings * 50)
    return model


@pytest.mark.parametrize(
    "make",
    [lambda: make_model("transformer", (0, N)), lambda: make_model("hadamard_literal", (0, N)), several_interests],
    ids=["one vector", "one vector per cluster", "three interests"],
)
def test_a_judge_changes_no_list_and_ranks_targets_inside_its_own_clusters(make):
    model, (_, items, records) = make(), make_single()
    judge = make_judge(items, make_judging_items())
    [plain], _ = retrieve(Evaluator(model, MergeConfig(), WIDTH), records)
    [(rows, clusters)], judged = retrieve(Evaluator(model, MergeConfig(method="score"), WIDTH, judge), records)
    np.testing.assert_array_equal(np.where(rows >= 0, judge.model_rows[rows], -1), plain.rows)
    np.testing.assert_array_equal(clusters, np.where(rows >= 0, CLUSTERS[rows], -1))

    renumbered = judge.renumber(records)
    [(whole, _)], _ = retrieve(Evaluator(model, MergeConfig(), N), records)  # all unseen items, best first
    for user, target in enumerate(records.targets):
        order = judge.indices[whole[user][whole[user] >= 0] + 1] - 1
        mine = order[CLUSTERS[order] == renumbered.target_clusters[user]].tolist()
        place = mine.index(judge.indices[target] - 1)
        assert judged.within_ranks[user] == (place if place < WIDTH else metrics.NOT_FOUND)


def test_a_judged_report_says_by_whom_and_keeps_the_recall():
    model, items, records = make_single()
    config = make_config(judge={"method": "category"})
    plain = evaluate(make_config(), model, items, records, records)
    judged = evaluate(config, model, items, records, records, make_judging_items())
    assert judged["judged_by"] == "category, 3 clusters"
    assert set(judged["merge"]) == {f"{name}@{m}" for name in FIGURES for m in (3, 10)}
    for part in ("merge", "popularity"):
        for name, value in plain[part].items():
            assert judged[part][name] == pytest.approx(value), name
    assert judged["within_cluster"]["recall@3"] > judged["merge"]["recall@3"]
    assert [row["name"] for row in judged["within_cluster_by_cluster"]] == ["judge 0", "judge 1", "judge 2"]
    assert sum(row["targets"] for row in judged["within_cluster_by_cluster"]) == 40
    json.dumps(judged)


def test_renumbering_keeps_every_item_what_it_is():
    _, items, records = make_single()
    judging = make_judging_items()
    renumbered = make_judge(items, judging).renumber(records)
    for mine, theirs in ((records.items, renumbered.items), (records.targets, renumbered.targets)):
        assert [items.item_ids[i - 1] for i in mine] == [judging.item_ids[i - 1] for i in theirs]
    np.testing.assert_array_equal(renumbered.target_clusters, CLUSTERS[renumbered.targets - 1])


def test_a_method_with_clusters_is_its_own_judge():
    with pytest.raises(UserError, match="beside 3 clusters: remove evaluate"):
        make_judge(make_items(), make_judging_items())


def test_a_judge_of_other_items_is_refused():
    judging = make_judging_items()
    judging = dataclasses.replace(judging, sequence_indices=judging.sequence_indices + 1)
    with pytest.raises(UserError, match="it holds others"):
        make_judge(make_items((0, N)), judging)


def test_validation_follows_the_weights_of_the_model():
    config, model, records = make_config(), make_model(), make_records()
    validate = Validator(config, records)
    before = validate(model)
    assert before == validate(model)
    model.item_embeddings.assign(-model.item_embeddings)
    assert validate(model) != before
    assert validation_objective(config) == "ndcg@10"
    assert validation_objective(config) in before


@pytest.mark.parametrize("merge", ["joint", "quota"])
def test_lists_by_an_untrained_intent_are_those_of_a_tower_that_serves_it(merge):
    """Histories of up to 8 items, of which the tower reads 5."""
    config, model = make_config(merge), make_model()
    validate = Validator(config, make_records())
    found = validate.by_intent(model)
    assert found.keys() == {"learned", "history", "prior"}
    for kind, lists in found.items():
        expected = validate(model if kind == "learned" else model.with_intent(kind))
        assert lists.figures == {name: pytest.approx(value, abs=1e-6) for name, value in expected.items()}
        assert np.mean(lists.gains) == pytest.approx(expected["ndcg@10"])
    assert len({lists.figures["ndcg@10"] for lists in found.values()}) == 3


def test_the_report_has_the_choice_as_the_training_wrote_it_and_measures_the_intent_that_serves():
    records, figures = make_records(), {"learned": {"ndcg@10": 0.1}, "history": {"ndcg@10": 0.2}}
    choice = ServedIntent("partition", "history", "ndcg@10", figures, "history it is")
    model = make_model().with_intent("history")
    report = evaluate(make_config(), model, make_items(), records, records, served=choice)
    assert report["intent_check"] == dataclasses.asdict(choice)
    assert report["merge"]["ndcg@10"] == Validator(make_config(), records)(model)["ndcg@10"]
    assert report["alpha_curve"]
    prior = evaluate(make_config(), make_model().with_intent("prior"), make_items(), records, records, served=choice)
    assert prior["alpha_curve"] == []  # as with train.intent_weight: 0
    assert prior["calibration"] is None


EVEN = np.arange(N) % 2 == 0
ATTRIBUTES = [Attribute("even", "boolean", [(str(flag).lower(),) for flag in EVEN])]
FILTERED_SIZES = (3, 8)


def report_under(records, where, **rule):
    settings = {"candidates": FILTERED_SIZES, "within_cluster": [3], "alphas": [1], "joint_alphas": [1], "floors": [1]}
    assert EvaluateConfig(**settings, where=where).where == tuple(where)
    config = parse_config(
        {"name": "x", "data": {"format": "movielens"}, "evaluate": {**settings, "where": where, **rule}}
        | {"export": {"attributes": {"even": "boolean"}}}
    )
    return evaluate(config, make_model(), make_items(), records, records, attributes=ATTRIBUTES)


def test_lists_under_a_filter_are_measured_on_targets_that_pass():
    records = make_records()
    report, plain = report_under(records, ["even=true", "cluster!=cluster 1"]), report_under(records, [])
    mask = EVEN & (CLUSTERS != 1)
    passing = mask[records.targets - 1]
    model, hits, short = make_model(), [], []
    for user, target in enumerate(records.targets):
        history = records.items[records.splits[user] : records.splits[user + 1]]
        gone = np.union1d(history, np.flatnonzero(~mask) + 1)
        rows = oracle_under(model, history, gone)
        hits.append(target - 1 in rows[:3])
        short.append(len(rows) < 8)
    found = report["filtered"]
    assert found["where"] == ["even=true", "cluster!=cluster 1"]
    assert found["targets"] == passing.sum()
    assert found["item_share"] == pytest.approx(mask.mean())
    assert found["recall@3"] == pytest.approx(np.mean(np.array(hits)[passing]))
    assert found["short_lists@8"] == pytest.approx(np.mean(short))
    assert found["entropy@8"] > 0
    assert plain["filtered"] is None
    assert {key: value for key, value in report.items() if key != "filtered"} == {
        key: value for key, value in plain.items() if key != "filtered"
    }


def oracle_under(model, history, gone):
    """The unfiltered ranking of all unseen items without those that are gone: keys do not change under a filter."""
    rows = oracle_list(model, history, MergeConfig(method="joint"), width=N)
    return rows[~np.isin(rows + 1, gone)]


def test_an_unknown_condition_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"got odd=true\. Columns: even, cluster"):
        report_under(make_records(), ["odd=true"])


def test_lists_under_bounds_are_measured_at_each_length():
    """Minima and maxima in a client's words, with shares of each length, beside a condition."""
    records, model = make_records(), make_model()
    rule = {"minimum": {"cluster 0": 1, "even": {True: 0.5}}, "maximum": {2: 2}}
    report, plain = report_under(records, ["cluster!=cluster 1"], **rule), report_under(records, [])
    found, hits, missed, lengths = report["filtered"], [], [], []
    for user, target in enumerate(records.targets):
        history = records.items[records.splits[user] : records.splits[user + 1]]
        order = oracle_under(model, history, np.union1d(history, np.flatnonzero(CLUSTERS == 1) + 1)).tolist()
        bounds = {"even": (4, 99), "odd": (0, 99), 0: (1, 99), 2: (0, 2)}
        groups = {row: {key: bounds[key] for key in ("even" if EVEN[row] else "odd", CLUSTERS[row])} for row in order}
        rows = choose(order, groups, 5, 8, CLUSTERS.__getitem__)
        hits.append(target - 1 in rows)
        lengths.append(len(rows))
        missed.append(EVEN[rows].sum() < 4 or not (CLUSTERS[rows] == 0).any())
    passing = CLUSTERS[records.targets - 1] != 1
    assert found["recall@8"] == pytest.approx(np.mean(np.array(hits)[passing]))
    assert found["short_lists@8"] == pytest.approx(np.mean(np.array(lengths) < 8))
    assert found["missed_minima@8"] == pytest.approx(np.mean(missed))
    assert 0 < np.mean(missed) < 1
    assert {"missed_minima@3", "entropy@3", "gini@8"} <= found.keys()
    assert found["maximum"] == {2: 2}
    assert {key: value for key, value in report.items() if key != "filtered"} == {
        key: value for key, value in plain.items() if key != "filtered"
    }


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"minimum": {"even": {"yes": 1}}}, "got even=yes>=1. even: false, true"),
        ({"minimum": {"odd": {"true": 1}}}, "got odd=true>=1. Columns: even, cluster"),
        ({"maximum": {"cluster 7": 1}}, "got 'cluster 7'.* Known: 'cluster 0' .0., 'cluster 1'"),
        ({"minimum": {"cluster 0": 2, "cluster 2": 2}}, "add up to at most 3, the length of the list, got 4"),
        ({"minimum": {"cluster 0": 2}, "maximum": {0: 1}}, "evaluate: .* 'cluster 0' at most its maximum, 1, got 2"),
    ],
)
def test_bounds_that_the_items_do_not_know_are_refused(rule, message):
    with pytest.raises(UserError, match=message):
        report_under(make_records(), [], **rule)


def test_clusters_are_bounded_without_attributes():
    bounds = ListBounds([], make_items(), EvaluateConfig(candidates=[3], minimum={"cluster 0": 0.5}, maximum={2: 1}))
    controls = bounds.controls(3, tf.constant(2))
    assert controls.minimum.numpy().tolist() == [[2, 0, 0]] * 2
    assert controls.maximum.numpy().tolist() == [[-1, -1, 1]] * 2
    assert bounds.bounds(3, controls).texts.shape == [0]
    assert bounds.missed(np.array([[0, 1, -1], [0, 7, 8]]), 3).tolist() == [False, True]


def test_bounds_of_an_evaluation_are_checked_with_the_config():
    with pytest.raises(UserError, match="Expected minimum of 'even=true' to be a count"):
        report_under(make_records(), [], minimum={"even": {"true": 1.5}})
    with pytest.raises(UserError, match="even=true>=2 and even=true<=1 in a list of 3"):
        report_under(make_records(), [], minimum={"even": {"true": 0.5}}, maximum={"even": {"true": 1}})
    with pytest.raises(UserError, match="got even=true>=1 and the condition even!=true"):
        report_under(make_records(), ["even!=true"], minimum={"even": {"true": 1}})


def test_a_refusal_shows_values_as_they_are():
    """TensorFlow shows the sentence as bytes of Python, with escapes, and in quotes that a value may have too."""
    with pytest.raises(UserError, match=r"got even=l'é>=1\. even: false, true"):
        report_under(make_records(), [], minimum={"even": {"l'é": 1}})
