"""Approximate search: a thin layer over ScaNN's TensorFlow ops, one searcher per cluster.

The layer of TFRS is not used, for three reasons. K of its searchers in one SavedModel silently become one when it is
loaded, because each restores itself through an op of the same name without a `shared_name`. It always builds a tree of
100 leaves, which fails on small clusters. And it returns the first item where a search finds too few.
"""

import logging
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError
from tfdnc.retrieval.index.base import INDEXES, ClusterIndex
from tfdnc.retrieval.index.calibrate import calibrate
from tfdnc.retrieval.index.effort import Calibration, Effort, Measurement
from tfdnc.retrieval.index.exact import ExactSearcher
from tfdnc.retrieval.index.interests import unite
from tfdnc.retrieval.index.searcher import ClusterSpec, Found, Searcher

_LOG = logging.getLogger(__name__)

HASHING_FROM = 5_000
TREE_FROM = 20_000
"""Cluster sizes from which hashing is faster than a scan, and a tree than hashing alone (one query, 64 dimensions)."""


def scann_ops() -> ModuleType:
    """Returns ScaNN's TensorFlow ops; the import also registers them for loading bundles.

    Raises:
        UserError: the package `scann` is missing, or was built for another TensorFlow.
    """
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
    """Searches every cluster by ScaNN: a scan, hashing, or a tree, by the cluster's size."""

    def _searcher(self, items: tf.Tensor | tf.Variable, spec: ClusterSpec) -> Searcher:
        # ScaNN cannot be built without items.
        return ScannSearcher(items, spec) if spec.size else ExactSearcher(items, spec)


class ScannSearcher(tf.Module):
    """ScaNN over the items of one cluster, rebuilt from its serialised state when a bundle is loaded.

    The numbers of leaves to search and of candidates to rescore depend on the number of items wanted. `calibrate`
    measures them when the searcher is built.

    Args:
        items: `[N, D]` all items; those of the cluster are copied now, and do not change later. A bundle stores them
            once if they are a variable, which must not change before it is saved.
        spec: the cluster, and the process-wide name of the searcher.
    """

    exhaustive = False

    def __init__(self, items: tf.Tensor | tf.Variable, spec: ClusterSpec) -> None:
        super().__init__()
        self._ops = scann_ops()
        self._size, self._max_k = spec.size, spec.max_k
        self._kind, self._leaves = _kind_of(spec.size)
        vectors = spec.vectors(items)
        handle = _train(self._ops, vectors, spec.max_k, self._kind, self._leaves)
        *tensors, copied = self._ops.scann_to_tensors(handle)
        tf.raw_ops.DestroyResourceOp(resource=handle)  # it has a copy of the vectors, and would live until the end
        # The vectors are in the item variable. Without one, in a variable of the searcher: a constant would be in the
        # graph, which cannot be saved above 2 GB.
        if isinstance(items, tf.Variable):
            state, place = [items], slice(spec.start, spec.start + spec.size)
        else:
            state, place = [tf.Variable(copied, trainable=False)], slice(None)
        del copied
        # An attribute of this module, because a resource does not save its variables.
        self._state = [*state, *(tf.Variable(tensor, trainable=False) for tensor in tensors)]
        self._built = _Built(self._ops, spec.name, self._state, place)
        self._measurements: list[Measurement] = []
        if self._kind != "scann_brute_force":
            self._measurements = calibrate(
                self._fetch, vectors, spec.tuned_on(vectors), spec.max_k, self._leaves, spec.recall
            )
            _warn_of_low_recall(self._measurements, spec)

    def forget(self) -> None:
        """Frees the searcher, which its name would keep until the end of the process; it cannot search any more."""
        self._built.forget()

    @property
    def widest(self) -> Measurement | None:
        """Measurement for the largest number of candidates of a request; None for a scan of all items."""
        return next((one for one in self._measurements if one.width == min(self._size, self._max_k)), None)

    @property
    def calibration(self) -> Calibration:
        """Measurements of the searcher."""
        return Calibration(list(self._measurements), self._size, self._leaves)

    @property
    def settings(self) -> dict[str, Any]:
        """Entry of the manifest; a property, because attributes of a `tf.Module` are saved with it."""
        leaves = {"leaves": self._leaves} if self._leaves else {}
        effort = {"effort": [one.described() for one in self._measurements]} if self._measurements else {}
        return {"kind": self._kind, "items": self._size, **leaves, **effort}

    def __call__(
        self, queries: tf.Tensor, seen: tf.Tensor, k: tf.Tensor, effort: Effort | None, ceiling: tf.Tensor | None = None
    ) -> Found:
        """Searches as `tfdnc.retrieval.index.searcher.Searcher`, seen items and those that do not pass included."""
        del seen, ceiling
        assert effort is not None  # every searcher with a calibration is given one
        rows, scores = self._fetch(queries, k, effort)
        return Found(scores, rows, None)

    def _fetch(self, queries: tf.Tensor, width: int | tf.Tensor, effort: Effort) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `[B, W]` rows and scores of all interests together, best first; short rows end in NaN."""
        interests, dim = queries.shape[1:]
        rows, scores = self._fetch_each(tf.reshape(queries, [-1, dim]), width, effort)  # [B * I, W]
        if interests == 1:
            return rows, scores
        shape = [-1, interests * tf.shape(rows)[1]]
        return unite(tf.reshape(rows, shape), tf.reshape(scores, shape), tf.shape(rows)[1])

    def _fetch_each(self, queries: tf.Tensor, width: int | tf.Tensor, effort: Effort) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `[Q, W]` rows and scores of queries `[Q, D]`, best first; W <= width, short rows end in NaN."""
        handle = self._built.handle()
        rows, scores = self._ops.scann_search_batched(handle, queries, width, effort.rescored, effort.leaves, False)
        return tf.ensure_shape(rows, [None, None]), tf.ensure_shape(scores, [None, None])


class _Built(tf.saved_model.experimental.TrackableResource):
    """The searcher itself: made from its state once, at build time and at load time, then looked up by its name.

    One op does both; it ignores its inputs if the name exists. A request therefore gives it empty inputs: reading the
    state of 15 clusters was a third of all ops of a request.
    """

    def __init__(self, ops: ModuleType, name: str, state: list[tf.Variable], place: slice) -> None:
        super().__init__()
        self._ops, self._name, self._state = ops, name, state  # the state in the order of `tensors_to_scann`
        self._place = place  # of the searcher's vectors in the first variable
        self._initialize()

    def handle(self) -> tf.Tensor:
        """Returns the handle by an op in the caller's graph.

        A handle that a function captures would not do: after loading, those of all clusters would be one.
        """
        return self._make([tf.zeros([0] * variable.shape.rank, variable.dtype) for variable in self._state])

    def forget(self) -> None:
        """Frees the searcher."""
        tf.raw_ops.DestroyResourceOp(resource=self.handle())

    def _create_resource(self) -> tf.Tensor:
        return self.handle()

    def _initialize(self) -> None:
        vectors, *others = self._state
        self._make([vectors[self._place], *others])

    def _make(self, state: Sequence[tf.Tensor | tf.Variable]) -> tf.Tensor:
        return self._ops.tensors_to_scann(*state, shared_name=self._name)


def _warn_of_low_recall(measurements: list[Measurement], spec: ClusterSpec) -> None:
    worst = min(measurements, key=lambda measurement: measurement.recall, default=None)
    if worst is not None and worst.recall < spec.recall:
        _LOG.warning(
            "%s, %d items: the best %d are found with a recall of %.3f at most, less than export.recall %.3f",
            spec.name.rpartition("/")[2],
            spec.size,
            worst.width,
            worst.recall,
            spec.recall,
        )


def _kind_of(size: int) -> tuple[str, int]:
    """Returns the kind of a searcher, and the number of leaves of its tree, 0 without one."""
    if size < HASHING_FROM:
        return "scann_brute_force", 0
    return ("scann_hashing", 0) if size < TREE_FROM else ("scann_tree_hashing", int(np.sqrt(size)))


def _train(ops: ModuleType, vectors: tf.Tensor, max_k: int, kind: str, leaves: int) -> tf.Tensor:
    """Trains ScaNN on vectors `[n, D]`, and returns the handle of the searcher."""
    size = vectors.shape[0]
    builder = ops.builder(vectors, min(max_k, size), "dot_product")
    if kind == "scann_brute_force":
        return builder.score_brute_force().build().searcher_handle
    if leaves:
        builder = builder.tree(leaves, leaves)
    # Both numbers are only defaults: every search passes its own.
    hashing = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(min(size, max_k))
    return hashing.build().searcher_handle
