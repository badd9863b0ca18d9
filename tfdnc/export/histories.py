"""Real histories to try a bundle with: of users nobody trained on the end of, from the shortest to the longest."""

import numpy as np

from tfdnc.contracts.items import ItemTable
from tfdnc.training.records import HeldOutRecords


def sample_histories(
    records: HeldOutRecords, items: ItemTable, count: int, start: int = 0
) -> tuple[list[list[str]], list[list[int]] | None]:
    """Returns the histories of `sample_by_length` as a client knows them.

    Returns:
        At most `count` histories as raw item ids, shortest first; and of each the times of its items and, last, of the
        request, whose first item came at `start`. None for records without times.
    """
    some = sample_by_length(records, count)
    spans = [slice(*some.splits[user : user + 2]) for user in range(len(some.targets))]
    histories = [[items.item_ids[item - 1] for item in some.items[span]] for span in spans]
    if some.elapsed is None:
        return histories, None
    return histories, [(start + np.append(0, np.cumsum(some.elapsed[span]))).tolist() for span in spans]


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
        elapsed=None if records.elapsed is None else records.elapsed[events],
    )
