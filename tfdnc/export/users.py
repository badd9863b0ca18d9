"""Real users to tune and to measure an index on: held-out histories, as the user tower encodes them."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.index.users import Users
from tfdnc.model.retriever import Retriever
from tfdnc.training.batches import history_batches
from tfdnc.training.records import HeldOutRecords

_COUNT = 64


def sample_users(model: Retriever, records: HeldOutRecords, count: int = _COUNT) -> Users:
    """Encodes at most `count` users, evenly spread over the records."""
    drawn = np.unique(np.linspace(0, len(records.targets) - 1, count).astype(int))
    spans = [np.arange(*records.splits[user : user + 2]) for user in drawn]
    some = HeldOutRecords(
        items=records.items[np.concatenate(spans)],
        splits=np.cumsum([0, *map(len, spans)]),
        targets=records.targets[drawn],
        target_clusters=records.target_clusters[drawn],
        elapsed=None if records.elapsed is None else records.elapsed[np.concatenate(spans)],
    )
    # One batch, because rows of several would have to be padded to one width.
    [batch] = history_batches(some, model.max_length, batch_tokens=int(some.splits[-1]) * count + 1)
    vectors, log_intent = model.user_vectors(*map(tf.constant, batch.inputs))
    return Users(vectors.numpy(), log_intent.numpy(), batch.seen, model.vectors_per_cluster)
