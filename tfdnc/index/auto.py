"""Chooses per cluster: exact where ScaNN would scan everything too, ScaNN above."""

from tfdnc.index.base import INDEXES, ClusterIndex
from tfdnc.index.exact import ExactSearcher
from tfdnc.index.scann import HASHING_FROM, ScannSearcher


@INDEXES.register("auto")
class AutoIndex(ClusterIndex):
    """Exact below the size where ScaNN starts to hash, ScaNN from there on.

    Below it ScaNN is a brute-force scan: the same items at about the same cost, but without the exact log-partition
    of the joint merge, and with an op that stock TF Serving lacks. A bundle whose clusters are all small therefore
    contains no ScaNN op and runs anywhere.
    """

    def _searcher(self, items, spec):
        return ScannSearcher(items, spec) if spec.size >= HASHING_FROM else ExactSearcher(items, spec)
