"""What a user without history is searched with: the mean user vector."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.model.tower import Tower
from tfdnc.training.batches import history_batches
from tfdnc.training.records import HeldOutRecords


def cold_start_vectors(model: Tower, records: HeldOutRecords) -> np.ndarray:
    """Returns the mean over users of each user vector, `[V, D]` float32.

    The score of an item under the mean vector is its mean score over users, so a cold start is answered, inside each
    cluster, with what users like on average; how many come from each cluster is up to the intent prior. Several
    interests are averaged one by one, which supposes that interest v means the same for every user.
    """
    encode = tf.function(model.user_vectors, input_signature=model.input_specs)
    total = 0.0
    for batch in history_batches(records, model.max_length):
        vectors, _ = encode(*batch.inputs)
        total = total + tf.reduce_sum(vectors, axis=0).numpy().astype(np.float64)
    return (total / len(records.targets)).astype(np.float32)
