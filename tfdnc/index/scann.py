"""Approximate search: a thin layer over ScaNN's TensorFlow ops, one searcher per cluster.

Why not the TFRS layer: K of its searchers saved in one SavedModel collapse into one when it is loaded again, silently
(each restores itself through an op of the same name without a `shared_name`); it always builds a 100-leaf tree, which
fails on small clusters; and it answers the first item where a search comes up short.
"""

import numpy as np

from tfdnc.backend import tf
from tfdnc.errors import UserError
from tfdnc.index.base import INDEXES, ClusterIndex, ClusterSpec, Found
from tfdnc.index.exact import ExactSearcher
from tfdnc.index.interests import unite
from tfdnc.index.partition import PartitionEstimate

HASHING_FROM = 20_000
TREE_FROM = 100_000
"""Cluster sizes from which ScaNN's own guide (docs/algorithms.md) leaves brute force, and adds a tree."""

# Settings that reached recall .98 on clustered vectors; out-of-distribution queries get less.
_REORDERED = 6  # candidates rescored exactly, as a multiple of those asked for
_MIN_REORDERED = 500  # cheap, and fewer cost recall at small k
_SCANNED = 100  # items in the searched leaves per candidate asked for
_MIN_LEAVES = 0.15  # share of the leaves


def scann_ops():
    """Returns ScaNN's TensorFlow ops; importing them also registers them for loading bundles."""
    try:
        from scann import scann_ops as ops
    except (ImportError, tf.errors.NotFoundError) as error:
        raise UserError(
            f"A ScaNN index needs the scann package built for TensorFlow {tf.__version__}, and importing it failed "
            f"({error}). Install 'scann[tf]' in the version setup.py pins, or use export.index: exact."
        ) from error
    return ops


@INDEXES.register("scann")
class ScannIndex(ClusterIndex):
    """Every cluster is searched by ScaNN, in the way its guide recommends for the cluster's size."""

    def _searcher(self, items, spec):
        # ScaNN refuses to build over nothing.
        return ScannSearcher(items, spec) if spec.size else ExactSearcher(items, spec)


class ScannSearcher(tf.Module):
    """ScaNN over the items of one cluster, rebuilt from its serialised state when a bundle is loaded.

    Args:
        items: `[N, D]` all items; the cluster's are read now, later changes are not followed.
        spec: which of them, and under which process-wide name.
    """

    def __init__(self, items: tf.Tensor | tf.Variable, spec: ClusterSpec):
        super().__init__()
        self._ops = scann_ops()
        self._shared_name = spec.name
        self._size = spec.size
        vectors = tf.convert_to_tensor(items)[spec.start : spec.start + spec.size]
        self.kind, self._leaves_to_search, built = _build(self._ops, vectors, spec.max_k)
        # In the argument order of `scann_to_tensors`; the vectors come last there and first in `tensors_to_scann`.
        self._state = [tf.Variable(t, trainable=False) for t in self._ops.scann_to_tensors(built.searcher_handle)]
        self._partition = PartitionEstimate(items, spec)

    def __call__(self, queries: tf.Tensor, seen: tf.Tensor, k: tf.Tensor) -> Found:
        """See `tfdnc.index.base.Searcher`: fetches as many more as a row has seen in this cluster, and drops those."""
        batch = tf.shape(queries)[0]
        seen_per_row = tf.math.unsorted_segment_sum(tf.ones_like(seen[:, 0]), seen[:, 0], batch)
        rows, scores = self._fetch(queries, tf.minimum(k + tf.reduce_max(seen_per_row), self._size))
        found = ~tf.math.is_nan(scores)
        unseen = found & ~self._contains(seen, rows)
        return Found(*_compact(scores, rows, unseen, k), self._partition(queries, scores, rows, found))

    def _fetch(self, queries, width):
        """`[B, W]` rows and scores of what the interests found together; best first, and short rows end in NaN."""
        interests, dim = queries.shape[1:]
        if interests == 1:
            return self._fetch_each(queries[:, 0], width)
        rows, scores = self._fetch_each(tf.reshape(queries, [-1, dim]), width)  # [B * I, W]
        shape = [-1, interests * tf.shape(rows)[1]]
        return unite(tf.reshape(rows, shape), tf.reshape(scores, shape), tf.shape(rows)[1])

    def _fetch_each(self, queries, width):
        """`[Q, D]` -> `[Q, W]` rows and scores, best first; W <= width, and short rows end in NaN."""
        *state, vectors = self._state
        # The ops must sit in the caller's own graph and carry a name of their own, or all clusters become one.
        handle = self._ops.tensors_to_scann(vectors, *state, shared_name=self._shared_name)
        reordered = -1
        if self.kind != "scann_brute_force":
            reordered = tf.minimum(tf.maximum(_REORDERED * width, _MIN_REORDERED), self._size)
        rows, scores = self._ops.scann_search_batched(handle, queries, width, reordered, self._leaves_to_search, False)
        return tf.ensure_shape(rows, [None, None]), tf.ensure_shape(scores, [None, None])

    def _contains(self, seen, rows):
        """Whether the pair (row of the batch, `rows[b, w]`) is among the `[S, 2]` seen ones: `[B, W]` bool."""

        def number(batch_rows, cluster_rows):
            return tf.cast(batch_rows, tf.int64) * self._size + tf.cast(cluster_rows, tf.int64)

        numbers = number(tf.range(tf.shape(rows)[0])[:, None], rows)
        seen_numbers = tf.sort(tf.concat([number(seen[:, 0], seen[:, 1]), [tf.int64.max]], axis=0))
        place = tf.searchsorted(seen_numbers, tf.reshape(numbers, [-1]))
        return tf.reshape(tf.gather(seen_numbers, place), tf.shape(rows)) == numbers


def _compact(scores, rows, kept, k):
    """The first k kept columns of every row, in order: `[B, k]` scores, -inf where there are fewer, and rows."""
    place = tf.cumsum(tf.cast(kept, tf.int32), axis=1) - 1
    where = tf.where(kept & (place < k))  # [P, 2]
    target = tf.stack([where[:, 0], tf.cast(tf.gather_nd(place, where), tf.int64)], axis=1)
    shape = tf.stack([tf.shape(scores)[0], k])
    return (
        tf.tensor_scatter_nd_update(tf.fill(shape, float("-inf")), target, tf.gather_nd(scores, where)),
        tf.scatter_nd(target, tf.gather_nd(rows, where), tf.cast(shape, tf.int64)),
    )


def _build(ops, vectors, max_k):
    """Trains ScaNN by the size of the cluster: kind, leaves to search (-1 without a tree), searcher."""
    size = vectors.shape[0]
    builder = ops.builder(vectors, min(max_k, size), "dot_product")
    if size < HASHING_FROM:
        # -1: a searcher without a tree that is told how many leaves to search can crash the process.
        return "scann_brute_force", -1, builder.score_brute_force().build()
    reordered = min(size, max(_REORDERED * max_k, _MIN_REORDERED))
    if size < TREE_FROM:
        hashing = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(reordered)
        return "scann_hashing", -1, hashing.build()
    leaves = int(np.sqrt(size))
    searched = int(np.ceil(leaves * min(1.0, max(_MIN_LEAVES, _SCANNED * max_k / size))))
    tree = builder.tree(leaves, searched).score_ah(2, anisotropic_quantization_threshold=0.2).reorder(reordered)
    return "scann_tree_hashing", searched, tree.build()
