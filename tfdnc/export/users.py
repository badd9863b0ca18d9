"""Held-out users, encoded by the user tower, on which a bundle is tuned, measured and checked."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError
from tfdnc.export.histories import take_users
from tfdnc.model.tower import Tower
from tfdnc.retrieval.index.users import Users
from tfdnc.training.batches import history_batches
from tfdnc.training.records import HeldOutRecords

_COUNT = 64
_LARGEST_DIFFERENCE = (
    0.02  # of a vector's length: bfloat16 rounds to .4 %, and the width of a batch changes the order of sums
)


def sample_users(model: Tower, records: HeldOutRecords, allows_seen: bool = False, count: int = _COUNT) -> Users:
    """Encodes at most `count` users, evenly spread over the records; see `encode_users`."""
    drawn = np.unique(np.linspace(0, len(records.targets) - 1, count).astype(int))
    return encode_users(model, take_users(records, drawn), allows_seen)


def encode_users(model: Tower, records: HeldOutRecords, allows_seen: bool = False) -> Users:
    """Encodes the users of all records as the evaluation does, in their order.

    Args:
        model: tower of the items.
        records: of the users.
        allows_seen: whether lists may hold items of the history.
    """
    # One batch, because the rows of several batches would have to be padded to one width.
    tokens = int(records.splits[-1]) * len(records.targets) + 1
    [batch] = history_batches(records, model.max_length, batch_tokens=tokens, allows_seen=allows_seen)
    order = np.argsort(batch.users)
    history, inputs = tf.nest.map_structure(tf.constant, batch.inputs)
    vectors, log_intent = (tensor.numpy()[order] for tensor in model.user_vectors(history, inputs))
    seen = np.where(batch.seen > model.num_items, 0, batch.seen)  # no list holds items that only histories have
    return Users(vectors, log_intent, seen[order], model.vectors_per_cluster)


def refuse_other_vectors(found: np.ndarray, expected: np.ndarray) -> None:
    """Raises a `UserError` when a bundle encodes users in another way than the evaluation did.

    No other check covers properties of requests alone, such as the zero point of their times.

    Args:
        found: `[Q, V, D]` user vectors of the bundle.
        expected: `[Q, V, D]` those of the model for the same users.
    """
    lengths = np.maximum(np.linalg.norm(expected, axis=-1), 1e-6)
    apart = (np.linalg.norm(found - expected, axis=-1) / lengths).max()
    if not apart <= _LARGEST_DIFFERENCE:
        raise UserError(
            f"Expected the bundle to encode users as the evaluation did, found vectors that are up to {apart:.1%} of "
            "their length apart: its lists are not those that report.json measured. Nothing was exported; report this."
        )
