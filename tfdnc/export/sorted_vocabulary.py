"""Item vocabulary of a large bundle: a search in sorted hashes, which needs a fraction of a hash table's memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError

_BLOCK = 16  # ids in one string: an answer copies the block of every id
_CHUNK = 1 << 17  # ids that are converted at once
_REST = 1 << 30  # bytes; more than any block has

REPEATED = "Expected distinct item ids in the item table, found repeated ones. Run cluster again."
"""Message of the error for an id that two items have."""


class SortedVocabulary(tf.Module):
    """Ids in strings of 16, and sorted hashes of the ids. As `ItemVocabulary`, with some ops more in a request.

    A million ids of 8 characters need 106 bytes each with a hash table and a string variable, and 38 with these.

    Args:
        item_ids: N + R ids, checked except for repeated ones; id i is item index i + 1. Only histories hold the last R.
        asset: file of the ids, which has to exist until saving the bundle copies it, for readers outside of the graph.

    Raises:
        UserError: an id is repeated.
    """

    def __init__(self, item_ids: Sequence[str], asset: Path) -> None:
        super().__init__()
        self._file = tf.saved_model.Asset(str(asset))
        blocks, starts = _in_blocks(item_ids)
        self._blocks = tf.Variable(blocks, trainable=False, dtype=tf.string, name="item_ids")
        self._starts = tf.Variable(starts, trainable=False, name="starts_of_ids")
        hashes = _hashes(item_ids)
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        self._longest_run = _longest_run(item_ids, hashes, order)
        self._hashes = tf.Variable(hashes, trainable=False, name="hashes_of_ids")
        self._rows = tf.Variable(order.astype(np.int32), trainable=False, name="rows_of_hashes")

    def indices(self, item_ids: tf.Tensor) -> tf.Tensor:
        """String ids of any shape -> int32 item indices 1..N + R, 0 for unknown ids and for ""."""
        flat = tf.reshape(item_ids, [-1])
        # The hashes are read whole, which copies nothing as long as no op gathers from their variable.
        first = tf.searchsorted(self._hashes, _hash(flat))
        found = tf.zeros_like(first)
        for place in range(self._longest_run):
            rows = tf.gather(self._rows, tf.minimum(first + place, self._rows.shape[0] - 1))
            found = tf.where(self._known(rows) == flat, rows + 1, found)
        return tf.reshape(found, tf.shape(item_ids))

    def ids(self, rows: tf.Tensor) -> tf.Tensor:
        """int32 item rows 0..N-1 of any shape -> string ids, "" for -1."""
        return tf.where(rows >= 0, self._known(tf.maximum(rows, 0)), "")

    def _known(self, rows: tf.Tensor) -> tf.Tensor:
        """Ids of rows of any shape, none of them -1."""
        starts, ends = tf.gather(self._starts, rows), tf.gather(self._starts, rows + 1)
        # The next start after the last id of a block is 0.
        lengths = tf.where(ends > starts, ends - starts, _REST)
        return tf.strings.substr(tf.gather(self._blocks, rows // _BLOCK), starts, lengths)


def _in_blocks(item_ids: Sequence[str]) -> tuple[list[bytes], np.ndarray]:
    """Returns the ids joined in blocks, and `[n + 1]` int32 starts of every id in its block; the last one is 0."""
    encoded = ([one.encode() for one in item_ids[first : first + _BLOCK]] for first in range(0, len(item_ids), _BLOCK))
    blocks, starts = [], np.zeros(len(item_ids) + 1, np.int32)
    for number, block in enumerate(encoded):
        blocks.append(b"".join(block))
        own = starts[number * _BLOCK : number * _BLOCK + len(block)]
        own[1:] = np.cumsum([len(one) for one in block[:-1]])
    return blocks, starts


def _hash(item_ids: tf.Tensor) -> tf.Tensor:
    """Returns the hashes of ids, int64; TensorFlow promises that they stay the same in later versions."""
    return tf.strings.to_hash_bucket_fast(item_ids, tf.int64.max)


def _hashes(item_ids: Sequence[str]) -> np.ndarray:
    """Returns `[n]` int64 hashes."""
    chunks = (item_ids[first : first + _CHUNK] for first in range(0, len(item_ids), _CHUNK))
    return np.concatenate([_hash(tf.constant(chunk, tf.string)).numpy() for chunk in chunks])


def _longest_run(item_ids: Sequence[str], hashes: np.ndarray, order: np.ndarray) -> int:
    """Returns the largest number of ids with one hash.

    Args:
        item_ids: the ids.
        hashes: `[n]` their hashes, sorted.
        order: `[n]` the places of these in `item_ids`.

    Raises:
        UserError: an id is repeated.
    """
    longest = 1
    for run in _runs(hashes):
        same = {item_ids[place] for place in order[run]}
        if len(same) < run.stop - run.start:
            raise UserError(REPEATED)
        longest = max(longest, len(same))
    return longest


def _runs(ordered: np.ndarray) -> Iterator[slice]:
    """Yields the places of each value that is there at least twice."""
    for value in np.unique(ordered[1:][ordered[1:] == ordered[:-1]]):
        start, stop = np.searchsorted(ordered, value), np.searchsorted(ordered, value, side="right")
        yield slice(int(start), int(stop))
