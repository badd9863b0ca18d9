"""Cold start: the mean user vector, with which a user without history is searched."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.model.tower import Tower
from tfdnc.training.batches import history_batches
from tfdnc.training.records import HeldOutRecords


def cold_start_vectors(model: Tower, records: HeldOutRecords) -> np.ndarray:
    """Returns the mean over users of each user vector, `[V, D]` float32.

    The score of an item under the mean vector is its mean score over users. So inside each cluster a cold start gets
    the items with the best mean scores, and the intent prior decides how many come from each cluster. With several
    interests the mean is that of each interest v, as if it had the same meaning for all users.
    """
    encode = tf.function(model.user_vectors, input_signature=model.input_specs)
    total: np.ndarray = np.zeros((), np.float64)
    for batch in history_batches(records, model.max_length):
        vectors, _ = encode(*batch.inputs)
        total = total + tf.reduce_sum(vectors, axis=0).numpy().astype(np.float64)
    return (total / len(records.targets)).astype(np.float32)
