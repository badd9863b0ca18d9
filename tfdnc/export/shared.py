"""Parts of a bundle's graph that several signatures use, in the graph once."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.index import ClusterIndex
from tfdnc.retrieval.merge import Candidates
from tfdnc.retrieval.rules.layout import Layout
from tfdnc.retrieval.rules.passing import Passing


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function` as one that is traced once, however many signatures call it.

    It is a plain function around the `tf.function`: saving a module traces every `tf.function` among its attributes.
    """
    once = tf.function(function, autograph=False)
    return lambda *arguments: once(*arguments)


class SharedSearch:
    """The search of an index as two parts of the graph, with and without a filter.

    Args:
        index: the index that is searched.
        per_cluster: argument of `ClusterIndex.search`, the same in all signatures.
    """

    def __init__(self, index: ClusterIndex, per_cluster: bool) -> None:
        self._per_cluster = per_cluster
        self._sizes, self._offsets = index.sizes, index.offsets
        layout = Layout(index.offsets)  # a filter as an argument is two tensors, so its layout is fixed here

        def search(vectors: tf.Tensor, seen: tf.Tensor, k: tf.Tensor, with_partition: tf.Tensor) -> Any:
            return index.search(vectors, seen, k, per_cluster=per_cluster, with_partition=with_partition)

        def search_passing(
            vectors: tf.Tensor,
            seen: tf.Tensor,
            k: tf.Tensor,
            with_partition: tf.Tensor,
            words: tf.Tensor,
            rule: tf.Tensor,
        ) -> Any:
            passing = Passing(words, rule, layout)
            beside = {"per_cluster": per_cluster, "with_partition": with_partition, "passing": passing}
            return index.search(vectors, seen, k, **beside)

        self._search, self._search_passing = shared(search), shared(search_passing)

    @property
    def sizes(self) -> np.ndarray:
        """Number of items of every cluster: `[K]` int32."""
        return self._sizes

    @property
    def offsets(self) -> np.ndarray:
        """K + 1 item counts: cluster k is rows offsets[k] .. offsets[k + 1] - 1."""
        return self._offsets

    def search(
        self,
        vectors: tf.Tensor,
        seen: tf.Tensor,
        k: tf.Tensor | int,
        *,
        per_cluster: bool,
        with_partition: tf.Tensor | bool = True,
        passing: Passing | None = None,
    ) -> tuple[Candidates, tf.Tensor]:
        """Finds the best k unseen items of every cluster, see `ClusterIndex.search`."""
        if per_cluster != self._per_cluster:
            raise ValueError(f"Expected per_cluster={self._per_cluster}, got {per_cluster}.")
        arguments = vectors, seen, tf.convert_to_tensor(k), tf.convert_to_tensor(with_partition)
        if passing is None:
            candidates, log_partition = self._search(*arguments)
        else:
            candidates, log_partition = self._search_passing(*arguments, passing.words, passing.rule)
        return Candidates(*candidates), log_partition
