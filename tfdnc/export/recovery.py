"""How much of the exact joint list a bundle recovers, and what is done where that is too little."""

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
"""Share of the exact list; a joint list divides by log-partitions, which an approximate index only estimates."""

_SAMPLES = (4, 16)  # times as many sampled items, one after the other, until the list is good enough
_BATCH = 8


def ensure_joint_recovery(
    index: ClusterIndex, tower: Tower, users: Users | None, length: int, alpha: float = 1.0
) -> float:
    """Measures the joint lists of an index, enlarging its samples until they are good enough.

    Args:
        index: over the tower's items.
        tower: whose items are searched.
        users: whose lists are compared; None makes some up.
        length: M of the lists.
        alpha: of the joint merge.

    Returns:
        Mean share of the exact lists' items that the index lists as well. What stays below `REQUIRED` is logged as a
        warning.
    """
    if index.exhaustive:
        return 1.0
    users, merge = users or _made_up(tower), MergeConfig(method="joint", alpha=alpha)
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


def _lists(index, users, length, merge_config):
    """`[Q, M]` rows of the joint lists, -1 beyond their end."""

    @tf.function(autograph=False, reduce_retracing=True)
    def retrieve(vectors, log_intent, seen):
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


def _shared(exact, found):
    pairs = [(one[one >= 0], other) for one, other in zip(exact, found, strict=True)]
    shares = [np.isin(one, other).mean() for one, other in pairs if len(one)]  # a user may have seen every item
    return float(np.mean(shares)) if shares else 1.0


def _made_up(tower):
    """Users next to items, who expect every cluster by the share of the items in it."""
    items, sizes = tower.item_embeddings.numpy(), np.diff(tower.offsets)
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
