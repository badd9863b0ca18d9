"""Raw item ids in, raw item ids out: the two directions of the item vocabulary inside a bundle."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.errors import UserError


class ItemVocabulary(tf.Module):
    """A hash table read from an asset file, and the ids as a string variable.

    Neither puts the ids into the graph, which would make a bundle of a million items slow to load and stop one of
    more than 2 GB. Both are stock and restore in TF1 sessions and in TF Serving.

    Args:
        item_ids: N distinct ids, id i being item index i + 1.
        folder: where the asset file is written; it must stay until the bundle is saved, which copies it.
    """

    def __init__(self, item_ids: Sequence[str], folder: Path):
        super().__init__()
        _check(item_ids)
        asset = folder / Path(contract.ITEM_IDS_ASSET).name
        asset.write_text("".join(f"{item_id}\n" for item_id in item_ids), encoding="utf-8", newline="")
        rows = tf.lookup.TextFileInitializer(
            str(asset), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self._rows = tf.lookup.StaticHashTable(rows, default_value=-1)
        self._item_ids = tf.Variable(
            np.array(item_ids, dtype=object), trainable=False, dtype=tf.string, name="item_ids"
        )

    def indices(self, item_ids: tf.Tensor) -> tf.Tensor:
        """String ids of any shape -> int32 item indices 1..N, 0 for unknown ids and for ""."""
        return tf.cast(self._rows.lookup(item_ids) + 1, tf.int32)

    def ids(self, rows: tf.Tensor) -> tf.Tensor:
        """int32 item rows 0..N-1 of any shape -> string ids, "" for -1."""
        return tf.where(rows >= 0, tf.gather(self._item_ids, tf.maximum(rows, 0)), "")


def _check(item_ids):
    if len(set(item_ids)) < len(item_ids):
        raise UserError("Expected distinct item ids in the item table, found repeated ones. Run cluster again.")
    for item_id in item_ids:
        if not item_id or "\n" in item_id or "\r" in item_id:
            raise UserError(
                f"Expected item ids without line breaks, and not empty, because requests pad with the empty id and "
                f"the bundle stores one id per line; found {item_id!r}. Rename that item in the log."
            )
