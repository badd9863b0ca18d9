"""Synchronous workers that train one model: their distribution strategy, and the exchange of numbers between them."""

import numpy as np

from tfdnc.backend import tf
from tfdnc.training.workers import ALONE, WorkerIndex


class Team:
    """The processes that train one model, synchronously, each on the windows of its own shards.

    With several workers it has to be made before any other use of TensorFlow, because it starts their servers. It then
    waits for the other workers.

    Args:
        worker: index of this process.
    """

    def __init__(self, worker: WorkerIndex = ALONE) -> None:
        self.worker = worker
        several = worker.count > 1
        self.strategy: tf.distribute.Strategy = (
            tf.distribute.MultiWorkerMirroredStrategy() if several else tf.distribute.get_strategy()
        )

    def gather(self, values: list[float]) -> np.ndarray:
        """Returns the numbers of all workers, `[workers, values]` float64; every worker has to call it.

        Args:
            values: numbers of this worker, as many as those of the others.
        """
        table = np.zeros((self.worker.count, len(values)))
        table[self.worker.index] = values
        return self._sum(tf.constant(table)).numpy() if self.worker.count > 1 else table

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float64)])
    def _sum(self, table: tf.Tensor) -> tf.Tensor:
        def total(own: tf.Tensor) -> tf.Tensor:
            # The copy lies on a device; an argument of the function does not, and cannot be reduced.
            own = tf.identity(own)
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, own)

        return self.strategy.run(total, args=(table,))
