"""Metrics of ranked lists with one relevant item per user, as pure NumPy functions.

A place is the 0-based position of the target in its list; `NOT_FOUND` stands for a target that is not in the list.
"""

import itertools
from collections.abc import Mapping

import numpy as np

NOT_FOUND = np.iinfo(np.int64).max
"""Place of a target that is not in its list."""


def sizes_of(figures: Mapping[str, float]) -> list[int]:
    """The list sizes m of `recall@m` among named figures, in their order."""
    return [int(name.removeprefix("recall@")) for name in figures if name.startswith("recall@")]


def places(lists: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Position of each target in its list.

    Args:
        lists: `[U, M]` ranked items, best first, no item twice in a row (padding apart).
        targets: `[U]` the relevant items.

    Returns:
        `[U]` int64, `NOT_FOUND` where the target is missing.
    """
    hits = lists == targets[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), NOT_FOUND)


def seen(histories: np.ndarray, splits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Which targets stand in their user's own history.

    Args:
        histories: `[E]` item indices, those of user u at splits[u] .. splits[u + 1] - 1.
        splits: `[U + 1]`.
        targets: `[U]` item indices.

    Returns:
        `[U]` bool.
    """
    owners = np.repeat(np.arange(len(targets)), np.diff(splits))
    return np.bincount(owners[histories == targets[owners]], minlength=len(targets)) > 0


def recall(place: np.ndarray, m: int) -> float:
    """Share of users whose target is among the first m; with one relevant item this is also the hit rate."""
    return float(np.mean(place < m))


def ndcg(place: np.ndarray, m: int) -> float:
    """Mean of 1 / log2(place + 2) over users whose target is among the first m, 0 for the others.

    With one relevant item the ideal gain is 1, so this is NDCG@m.
    """
    discounted = 1.0 / np.log2(np.minimum(place, m).astype(np.float64) + 2.0)
    return float(np.mean(np.where(place < m, discounted, 0.0)))


def cluster_counts(clusters: np.ndarray, m: int, num_clusters: int) -> np.ndarray:
    """How many of the first m results come from each cluster: `[U, M]` cluster ids (-1 padding) -> `[U, K]`."""
    top = clusters[:, :m]
    rows = np.repeat(np.arange(len(top)), top.shape[1]).reshape(top.shape)
    present = top >= 0
    flat = np.bincount(rows[present] * num_clusters + top[present], minlength=len(top) * num_clusters)
    return flat.reshape(len(top), num_clusters)


def coverage(counts: np.ndarray) -> float:
    """Mean share of the K clusters that appear in a list; counts are `[U, K]`."""
    return float(np.mean(counts > 0))


def entropy(counts: np.ndarray) -> float:
    """Mean entropy, in nats, of the clusters of a list; 0 when all results share one cluster, log K at most."""
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return float(np.mean(-np.sum(shares * np.log(np.where(shares > 0, shares, 1.0)), axis=1)))


def item_counts(rows: np.ndarray, m: int, num_items: int) -> np.ndarray:
    """How often each item is among the first m of a list: `[U, M]` item rows (-1 padding) -> `[N]`."""
    top = rows[:, :m]
    return np.bincount(top[top >= 0], minlength=num_items)


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of `[N]` counts, those of 0 included.

    0 when all are equal, 1 - 1 / N when one item has everything; 0 when nobody has anything. With x sorted ascending it
    is sum_i (2 i - N - 1) x_i / (N sum x), i = 1..N.
    """
    n, total = len(counts), counts.sum()
    weights = 2.0 * np.arange(1, n + 1) - n - 1
    return float(weights @ np.sort(counts) / (n * total)) if total else 0.0


def popularity_lists(counts: np.ndarray, histories: np.ndarray, splits: np.ndarray, m: int) -> np.ndarray:
    """The m most popular items that each user has not seen; ties go to the lower row.

    Args:
        counts: `[N]` training events of item row 0..N-1.
        histories: `[E]` item indices 1..N, those of user u at splits[u] .. splits[u + 1] - 1.
        splits: `[U + 1]`.
        m: length of the lists.

    Returns:
        `[U, m]` item rows, -1 beyond the end.
    """
    descending = np.argsort(-counts, kind="stable")
    lists = np.full([len(splits) - 1, m], -1)
    is_seen = np.zeros(len(counts), bool)
    for user, (start, stop) in enumerate(itertools.pairwise(splits)):
        history = histories[start:stop] - 1
        best = descending[: m + len(history)]  # enough, whatever the user has seen of them
        is_seen[history] = True
        unseen = best[~is_seen[best]][:m]
        is_seen[history] = False
        lists[user, : len(unseen)] = unseen
    return lists


def popularity_places(counts: np.ndarray, histories: np.ndarray, splits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Places of the targets in the list of all unseen items by descending count; ties count against the target.

    Args:
        counts: `[N]` training events of item row 0..N-1.
        histories: `[E]` item indices 1..N, those of user u at splits[u] .. splits[u + 1] - 1.
        splits: `[U + 1]`.
        targets: `[U]` item indices.
    """
    descending = np.sort(-counts)
    not_below = np.searchsorted(descending, -counts[targets - 1], side="right") - 1  # the target itself is one
    owners = np.repeat(np.arange(len(targets)), np.diff(splits))
    owners, items = np.divmod(np.unique(owners * (len(counts) + 1) + histories), len(counts) + 1)  # seen once each
    ahead = counts[items - 1] >= counts[targets[owners] - 1]
    place = not_below - np.bincount(owners[ahead], minlength=len(targets))
    return np.where(seen(histories, splits, targets), NOT_FOUND, place)  # a seen target is in no list
