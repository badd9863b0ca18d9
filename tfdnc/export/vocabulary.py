"""Item vocabulary inside a bundle: raw item ids to indices, and rows to raw item ids."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.errors import UserError
from tfdnc.export.sorted_vocabulary import REPEATED, SortedVocabulary

SORTED_FROM = 1_000_000
"""Number of ids from which the memory of a hash table counts more than the ops of a `SortedVocabulary`."""


def vocabulary_of(item_ids: Sequence[str], folder: Path) -> "ItemVocabulary | SortedVocabulary":
    """Returns the vocabulary that suits the number of ids; arguments and errors as of `ItemVocabulary`."""
    if len(item_ids) < SORTED_FROM:
        return ItemVocabulary(item_ids, folder)
    return SortedVocabulary(item_ids, _write(item_ids, folder))


class ItemVocabulary(tf.Module):
    """A hash table from an asset file, and the ids as a string variable.

    So the ids are not in the graph: a graph with a million ids loads slowly, and one above 2 GB cannot be saved. Both
    are standard TensorFlow and work in TF1 sessions and in TF Serving.

    Args:
        item_ids: N + R distinct ids; id i is item index i + 1. Only histories hold the last R.
        folder: for the asset file, which has to exist until saving the bundle copies it.

    Raises:
        UserError: an id is repeated, empty, or has a line break.
    """

    def __init__(self, item_ids: Sequence[str], folder: Path) -> None:
        super().__init__()
        if len(set(item_ids)) < len(item_ids):
            raise UserError(REPEATED)
        asset = _write(item_ids, folder)
        rows = tf.lookup.TextFileInitializer(
            str(asset), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self._rows = tf.lookup.StaticHashTable(rows, default_value=-1)
        self._item_ids = tf.Variable(
            np.array(item_ids, dtype=object), trainable=False, dtype=tf.string, name="item_ids"
        )

    def indices(self, item_ids: tf.Tensor) -> tf.Tensor:
        """String ids of any shape -> int32 item indices 1..N + R, 0 for unknown ids and for ""."""
        return tf.cast(self._rows.lookup(item_ids) + 1, tf.int32)

    def ids(self, rows: tf.Tensor) -> tf.Tensor:
        """int32 item rows 0..N-1 of any shape -> string ids, "" for -1."""
        return tf.where(rows >= 0, tf.gather(self._item_ids, tf.maximum(rows, 0)), "")


def _write(item_ids: Sequence[str], folder: Path) -> Path:
    """Writes the asset file, one id per line, and returns its path."""
    asset = folder / Path(contract.ITEM_IDS_ASSET).name
    with asset.open("w", encoding="utf-8", newline="") as file:
        for item_id in item_ids:
            if not item_id or "\n" in item_id or "\r" in item_id:
                raise UserError(
                    f"Expected item ids without line breaks, and not empty, because requests pad with the empty id and "
                    f"the bundle stores one id per line; found {item_id!r}. Rename that item in the log."
                )
            file.write(f"{item_id}\n")
    return asset
