"""Recovery of a bundle: the share of the exact joint list that it finds, and larger samples if that is too small."""

import logging

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.config import MergeConfig
from tfdnc.model.tower import Tower
from tfdnc.retrieval.index import ClusterIndex, ExactIndex
from tfdnc.retrieval.index.listing import expected_shares, search_list
from tfdnc.retrieval.index.users import Users, queries_near
from tfdnc.retrieval.merge import joint

_LOG = logging.getLogger(__name__)

REQUIRED = 0.97
"""Required share of the exact list; joint keys need log-partitions, which an approximate index only estimates."""

_SAMPLES = (4, 16)  # factors of the sampled items, tried in order until the share is large enough
_BATCH = 8


def ensure_joint_recovery(
    index: ClusterIndex, tower: Tower, users: Users | None, length: int, alpha: float = 1.0
) -> float:
    """Measures the joint lists of an index, and enlarges its samples until the recovery is large enough.

    Args:
        index: over the tower's items.
        tower: the tower of the items.
        users: users of the compared lists; None generates some.
        length: M of the lists.
        alpha: exponent of the joint merge.

    Returns:
        Mean share of the exact lists' items that the index lists too. A share below `REQUIRED` is logged as a warning.
    """
    if index.exhaustive:
        return 1.0
    users, merge = users or _generated(tower), MergeConfig(method="joint", alpha=alpha)
    exact = _lists(ExactIndex(tower.item_embeddings, tower.offsets), users, length, merge)
    recovery = _shared(exact, _lists(index, users, length, merge))
    for factor in _SAMPLES:
        if recovery >= REQUIRED:
            break
        index.enlarge_samples(factor)
        recovery = _shared(exact, _lists(index, users, length, merge))
    if recovery < REQUIRED:
        _LOG.warning(
            "the index recovers %.3f of the exact joint lists of %d items, less than %.2f: raise export.recall (now "
            "its clusters reach %s), or use export.index: exact",
            recovery,
            length,
            REQUIRED,
            ", ".join(f"{recall:.3f}" for recall in index.recalls),
        )
    return round(recovery, 4)


def _lists(index: ClusterIndex, users: Users, length: int, merge_config: MergeConfig) -> np.ndarray:
    """`[Q, M]` rows of the joint lists, -1 beyond their end."""

    @tf.function(autograph=False, reduce_retracing=True)
    def retrieve(vectors: tf.Tensor, log_intent: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
        batch = tf.shape(vectors)[0]
        alpha = tf.repeat(merge_config.alpha, batch)
        return search_list(
            index,
            vectors,
            seen,
            tf.repeat(length, len(index.sizes)),
            expected_shares(log_intent, tf.repeat(-1.0, batch), merge_config),
            tf.repeat(length, batch),
            length,
            lambda candidates, log_partition: joint(candidates, log_partition, log_intent, alpha, merge_config),
            per_cluster=users.per_cluster,
        ).rows

    columns = (users.vectors, users.log_intent, users.seen)
    batches = (slice(start, start + _BATCH) for start in range(0, len(users.vectors), _BATCH))
    return np.concatenate([retrieve(*(tf.constant(column[rows]) for column in columns)).numpy() for rows in batches])


def _shared(exact: np.ndarray, found: np.ndarray) -> float:
    """Mean share of the items of each exact list that are in the found one."""
    pairs = [(one[one >= 0], other) for one, other in zip(exact, found, strict=True)]
    shares = [np.isin(one, other).mean() for one, other in pairs if len(one)]  # a user may have seen every item
    return float(np.mean(shares)) if shares else 1.0


def _generated(tower: Tower) -> Users:
    """Users with vectors near those of items, and an intent by the share of the items in each cluster."""
    items = np.asarray(tf.convert_to_tensor(tower.item_embeddings)[: tower.num_items])
    sizes = np.diff(tower.offsets)
    vectors = queries_near(items, count=32)
    if tower.vectors_per_cluster:
        vectors = np.repeat(vectors, len(sizes), axis=1)
    log_intent = np.log(np.maximum(sizes, 1) / len(items)).astype(np.float32)
    return Users(
        vectors,
        np.repeat(log_intent[None], len(vectors), axis=0),
        np.zeros([len(vectors), 1], np.int32),
        tower.vectors_per_cluster,
    )
