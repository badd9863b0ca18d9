"""The interface that lists are made with: a search in every cluster, by an index or by a part of a graph."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.merge import Candidates


class Searchable(Protocol):
    """K clusters that can be searched; `ClusterIndex` documents the members."""

    @property
    def sizes(self) -> np.ndarray:
        """Number of items of every cluster: `[K]` int32."""

    @property
    def offsets(self) -> np.ndarray:
        """K + 1 item counts: cluster k is rows offsets[k] .. offsets[k + 1] - 1."""

    @property
    def search(self) -> Callable[..., tuple[Candidates, tf.Tensor]]:
        """Finds the best items of every cluster, with the arguments of `ClusterIndex.search`."""
