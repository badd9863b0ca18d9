"""Which part of a sequence models learn from, and which of its events are held out as targets."""

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """The last three columns of `schema.SEQUENCE_SCHEMA`, of S sequences."""

    train_events: np.ndarray  # [S] int32
    validation: np.ndarray  # [S] int32
    test: np.ndarray  # [S] int32


def leave_last_two(edges: np.ndarray) -> Split:
    """The last event of a user is the test target, the one before it the validation target.

    Args:
        edges: `[S + 1]`; the events of sequence s are `edges[s]..edges[s + 1] - 1`, at least three.
    """
    lengths = np.diff(edges).astype(np.int32)
    return Split(lengths - 2, lengths - 2, lengths - 1)
