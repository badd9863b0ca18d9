"""Real histories for checks of a bundle: of held-out records, from the shortest to the longest."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdnc.contracts.features import Feature
from tfdnc.training.records import HeldOutRecords


def sample_histories(
    records: HeldOutRecords, item_ids: Sequence[str], count: int, features: Sequence[Feature] = (), start: int = 0
) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """Returns the histories of `sample_by_length` as a client sends them.

    Args:
        records: read with these features.
        item_ids: of all items of the records; id i is item index i + 1.
        count: most histories.
        features: inputs beside the items, with the values of categories.
        start: time of the first event of every history.

    Returns:
        The histories as raw item ids, shortest first; and for each the values of the features by names of tensors.
    """
    some = sample_by_length(records, count)
    spans = [slice(*some.splits[user : user + 2]) for user in range(len(some.targets))]
    histories = [[item_ids[item - 1] for item in some.items[span]] for span in spans]
    windows = [{key: of[span] for key, of in some.features.items()} for span in spans]
    return histories, [_asked(features, window, start, item_ids) for window in windows]


def _asked(
    features: Sequence[Feature], values: dict[str, np.ndarray], start: int, item_ids: Sequence[str]
) -> dict[str, Any]:
    """Values that a client sends for one user, by names of tensors, given those of a window, `[T]` by key."""
    asked: dict[str, Any] = {}
    for feature in features:
        asked |= feature.asked(values[feature.key], start, item_ids)
    return asked


def sample_by_length(records: HeldOutRecords, count: int) -> HeldOutRecords:
    """Returns at most `count` users, evenly spread over the lengths of their histories, shortest first."""
    by_length = np.argsort(np.diff(records.splits), kind="stable")
    return take_users(records, by_length[np.unique(np.linspace(0, len(by_length) - 1, count).round().astype(int))])


def take_users(records: HeldOutRecords, users: np.ndarray) -> HeldOutRecords:
    """Returns the records of these users, in this order."""
    spans = [np.arange(*records.splits[user : user + 2]) for user in users]
    events = np.concatenate(spans)
    return HeldOutRecords(
        items=records.items[events],
        splits=np.cumsum([0, *map(len, spans)]),
        targets=records.targets[users],
        target_clusters=records.target_clusters[users],
        features={key: values[events] for key, values in records.features.items()},
    )
