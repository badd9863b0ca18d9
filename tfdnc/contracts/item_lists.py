"""Lists of items of every event, as one list of integers in records: a 0 ends each of them, and no item is 0."""

import numpy as np


def ended_lists(items: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns lists with their ends, and the edges of events in them.

    Args:
        items: `[V]` above 0, event after event.
        lengths: `[E]` items of each event.

    Returns:
        `[V + E]` int64, and `[E + 1]`: event e is the values `edges[e] .. edges[e + 1] - 1`, the last one 0.
    """
    edges = np.concatenate([[0], np.cumsum(lengths + 1)])
    ended = np.zeros(edges[-1], np.int64)
    filled = np.ones(len(ended), bool)
    filled[edges[1:] - 1] = False
    ended[filled] = items
    return ended, edges


def padded_lists(ended: np.ndarray) -> np.ndarray:
    """Returns the lists of E events, given with their ends, as `[E, W]`, padded with 0 to the longest, W >= 1."""
    ends = np.flatnonzero(ended == 0)
    lengths = np.diff(ends, prepend=-1) - 1
    padded = np.zeros([len(ends), max(1, lengths.max(initial=0))], ended.dtype)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = ended[ended > 0]
    return padded
