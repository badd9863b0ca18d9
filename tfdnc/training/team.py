"""How the processes that train one model agree: each says its numbers, all hear everybody's."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.training.workers import ALONE, Place


class Team:
    """The processes that train one model, synchronously, each on the windows of its own shards.

    Made before anything else of TensorFlow is used when there are several, because their servers start first. It waits
    for the others then.

    Args:
        place: of this process.
    """

    def __init__(self, place: Place = ALONE):
        self.place = place
        several = place.count > 1
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy() if several else tf.distribute.get_strategy()

    def everybodys(self, values: list[float]) -> np.ndarray:
        """Returns the numbers of all workers, `[workers, values]` float64; every worker must ask for them.

        Args:
            values: this worker's, as many as the others have.
        """
        table = np.zeros((self.place.count, len(values)))
        table[self.place.index] = values
        return self._sum(tf.constant(table)).numpy() if self.place.count > 1 else table

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float64)])
    def _sum(self, table: tf.Tensor) -> tf.Tensor:
        def total(own):
            own = tf.identity(own)  # made here, it lies on a device; an argument does not, and cannot be reduced
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, own)

        return self.strategy.run(total, args=(table,))
