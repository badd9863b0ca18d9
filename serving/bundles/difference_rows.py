"""The figures of two versions as rows of text, for the screen and for a page."""

import math
from typing import NamedTuple

from serving.bundles.difference import Difference, Estimate


class Row(NamedTuple):
    """One figure of both versions, and the change; "" where a version alone has no such figure."""

    name: str
    old: str
    new: str
    change: str


def rows_at_cutoffs(found: Difference) -> list[list[Row]]:
    """Returns the figures of each length of list."""
    return [
        [
            _recall(row.cutoff, *row.recall, row.recall_change),
            Row(f"coverage@{row.cutoff}", f"{row.coverage[0]:.4f}", f"{row.coverage[1]:.4f}", ""),
            Row(f"overlap@{row.cutoff}", "", "", f"{row.overlap:.4f}"),
            Row(f"order@{row.cutoff}", "", "", _share(row.order)),
            Row(f"new_items@{row.cutoff}", "", f"{row.new_items:.4f}", ""),
            Row(f"recall_of_new_items@{row.cutoff}", "", _of_new(row.recall_of_new_items, found.new_targets), ""),
        ]
        for row in found.cutoffs
    ]


def rows_of_versions(found: Difference) -> list[Row]:
    """Returns the figures that do not depend on the length of the lists."""
    before, after = found.items
    items = Row("items", f"{before:,}", f"{after:,}", f"{after - before:+,}")
    measured = ((name, *getattr(found, name)) for name in ("latency_ms", "megabytes"))
    return [items, *(Row(name, f"{old:.2f}", f"{new:.2f}", f"x {new / old:.2f}") for name, old, new in measured)]


def rows_of_clusters(found: Difference) -> list[Row]:
    """Returns the share of each cluster in the longest lists."""
    return [
        Row(name, f"{old:.4f}", f"{new:.4f}", f"{new - old:+.4f}") for name, (old, new) in found.cluster_shares.items()
    ]


def _recall(cutoff: int, old: Estimate, new: Estimate, change: Estimate) -> Row:
    if math.isnan(change.mean):  # the users of a request log have no next items
        return Row(f"recall@{cutoff}", "-", "-", "-")
    return Row(f"recall@{cutoff}", _estimate(old), _estimate(new), _estimate(change, "+"))


def _estimate(value: Estimate, sign: str = "") -> str:
    mean = f"{value.mean:{sign}.4f}"
    return mean if math.isnan(value.error) else f"{mean} ± {value.error:.4f}"  # one user has no error


def _share(value: float) -> str:
    """Returns a dash for NaN, such as the recall of new items where there are none."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def _of_new(recall: float, count: int) -> str:
    return f"{_share(recall)} of {count:,}" if count else _share(recall)
