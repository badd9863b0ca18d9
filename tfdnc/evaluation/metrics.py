"""Metrics of ranked lists with one relevant item per user, as pure NumPy functions.

A rank is the 0-based position of the target in its list, `NOT_FOUND` for a target that is not in the list.
"""

import itertools
from collections.abc import Mapping

import numpy as np

NOT_FOUND = np.iinfo(np.int64).max
"""Rank of a target that is not in its list."""


def sizes_of(figures: Mapping[str, float]) -> list[int]:
    """Returns the list sizes m of `recall@m` among named figures, in their order."""
    return [int(name.removeprefix("recall@")) for name in figures if name.startswith("recall@")]


def ranks(lists: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns the rank of each target in its list.

    Args:
        lists: `[U, M]` ranked items, best first, no item twice in a row, except padding.
        targets: `[U]` the relevant items.

    Returns:
        `[U]` int64, `NOT_FOUND` where the target is missing.
    """
    hits = lists == targets[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), NOT_FOUND)


def seen(histories: np.ndarray, splits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns `[U]` bool, True for a target that is in the user's own history.

    Args:
        histories: `[E]` item indices, those of user u at splits[u] .. splits[u + 1] - 1.
        splits: `[U + 1]`.
        targets: `[U]` item indices.
    """
    owners = np.repeat(np.arange(len(targets)), np.diff(splits))
    return np.bincount(owners[histories == targets[owners]], minlength=len(targets)) > 0


def recall(rank: np.ndarray, m: int) -> float:
    """Returns the share of users whose target is among the first m; with one relevant item, this is the hit rate."""
    return float(np.mean(rank < m))


def ndcg(rank: np.ndarray, m: int) -> float:
    """Returns the mean of `gains`. With one relevant item the ideal gain is 1, so this is NDCG@m."""
    return float(np.mean(gains(rank, m)))


def gains(rank: np.ndarray, m: int) -> np.ndarray:
    """Returns `[U]` 1 / log2(rank + 2) of users whose target is among the first m, 0 for the others."""
    discounted = 1.0 / np.log2(np.minimum(rank, m).astype(np.float64) + 2.0)
    return np.where(rank < m, discounted, 0.0)


def cluster_counts(clusters: np.ndarray, m: int, num_clusters: int) -> np.ndarray:
    """Counts the first m results by cluster: `[U, M]` cluster ids (-1 padding) -> `[U, K]`."""
    top = clusters[:, :m]
    rows = np.repeat(np.arange(len(top)), top.shape[1]).reshape(top.shape)
    present = top >= 0
    flat = np.bincount(rows[present] * num_clusters + top[present], minlength=len(top) * num_clusters)
    return flat.reshape(len(top), num_clusters)


def entropies(counts: np.ndarray) -> np.ndarray:
    """Returns the entropy of the clusters of each list, in nats, from 0 (one cluster) to log K: `[U, K]` -> `[U]`."""
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return -np.sum(shares * np.log(np.where(shares > 0, shares, 1.0)), axis=1)


def item_counts(rows: np.ndarray, m: int, num_items: int) -> np.ndarray:
    """Counts the lists that have an item among their first m: `[U, M]` item rows (-1 padding) -> `[N]`."""
    top = rows[:, :m]
    return np.bincount(top[top >= 0], minlength=num_items)


def gini(counts: np.ndarray) -> float:
    """Returns the Gini coefficient of `[N]` counts, those of 0 included.

    It is 0 when all counts are equal, also when all are 0, and 1 - 1 / N when only one is positive. With x sorted in
    ascending order it is sum_i (2 i - N - 1) x_i / (N sum x), i = 1..N.
    """
    n, total = len(counts), counts.sum()
    weights = 2.0 * np.arange(1, n + 1) - n - 1
    return float(weights @ np.sort(counts) / (n * total)) if total else 0.0


def popularity_lists(counts: np.ndarray, histories: np.ndarray, splits: np.ndarray, m: int) -> np.ndarray:
    """Returns the m most popular items that are not in a user's history; ties go to the lower row.

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
        best = descending[: m + len(history)]  # at least m of them are unseen, if there are as many
        is_seen[history] = True
        unseen = best[~is_seen[best]][:m]
        is_seen[history] = False
        lists[user, : len(unseen)] = unseen
    return lists


def popularity_ranks(counts: np.ndarray, histories: np.ndarray, splits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns `[U]` ranks of the targets among all unseen items by descending count; ties count against the target.

    Args:
        counts: `[N]` training events of item row 0..N-1.
        histories: `[E]` item indices 1..N, those of user u at splits[u] .. splits[u + 1] - 1.
        splits: `[U + 1]`.
        targets: `[U]` item indices.
    """
    descending = np.sort(-counts)
    not_below = np.searchsorted(descending, -counts[targets - 1], side="right") - 1  # without the target itself
    owners = np.repeat(np.arange(len(targets)), np.diff(splits))
    # Pairs of a user and an item, each once however often the user has seen the item.
    owners, items = np.divmod(np.unique(owners * (len(counts) + 1) + histories), len(counts) + 1)
    ahead = counts[items - 1] >= counts[targets[owners] - 1]
    rank = not_below - np.bincount(owners[ahead], minlength=len(targets))
    return np.where(seen(histories, splits, targets), NOT_FOUND, rank)  # a seen target is in no list
