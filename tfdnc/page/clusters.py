"""The clusters on the page: their items, and the recall inside each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfdnc.contracts.station_names import StationName
from tfdnc.evaluation.metrics import sizes_of
from tfdnc.page.runs import Group


@dataclass(frozen=True)
class Recall:
    """A bar: recall of one group in one cluster."""

    group: Group
    value: float
    width: float  # percent of the longest possible bar


@dataclass(frozen=True)
class Described:
    """One cluster: `about` is its entry in `clusters.json`, `targets` the number of test items in it."""

    about: dict[str, Any]
    targets: int
    recalls: list[Recall]


@dataclass(frozen=True)
class Clustering:
    """Clusters, and the groups whose runs share them."""

    groups: list[Group]
    clusters: list[Described]
    size: int  # M of the recalls

    @property
    def reason(self) -> str:
        """Sentence about the number of clusters, where the config left it open; else empty."""
        reason: str = self.groups[0].first.figures(StationName.CLUSTER).get("num_clusters_reason", "")
        return reason

    @property
    def by_recall(self) -> list[Described]:
        """Clusters with targets, by the recall of the first group, best first."""
        found = [cluster for cluster in self.clusters if cluster.recalls]
        return sorted(found, key=lambda cluster: -cluster.recalls[0].value)


def clusterings(groups: Sequence[Group]) -> list[Clustering]:
    """Returns the distinct clusterings of the groups; a group of seeds shows that of its first seed."""
    sharing: dict[str, list[Group]] = {}
    for group in groups:
        if len(group.first.clusters) > 1:
            sharing.setdefault(repr(group.first.clusters), []).append(group)
    return [_clustering(found) for found in sharing.values()]


def _clustering(groups: list[Group]) -> Clustering:
    entries = [group.first.report["within_cluster_by_cluster"] for group in groups]
    sizes = sorted(sizes_of(max(entries[0], key=len)))  # a cluster without targets has no recalls
    size = 20 if 20 in sizes or not sizes else sizes[len(sizes) // 2]
    described = []
    for about in groups[0].first.clusters:
        rows: list[dict[str, Any]] = [
            next((row for row in table if row["cluster"] == about["cluster"]), {}) for table in entries
        ]
        recalls = [
            Recall(group, row[f"recall@{size}"], round(100 * row[f"recall@{size}"], 1))
            for group, row in zip(groups, rows, strict=True)
            if f"recall@{size}" in row
        ]
        described.append(Described(about, max(row.get("targets", 0) for row in rows), recalls))
    return Clustering(groups, described, size)
