"""Real histories to try a bundle with: of users nobody trained on the end of, from the shortest to the longest."""

import numpy as np

from tfdnc.items import ItemTable
from tfdnc.training.records import HeldOutRecords


def sample_histories(
    records: HeldOutRecords, items: ItemTable, count: int
) -> tuple[list[list[str]], list[list[int]] | None]:
    """Picks held-out histories, evenly spread over the lengths.

    Returns:
        At most `count` histories as raw item ids, shortest first; and of each the times of its items and, last, of the
        request, counted from its first item. None for records without times.
    """
    by_length = np.argsort(np.diff(records.splits), kind="stable")
    users = np.unique(np.linspace(0, len(by_length) - 1, count).round().astype(int))
    spans = [slice(*records.splits[user : user + 2]) for user in by_length[users]]
    histories = [[items.item_ids[item - 1] for item in records.items[span]] for span in spans]
    if records.elapsed is None:
        return histories, None
    return histories, [[0, *np.cumsum(records.elapsed[span]).tolist()] for span in spans]
