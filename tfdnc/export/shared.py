"""Parts of a bundle's graph that several signatures use, in the graph once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.index import ClusterIndex
from tfdnc.retrieval.merge import Candidates


class SharedSearch(NamedTuple):
    """The search of an index as a part of the graph, see `Searchable`."""

    sizes: np.ndarray  # [K] int32
    offsets: np.ndarray  # [K + 1] int32
    search: Callable[..., tuple[Candidates, tf.Tensor]]


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function` as one that is traced once, however many signatures call it.

    It is a plain function around the `tf.function`: saving a module traces every `tf.function` among its attributes.
    """
    once = tf.function(function, autograph=False)
    return lambda *arguments, **options: once(*arguments, **options)


def share_search(index: ClusterIndex) -> SharedSearch:
    """Returns the search of an index as one that is traced once with a filter, and once without."""
    once = shared(index.search)

    def search(*arguments: Any, with_partition: tf.Tensor | bool = True, **options: Any) -> Any:
        # A tensor, because a trace is made for each value of a Python bool.
        return once(*arguments, with_partition=tf.convert_to_tensor(with_partition), **options)

    return SharedSearch(index.sizes, index.offsets, search)
