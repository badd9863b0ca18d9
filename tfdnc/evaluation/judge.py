"""The judge: clusters of another item table, in which the lists of a method with one cluster are measured."""

from typing import NamedTuple

import numpy as np

from tfdnc.contracts.config import ClusterConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.training.records import HeldOutRecords


class Judge(NamedTuple):
    """The model's N items in the order and the clusters of the judge's item table."""

    items: ItemTable  # the judge's item table
    model_rows: np.ndarray  # [N] model's item row of every judge's item row
    indices: np.ndarray  # [N + 1] judge's item index of every model's item index; padding, 0, stays 0

    def renumber(self, records: HeldOutRecords) -> HeldOutRecords:
        """Returns the records with the judge's item indices and clusters."""
        targets = self.indices[records.targets]
        clusters = self.items.clusters[targets - 1].astype(np.int32)
        return records._replace(items=self.indices[records.items], targets=targets, target_clusters=clusters)


def make_judge(items: ItemTable, judging: ItemTable) -> Judge:
    """Matches the model's item table with the judge's.

    Raises:
        UserError: the model has clusters of its own, or the tables do not hold the same items.
    """
    if items.num_clusters > 1:
        raise UserError(refusal(items.num_clusters))
    model_order, judge_order = np.argsort(items.sequence_indices), np.argsort(judging.sequence_indices)
    if not np.array_equal(items.sequence_indices[model_order], judging.sequence_indices[judge_order]):
        raise UserError("Expected the judge to hold the model's items, it holds others: run `tfdnc judge` again.")
    model_rows = np.empty_like(model_order)
    model_rows[judge_order] = model_order
    indices = np.zeros(len(model_rows) + 1, np.int32)
    indices[model_rows + 1] = np.arange(1, len(model_rows) + 1)
    return Judge(judging, model_rows, indices)


def refusal(num_clusters: int | str) -> str:
    """Returns the error text for a judge beside a method with clusters, whose lists its own clusters judge."""
    return (
        "Expected evaluate.judge only where the method has one cluster (cluster.method: single), got one beside "
        f"{num_clusters} clusters: remove evaluate.judge, lists are judged by the method's own clusters."
    )


def describe(config: ClusterConfig, num_clusters: int) -> str:
    """Returns the name of a judge in reports, such as "word2vec_kmeans, 10 clusters"."""
    return f"{config.method}, {num_clusters} clusters"
