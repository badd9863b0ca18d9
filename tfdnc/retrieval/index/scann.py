"""Approximate search: a thin layer over ScaNN's TensorFlow ops, one searcher per cluster.

Why not the TFRS layer: K of its searchers saved in one SavedModel collapse into one when it is loaded again, silently
(each restores itself through an op of the same name without a `shared_name`); it always builds a 100-leaf tree, which
fails on small clusters; and it answers the first item where a search comes up short.
"""

import logging

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError
from tfdnc.retrieval.index.base import INDEXES, ClusterIndex
from tfdnc.retrieval.index.calibrate import calibrate
from tfdnc.retrieval.index.effort import Effort, Ladder, Rung
from tfdnc.retrieval.index.exact import ExactSearcher
from tfdnc.retrieval.index.interests import unite
from tfdnc.retrieval.index.searcher import ClusterSpec, Found

_LOG = logging.getLogger(__name__)

HASHING_FROM = 5_000
TREE_FROM = 20_000
"""Cluster sizes from which hashing beats a scan, and a tree beats hashing alone, at one query of 64 dimensions."""


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
    """Every cluster is searched by ScaNN, in a way that suits the cluster's size."""

    def _searcher(self, items, spec):
        # ScaNN refuses to build over nothing.
        return ScannSearcher(items, spec) if spec.size else ExactSearcher(items, spec)


class ScannSearcher(tf.Module):
    """ScaNN over the items of one cluster, rebuilt from its serialised state when a bundle is loaded.

    How many leaves it searches and how many candidates it scores again depends on how many items are asked for, by a
    table that `calibrate` measures when the searcher is built.

    Args:
        items: `[N, D]` all items; the cluster's are read now, later changes are not followed.
        spec: which of them, and under which process-wide name.
    """

    exhaustive = False

    def __init__(self, items: tf.Tensor | tf.Variable, spec: ClusterSpec):
        super().__init__()
        self._ops = scann_ops()
        self._size, self._max_k = spec.size, spec.max_k
        vectors = spec.vectors(items)
        self._kind, self._leaves, built = _build(self._ops, vectors, spec.max_k)
        # In the argument order of `scann_to_tensors`; the vectors come last there and first in `tensors_to_scann`.
        self._state = [tf.Variable(t, trainable=False) for t in self._ops.scann_to_tensors(built.searcher_handle)]
        self._built = _Built(self._ops, spec.name, self._state)
        self._rungs: list[Rung] = []
        if self._kind != "scann_brute_force":
            self._rungs = calibrate(self._fetch, vectors, spec.tuned_on(vectors), spec.max_k, self._leaves, spec.recall)
            _warn_of_low_recall(self._rungs, spec)

    @property
    def widest(self) -> Rung | None:
        """What was measured for the most candidates that will be asked for; None for a scan of all items."""
        return next((rung for rung in self._rungs if rung.width == min(self._size, self._max_k)), None)

    @property
    def ladder(self) -> Ladder:
        """See `tfdnc.retrieval.index.searcher.Searcher`."""
        return Ladder(list(self._rungs), self._size, self._leaves)

    @property
    def settings(self) -> dict:
        """See `base.Searcher`; a property, because what hangs on a module would be saved with it."""
        leaves = {"leaves": self._leaves} if self._leaves else {}
        effort = {"effort": [rung.described() for rung in self._rungs]} if self._rungs else {}
        return {"kind": self._kind, "items": self._size, **leaves, **effort}

    def __call__(self, queries: tf.Tensor, seen: tf.Tensor, k: tf.Tensor, effort: Effort) -> Found:
        """See `tfdnc.retrieval.index.searcher.Searcher`."""
        del seen
        rows, scores = self._fetch(queries, k, effort)
        return Found(scores, rows, None)

    def _fetch(self, queries, width, effort):
        """`[B, W]` rows and scores of what the interests found together; best first, and short rows end in NaN."""
        interests, dim = queries.shape[1:]
        rows, scores = self._fetch_each(tf.reshape(queries, [-1, dim]), width, effort)  # [B * I, W]
        if interests == 1:
            return rows, scores
        shape = [-1, interests * tf.shape(rows)[1]]
        return unite(tf.reshape(rows, shape), tf.reshape(scores, shape), tf.shape(rows)[1])

    def _fetch_each(self, queries, width, effort):
        """`[Q, D]` -> `[Q, W]` rows and scores, best first; W <= width, and short rows end in NaN."""
        handle = self._built.handle()
        rows, scores = self._ops.scann_search_batched(handle, queries, width, effort.rescored, effort.leaves, False)
        return tf.ensure_shape(rows, [None, None]), tf.ensure_shape(scores, [None, None])


class _Built(tf.saved_model.experimental.TrackableResource):
    """The searcher itself: made from its state once, here and when a bundle is loaded, then looked up by its name.

    One op does both, and where it finds the name it ignores its inputs. A request therefore gives it empty ones: to
    read the state of 15 clusters was a third of all ops of a request.
    """

    def __init__(self, ops, name: str, state: list[tf.Variable]):
        super().__init__()
        self._ops, self._name, self._state = ops, name, state
        self._initialize()

    def handle(self) -> tf.Tensor:
        """An op in the caller's graph: captured by functions, the handles of all clusters become one when loaded."""
        return self._make([tf.zeros([0] * variable.shape.rank, variable.dtype) for variable in self._state])

    def _create_resource(self):
        return self.handle()

    def _initialize(self):
        self._make(self._state)

    def _make(self, state):
        *state, vectors = state
        return self._ops.tensors_to_scann(vectors, *state, shared_name=self._name)


def _warn_of_low_recall(rungs, spec):
    worst = min(rungs, key=lambda rung: rung.recall)
    if worst.recall < spec.recall:
        _LOG.warning(
            "%s, %d items: the best %d are found with a recall of %.3f at most, less than export.recall %.3f",
            spec.name.rpartition("/")[2],
            spec.size,
            worst.width,
            worst.recall,
            spec.recall,
        )


def _build(ops, vectors, max_k):
    """Trains ScaNN by the size of the cluster: kind, number of leaves (0 without a tree), searcher."""
    size = vectors.shape[0]
    builder = ops.builder(vectors, min(max_k, size), "dot_product")
    if size < HASHING_FROM:
        return "scann_brute_force", 0, builder.score_brute_force().build()
    kind, leaves = "scann_hashing", 0
    if size >= TREE_FROM:
        kind, leaves = "scann_tree_hashing", int(np.sqrt(size))
        builder = builder.tree(leaves, leaves)
    # Both numbers are only defaults: every search brings its own.
    hashing = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(min(size, max_k))
    return kind, leaves, hashing.build()
