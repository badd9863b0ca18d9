"""The evaluation report: figures of every merge, the alpha curve, and what bounds them from above and below."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfdnc.config import EvaluateConfig, ExperimentConfig, MergeConfig
from tfdnc.evaluation import metrics
from tfdnc.evaluation.evaluator import Evaluator, Lists, Retrieved
from tfdnc.items import ItemTable
from tfdnc.model.retriever import Retriever
from tfdnc.training.records import HeldOutRecords

REPORT = "report.json"


def validation_objective(config: ExperimentConfig) -> str:
    """Name of the figure that picks the best epoch.

    NDCG of the longest list: it moves with every place of the target and is therefore the least noisy of the figures.
    """
    return f"ndcg@{max(config.evaluate.candidates)}"


def validator(config: ExperimentConfig, records: HeldOutRecords):
    """Returns a function model -> figures of the configured merge on `records`, for use between epochs."""

    @functools.cache  # one compiled graph for the whole training
    def evaluator_of(model: Retriever) -> Evaluator:
        return Evaluator(model, [config.merge], max(config.evaluate.candidates))

    def validate(model: Retriever) -> dict[str, float]:
        retrieved = evaluator_of(model).retrieve(records)
        figures = list_figures(retrieved.lists[0], records, model.num_clusters, config.evaluate.candidates)
        return figures | intent_figures(retrieved, records)

    return validate


def evaluate(config: ExperimentConfig, model: Retriever, items: ItemTable, records: HeldOutRecords) -> dict:
    """Evaluates a trained model on held-out records.

    Returns:
        `merge`: figures of the configured merge; `alpha_curve`: the same for quota(alpha) at every alpha, absent for
        K = 1; `within_cluster`: recall with the target's cluster given (paper, Table 3), which for the sizes of the
        main list is the oracle-intent ceiling; `intent`; `popularity`: the list of most popular unseen items;
        `seen_targets`: share of the targets that no list can contain, because the user had seen them before.
    """
    settings = config.evaluate
    alphas = settings.alphas if items.num_clusters > 1 else ()
    merges = [config.merge, *(MergeConfig(method="quota", alpha=alpha) for alpha in alphas)]
    width = max(*settings.candidates, *settings.within_cluster)
    retrieved = Evaluator(model, merges, width).retrieve(records)

    def figures(lists: Lists) -> dict[str, float]:
        return list_figures(lists, records, items.num_clusters, settings.candidates)

    popular = metrics.popularity_places(items.counts, records.items, records.splits, records.targets)
    return {
        "users": len(records.targets),
        "seen_targets": float(np.mean(metrics.seen(records.items, records.splits, records.targets))),
        "merge_method": config.merge.method,
        "merge": figures(retrieved.lists[0]),
        "alpha_curve": [
            {"alpha": alpha, **figures(lists)} for alpha, lists in zip(alphas, retrieved.lists[1:], strict=True)
        ],
        "within_cluster": _recalls(retrieved.within_places, sorted({*settings.within_cluster, *settings.candidates})),
        "within_cluster_by_cluster": _by_cluster(retrieved, records, items, settings),
        "intent": intent_figures(retrieved, records),
        "popularity": _places_figures(popular, settings.candidates),
    }


def list_figures(lists: Lists, records: HeldOutRecords, num_clusters: int, sizes: Sequence[int]) -> dict[str, float]:
    """Recall, NDCG, and the spread over clusters of the first m results, for every m of `sizes`."""
    place = metrics.places(lists.rows, records.targets - 1)
    figures = _places_figures(place, sizes)
    for m in sizes:
        counts = metrics.cluster_counts(lists.clusters, m, num_clusters)
        figures[f"coverage@{m}"] = metrics.coverage(counts)
        figures[f"entropy@{m}"] = metrics.entropy(counts)
    return figures


def intent_figures(retrieved: Retrieved, records: HeldOutRecords) -> dict[str, float]:
    """Accuracy, and negative log-likelihood in nats, of the intent model on the targets' clusters."""
    users = np.arange(len(records.targets))
    return {
        "intent_accuracy": float(np.mean(retrieved.log_intent.argmax(axis=1) == records.target_clusters)),
        "intent_nll": float(-np.mean(retrieved.log_intent[users, records.target_clusters])),
    }


def write_report(report: dict, output: Path) -> None:
    """Writes `report.json`."""
    (output / REPORT).write_text(json.dumps(report, indent=1))


def _places_figures(place: np.ndarray, sizes: Sequence[int]) -> dict[str, float]:
    return _recalls(place, sizes) | {f"ndcg@{m}": metrics.ndcg(place, m) for m in sizes}


def _recalls(place: np.ndarray, sizes: Sequence[int]) -> dict[str, float]:
    return {f"recall@{m}": metrics.recall(place, m) for m in sizes}


def _by_cluster(
    retrieved: Retrieved, records: HeldOutRecords, items: ItemTable, settings: EvaluateConfig
) -> list[dict]:
    rows = []
    for cluster, name in enumerate(items.cluster_names):
        mine = retrieved.within_places[records.target_clusters == cluster]
        row = {"cluster": cluster, "name": name, "targets": len(mine)}
        rows.append(row | (_recalls(mine, settings.within_cluster) if len(mine) else {}))
    return rows
