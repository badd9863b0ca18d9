"""Common parts of all losses: their arguments, their registry, and the partition of positions by cluster.

Every loss takes the same arguments and returns one value per position `[P]`, so a config can name any of them:

    states: `[P, D]` user states, one per position with a target.
    targets: a `Targets` of P positions.
    catalogue: the `Catalogue` they are retrieved from; its `pool()` and `clusters()` read items of every kind of table.
    train: settings of some losses.
    dtype: dtype of the large matrix products; logits are float32 afterwards.
    stream: random numbers for losses that draw items. None, outside of training, is one constant stream.
"""

from collections.abc import Callable

from tfdnc.backend import tf
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.contracts.registry import Registry
from tfdnc.model.catalogue import Catalogue, Targets
from tfdnc.model.randomness import Stream

Loss = Callable[[tf.Tensor, Targets, Catalogue, TrainConfig, tf.DType, Stream | None], tf.Tensor]
LOSSES: Registry[Loss] = Registry("loss")
"""Losses by name, for `train.loss`."""

PoolLoss = Callable[..., tf.Tensor]
"""`(k, states [P_k, D], labels [P_k] rows inside cluster k, the n_k items of cluster k, *beside) -> losses [P_k]`."""


def by_cluster(
    pool_loss: PoolLoss, states: tf.Tensor, targets: Targets, catalogue: Catalogue, *beside: tf.Tensor
) -> tf.Tensor:
    """Applies `pool_loss` to the positions and the items of each cluster: `[P]`, in order of the positions.

    Positions are partitioned by cluster, so K products of `[P_k, D] x [D, n_k]` replace one `[P, D] x [D, N]`. So are
    further values `beside` them, `[P, ...]` each.
    """
    offsets = catalogue.offsets
    clusters = tf.cast(targets.clusters, tf.int32)
    num_clusters = len(offsets) - 1
    positions = tf.dynamic_partition(tf.range(tf.size(clusters)), clusters, num_clusters)
    states_of = tf.dynamic_partition(states, clusters, num_clusters)
    items_of = tf.dynamic_partition(targets.items - 1, clusters, num_clusters)
    more = [tf.dynamic_partition(values, clusters, num_clusters) for values in beside]
    losses = [
        pool_loss(k, states_of[k], items_of[k] - offsets[k], pool, *(values[k] for values in more))
        for k, pool in enumerate(catalogue.clusters())
    ]
    return tf.dynamic_stitch(positions, losses)
