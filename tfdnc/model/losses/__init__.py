"""Training losses, as pure functions of user states and item embeddings."""

from tfdnc.model.losses.base import LOSSES, Loss
from tfdnc.model.losses.binary import binary_cross_entropy, generalised_bce, in_cluster_generalised_bce
from tfdnc.model.losses.exposures import exposure_softmax, in_cluster_exposure_softmax
from tfdnc.model.losses.softmax import (
    full_softmax,
    in_cluster_sampled_softmax,
    in_cluster_softmax,
    sampled_softmax,
)

__all__ = [
    "LOSSES",
    "Loss",
    "binary_cross_entropy",
    "exposure_softmax",
    "full_softmax",
    "generalised_bce",
    "in_cluster_exposure_softmax",
    "in_cluster_generalised_bce",
    "in_cluster_sampled_softmax",
    "in_cluster_softmax",
    "sampled_softmax",
]
