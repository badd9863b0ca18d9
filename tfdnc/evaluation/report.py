"""The evaluation report: figures of every merge, the alpha curve, and the baselines and ceilings of both."""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.config import EvaluateConfig, ExperimentConfig, MergeConfig
from tfdnc.contracts.features import TIME, Feature, Of
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.schema import REPORT
from tfdnc.evaluation import judge as judging
from tfdnc.evaluation import metrics
from tfdnc.evaluation.diversity import category_sets
from tfdnc.evaluation.evaluator import Evaluator, Lists, Ranked
from tfdnc.evaluation.figures import ranking_figures, recalls
from tfdnc.evaluation.filtered import RuleTally
from tfdnc.evaluation.intent import baseline_figures, calibration, intent_check, intent_figures
from tfdnc.evaluation.list_bounds import ListBounds
from tfdnc.evaluation.tally import ListTally, RankTally
from tfdnc.model.tower import Tower
from tfdnc.retrieval.rules.masks import passing_items
from tfdnc.training.records import HeldOutRecords
from tfdnc.training.served_intent import ServedIntent

_MakeTally = Callable[..., ListTally]
"""`ListTally` with all arguments bound; a call may replace `sizes`."""

_POPULAR_AT_ONCE = 4096
"""Users whose lists of popular items are made at a time."""


def tuning_objective(settings: EvaluateConfig) -> str:
    """Returns the name of the figure that picks alpha on validation: recall of the second shortest, or only, list.

    It is a recall, because a list of candidates has to contain the target, in any order. The shortest list is not used
    because its recall is the noisiest.
    """
    return f"recall@{sorted(settings.candidates)[:2][-1]}"


def evaluate(
    config: ExperimentConfig,
    model: Tower,
    items: ItemTable,
    test: HeldOutRecords,
    validation: HeldOutRecords,
    judging_items: ItemTable | None = None,
    attributes: Sequence[Attribute] = (),
    target_values: np.ndarray | None = None,
    served: ServedIntent | None = None,
) -> dict[str, Any]:
    """Evaluates a trained tower on held-out records.

    Args:
        config: the experiment.
        model: the trained tower.
        items: the item table it was trained on.
        test: records on which every figure is measured.
        validation: records on which alpha is tuned.
        judging_items: the item table of `evaluate.judge`, for a model with one cluster.
        attributes: columns of the items, in order of the item table, for the rule of `evaluate`.
        target_values: of a log with `data.targets` the value of every test target, an array of text.
        served: the choice of the training between its learned intent and untrained ones; None where it had none.

    Returns:
        A JSON-serialisable report. "Clusters" are those of `judged_by`; m runs over `evaluate.candidates`.

        `users`: number of test users.
        `seen`: `data.seen`, the rule of all lists. The unseen items below are all items where it is "allow".
        `seen_targets`: share of the targets that the user had seen before; no list holds them if `seen` is "exclude".
        `new_targets`, `repeated_targets`: figures of users whose target is new to them, and of those who had it before:
            their number `targets`, `recall@m` of the configured merge, and `within_cluster`; None without such users.
        `judged_by`: "own clusters"; or the judge, such as "word2vec_kmeans, 10 clusters"; None where there is one
            cluster only and no judge.
        `merge_method`, `merge`: the configured merge and its figures. These are `recall@m` and `ndcg@m`; `coverage@m`
            (mean share of the clusters in a list) and `entropy@m` (nats, of the clusters of a list), absent where
            `judged_by` is None; `gini@m` (of the number of lists that have an item, 0 if all are equal);
            `item_coverage@m` (share of the N items in some list); and `ild@m` (intra-list Jaccard distance of
            categories), absent without categories.
        `without_times`: the same figures for requests without times; None for a model that reads none.
        `without_inputs`: the same figures for requests without the inputs of one owner: `event`, `request` (the context
            of the request alone), `user`; {} for a model that reads none beside times.
        `by_target`: with `data.targets`, by `value` of the targets their number `targets` and `recall@m` of the
            configured merge; requests that may ask for one kind of targets ask for that of their target. None without.
        `alpha_curve`: the same figures for quota(alpha), with `alpha`, at every one of `evaluate.alphas`; [] where no
            intent was learned (K = 1, or `train.intent_weight: 0`), or the prior serves in its place.
        `joint_curve`: the same figures for joint(alpha), at every one of `evaluate.joint_alphas`; [] where
            `alpha_curve` is, and where another merge is configured.
        `floor_curve`: figures at `evaluate.floor_length` of the configured merge with at least `floor` results of every
            cluster, for those of `evaluate.floors` that fit; [] where `alpha_curve` is.
        `tuned`: the `alpha` of that curve with the largest `objective` (name of a figure) on validation, `validation`
            (its value there) and `figures` (on the test records); None where `alpha_curve` is empty.
        `within_cluster`: `recall@m` with the target's cluster given (paper, Table 3), also for `evaluate.candidates`,
            where it is the ceiling of a perfect intent model.
        `within_cluster_by_cluster`: `recall@m` of `within_cluster` by cluster of the targets.
        `out_of_cluster`: `recall@m` among the target and the items of all other clusters, which are easy negatives
            (paper, Figure 1a). Ranked by score if the configured merge is `score`, else by joint probability.
        `intent`: `intent_accuracy` and `intent_nll` (nats) of the intent that serves, and the likelihoods of two
            baselines; {} where K = 1. `intent_nll_prior` is that of the clusters' shares of the training events,
            `intent_nll_history` that of the user's own events with add-one smoothing.
        `intent_check`: of an intent that the config names: the same figures on the validation records;
            `no_better_than`, the baselines (`prior`, `history`) that are at least as likely there as the learned
            intent; and `advice`, a text with the key to set, None where there are none. Where validation chose the
            intent that serves (`model.intent: auto`): the attributes of `ServedIntent`, as the training wrote them.
            None where no intent was learned.
        `calibration`: figures of `tfdnc.evaluation.intent.calibration`; None where `alpha_curve` is empty.
        `popularity`: the figures of `merge`, for lists of the most popular unseen items.
        `cold_targets`: figures of users whose target is a cold item (see `schema.ITEM_SCHEMA`): their number `targets`,
            `recall@m` of the configured merge, and `within_cluster`; None where no target is cold.

        `filtered`: figures of `tfdnc.evaluation.filtered` of lists under the rule of `evaluate`; None without one.

    Raises:
        UserError: a judge for a model with more than one cluster, or a rule that the items do not know.
    """
    settings = config.evaluate
    mask = passing_items(attributes, items, settings.where) if settings.has_rule else None
    judge = judging.make_judge(items, judging_items) if judging_items else None
    listed = judge.items if judge else items  # the item table of all lists, ranks and clusters in the report
    records = judge.renumber(test) if judge else test
    # Quotas need an intent that knows something of the user.
    informed = items.num_clusters > 1 and config.train.intent_weight > 0 and model.intent.kind != "prior"
    alphas = settings.alphas if informed else ()
    joint_alphas = settings.joint_alphas if informed and config.merge.method == "joint" else ()
    # One cluster is one list, in order of score under any merge; a judge's clusters must not change it.
    configured = MergeConfig(method="score") if judge else config.merge
    quotas = [MergeConfig(method="quota", alpha=alpha) for alpha in alphas]
    joints = [MergeConfig(method="joint", alpha=alpha) for alpha in joint_alphas]
    length = settings.floor_length
    floors = [floor for floor in settings.floors if floor * items.num_clusters <= length] if informed else []
    width = max(*settings.candidates, *settings.within_cluster)
    evaluator = Evaluator(model, configured, width, judge, config.data.allows_seen)
    make_tally = functools.partial(
        ListTally,
        targets=records.targets,
        sizes=settings.candidates,
        num_clusters=listed.num_clusters,
        num_items=len(listed.item_ids),
        categories=category_sets(listed.categories) if listed.categories else None,
    )
    tally, *of_merges = [make_tally() for _ in range(1 + len(quotas) + len(joints))]
    of_floors = [make_tally(sizes=[length]) for _ in floors]
    sinks = [one.add for one in (tally, *of_merges, *of_floors)]
    ranked = evaluator.run(test, sinks, quotas + joints, floors, length)
    curve, joint_curve = (
        [{"alpha": alpha, **one.figures()} for alpha, one in zip(each, own, strict=True)]
        for each, own in ((alphas, of_merges[: len(quotas)]), (joint_alphas, of_merges[len(quotas) :]))
    )
    floor_curve = [{"floor": floor, **one.figures()} for floor, one in zip(floors, of_floors, strict=True)]
    of_targets = functools.partial(_of_targets, ranks=tally.ranks.ranks, ranked=ranked, settings=settings)
    repeated = metrics.seen(test.items, test.splits, test.targets)
    filtered = None
    if mask is not None:
        if judge:
            mask, attributes = mask[judge.model_rows], [one.at(judge.model_rows) for one in attributes]
        bounds = ListBounds(attributes, listed, settings) if settings.minimum or settings.maximum else None
        under_rule = RuleTally(make_tally, records.targets, settings, bounds)
        Evaluator(model, configured, width, judge, config.data.allows_seen, mask, bounds).run(test, under_rule.sinks)
        filtered = under_rule.figures(mask)
    tuned = ranked_validation = None
    if curve:
        tuned, ranked_validation = _tune(curve, quotas, evaluator, validation, tuning_objective(settings))
    intent, check = {}, served.entries() if served else None
    if check is None and ranked_validation is not None and model.intent.trainable:
        check = intent_check(ranked_validation.log_intent, validation, items, model.intent.kind)
    if items.num_clusters > 1:
        intent = intent_figures(ranked.log_intent, test.target_clusters) | baseline_figures(test, items)
    return {
        "users": len(test.targets),
        "seen": config.data.seen,
        "seen_targets": float(np.mean(repeated)),
        "new_targets": of_targets(~repeated),
        "repeated_targets": of_targets(repeated),
        "judged_by": _judged_by(settings, listed, judge),
        "merge_method": config.merge.method,
        "merge": tally.figures(),
        "without_times": _without([TIME], evaluator, test, make_tally()) if model.reads_times else None,
        "without_inputs": _without_inputs(model, evaluator, test, make_tally),
        "by_target": _by_target(target_values, tally.ranks.ranks, settings),
        "alpha_curve": curve,
        "joint_curve": joint_curve,
        "floor_curve": floor_curve,
        "tuned": tuned,
        "within_cluster": recalls(ranked.within_ranks, sorted({*settings.within_cluster, *settings.candidates})),
        "out_of_cluster": recalls(ranked.outside_ranks, settings.candidates),
        "within_cluster_by_cluster": _by_cluster(ranked, records, listed, settings.within_cluster),
        "intent": intent,
        "intent_check": check,
        "calibration": calibration(ranked.log_intent, test.target_clusters) if informed else None,
        "popularity": _popularity(listed, records, make_tally(), settings.candidates, config.data.allows_seen),
        "cold_targets": None if items.cold is None else of_targets(items.cold[test.targets - 1]),
        "filtered": filtered,
    }


def write_report(report: dict[str, Any], output: Path) -> None:
    """Writes `report.json` into the folder `output`."""
    (output / REPORT).write_text(json.dumps(report, indent=1))


def _without(
    features: Sequence[Feature], evaluator: Evaluator, test: HeldOutRecords, tally: ListTally
) -> dict[str, float]:
    """Returns the figures of requests without some inputs."""
    silent = {feature.key: test.features[feature.key].copy() for feature in features}
    for feature in features:
        # A request without a context still knows that of the events.
        where = test.splits[1:] - 1 if feature.of is Of.REQUEST else slice(None)
        silent[feature.key][where] = feature.unknown
    evaluator.run(test._replace(features={**test.features, **silent}), [tally.add])
    return tally.figures()


def _without_inputs(
    model: Tower, evaluator: Evaluator, test: HeldOutRecords, make_tally: _MakeTally
) -> dict[str, dict[str, float]]:
    """Returns the figures of requests without the inputs of an owner, by owner."""
    read = [feature for feature in model.inputs.features if feature != TIME]
    owners = dict.fromkeys(feature.of for feature in read)
    return {
        owner.value: _without([one for one in read if one.of is owner], evaluator, test, make_tally())
        for owner in owners
    }


def _by_target(values: np.ndarray | None, ranks: np.ndarray, settings: EvaluateConfig) -> list[dict[str, Any]] | None:
    if values is None:
        return None
    kinds = {value: values == value for value in sorted(set(values.tolist()))}
    return [
        {"value": value, "targets": int(own.sum()), **recalls(ranks[own], settings.candidates)}
        for value, own in kinds.items()
    ]


def _judged_by(settings: EvaluateConfig, listed: ItemTable, judge: judging.Judge | None) -> str | None:
    if judge:
        assert settings.judge is not None  # the judge's item table is made from these settings
        return judging.describe(settings.judge, listed.num_clusters)
    return "own clusters" if listed.num_clusters > 1 else None


def _tune(
    curve: list[dict[str, float]],
    quotas: list[MergeConfig],
    evaluator: Evaluator,
    validation: HeldOutRecords,
    objective: str,
) -> tuple[dict[str, Any], Ranked]:
    """Picks the point of the alpha curve by its value on validation, and returns the ranks there too.

    Ties go to the first point.
    """
    m = int(objective.removeprefix("recall@"))
    configured, *of_quotas = [RankTally(validation.targets) for _ in range(1 + len(quotas))]
    ranked = evaluator.run(validation, [configured.add, *(tally.add for tally in of_quotas)], quotas)
    values = [metrics.recall(tally.ranks, m) for tally in of_quotas]
    best = int(np.argmax(values))
    alpha, figures = curve[best]["alpha"], {name: value for name, value in curve[best].items() if name != "alpha"}
    return {"alpha": alpha, "objective": objective, "validation": values[best], "figures": figures}, ranked


def _popularity(
    listed: ItemTable, records: HeldOutRecords, tally: ListTally, sizes: Sequence[int], allows_seen: bool
) -> dict[str, float]:
    items, splits = (records.items[:0], np.zeros_like(records.splits)) if allows_seen else records[:2]
    for start in range(0, len(records.targets), _POPULAR_AT_ONCE):
        some = splits[start : start + _POPULAR_AT_ONCE + 1]
        rows = metrics.popularity_lists(listed.counts, items, some, max(sizes))
        clusters = np.where(rows >= 0, listed.clusters[rows], -1)
        tally.add(np.arange(start, start + len(rows)), Lists(rows, clusters))
    rank = metrics.popularity_ranks(listed.counts, items, splits, records.targets)
    return tally.figures() | ranking_figures(rank, sizes)  # ties count against the target


def _of_targets(
    chosen: np.ndarray, ranks: np.ndarray, ranked: Ranked, settings: EvaluateConfig
) -> dict[str, Any] | None:
    """Returns the figures of the users that the mask `chosen` `[U]` names, None if it names none."""
    if not chosen.any():
        return None
    return {
        "targets": int(chosen.sum()),
        **recalls(ranks[chosen], settings.candidates),
        "within_cluster": recalls(ranked.within_ranks[chosen], settings.within_cluster),
    }


def _by_cluster(
    ranked: Ranked, records: HeldOutRecords, listed: ItemTable, sizes: Sequence[int]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for cluster, name in enumerate(listed.cluster_names):
        ranks = ranked.within_ranks[records.target_clusters == cluster]
        row = {"cluster": cluster, "name": name, "targets": len(ranks)}
        rows.append(row | (recalls(ranks, sizes) if len(ranks) else {}))
    return rows
