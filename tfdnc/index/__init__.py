"""Indexes: what finds the best items of every cluster, behind one `search`."""

from tfdnc.index.auto import AutoIndex
from tfdnc.index.base import INDEXES, ClusterIndex
from tfdnc.index.exact import ExactIndex
from tfdnc.index.scann import ScannIndex

__all__ = ["INDEXES", "AutoIndex", "ClusterIndex", "ExactIndex", "ScannIndex"]
