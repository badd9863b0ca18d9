"""The cluster station: a cluster for every item, and a name for every cluster."""

from tfdnc.clustering.content import content_kmeans
from tfdnc.clustering.log import TrainingLog, read_training_log
from tfdnc.clustering.previous import previous
from tfdnc.clustering.registry import CLUSTERERS, Clusterer
from tfdnc.clustering.spectral import spectral_kmeans
from tfdnc.clustering.station import build_clusters
from tfdnc.clustering.without_behaviour import category, random, single
from tfdnc.clustering.word2vec import word2vec_kmeans

__all__ = [
    "CLUSTERERS",
    "Clusterer",
    "TrainingLog",
    "build_clusters",
    "category",
    "content_kmeans",
    "previous",
    "random",
    "read_training_log",
    "single",
    "spectral_kmeans",
    "word2vec_kmeans",
]
