"""Indexes: they find the best items of every cluster, by one method `search`."""

from tfdnc.retrieval.index.auto import AutoIndex
from tfdnc.retrieval.index.base import INDEXES, ClusterIndex
from tfdnc.retrieval.index.exact import ExactIndex
from tfdnc.retrieval.index.scann import ScannIndex

__all__ = ["INDEXES", "AutoIndex", "ClusterIndex", "ExactIndex", "ScannIndex"]
