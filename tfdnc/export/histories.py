"""Real histories to try a bundle with: of users nobody trained on the end of, from the shortest to the longest."""

import numpy as np

from tfdnc.items import ItemTable
from tfdnc.training.records import HeldOutRecords


def sample_histories(records: HeldOutRecords, items: ItemTable, count: int) -> list[list[str]]:
    """Returns at most `count` held-out histories as raw item ids, shortest first, evenly spread over the lengths."""
    by_length = np.argsort(np.diff(records.splits), kind="stable")
    users = np.unique(np.linspace(0, len(by_length) - 1, count).round().astype(int))
    return [
        [items.item_ids[item - 1] for item in records.items[records.splits[user] : records.splits[user + 1]]]
        for user in by_length[users]
    ]
