"""A synthetic bundle of any size, with random weights, which have the speed of trained ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.config import ExperimentConfig, ExportConfig, ModelConfig, TrainConfig
from tfdnc.contracts.items import ItemTable
from tfdnc.export.bundle import export_bundle
from tfdnc.model.tower import Tower

_CENTRES_PER_CLUSTER = 50


@dataclass(frozen=True)
class Size:
    """Size of a synthetic bundle: N, K, D, L, the longest list, index and encoder."""

    items: int = 100_000
    clusters: int = 15
    dim: int = 64
    history_length: int = 50
    max_candidates: int = 500
    index: str = "exact"
    encoder: str = "hadamard_per_position"


def make_bundle(size: Size, output: Path, seed: int = 0, attributes: Sequence[Attribute] = ()) -> Path:
    """Exports a bundle with random weights, and returns the folder of its only version.

    `attributes` are columns of its items, for requests with rules. Item vectors have groups: an index searches trained
    vectors, which have groups, faster than pure noise.
    """
    rng = np.random.default_rng(seed)
    items = make_items(size)
    config = ExperimentConfig(
        name="synthetic",
        model=ModelConfig(encoder=size.encoder, dim=size.dim, max_length=size.history_length),
        train=TrainConfig(precision="float32"),
        export=ExportConfig(
            index=size.index,
            num_candidates=size.max_candidates,
            max_candidates=size.max_candidates,
        ),
    )
    tower = make_tower(config, items, rng, seed)
    vectors, _ = tower.user_vectors(tf.constant([[1]]))  # builds the layers
    cold_start = rng.normal(size=vectors.shape[1:]).astype(np.float32)
    export_bundle(tower, items, cold_start, config, {"synthetic": vars(size)}, output, attributes=attributes)
    return output / "1"


def make_tower(config: ExperimentConfig, items: ItemTable, rng: np.random.Generator, seed: int) -> Tower:
    """Returns a tower with random weights, whose item vectors are centres with noise."""
    tower = Tower.make(config.model, config.train, items.offsets, seed, items.counts)
    num_items, dim = len(items.item_ids), config.model.dim
    centres = rng.normal(size=[_CENTRES_PER_CLUSTER * items.num_clusters, dim])
    centre_of_item = items.clusters * _CENTRES_PER_CLUSTER + rng.integers(0, _CENTRES_PER_CLUSTER, num_items)
    tower.item_embeddings.assign((centres[centre_of_item] + rng.normal(0, 0.5, [num_items, dim])) / 8)
    return tower


def make_items(size: Size) -> ItemTable:
    """Returns items with the ids 0..N-1, in clusters of equal size."""
    offsets = _offsets(size)
    ids = [str(row) for row in range(size.items)]
    return ItemTable(
        item_ids=ids,
        counts=np.arange(size.items, 0, -1),
        clusters=np.repeat(np.arange(size.clusters, dtype=np.int32), np.diff(offsets)),
        offsets=offsets,
        sequence_indices=np.arange(1, size.items + 1, dtype=np.int32),
        titles=ids,
        cluster_names=[f"cluster {k}" for k in range(size.clusters)],
    )


def make_histories(size: Size, users: int, seed: int = 1) -> list[list[str]]:
    """Returns full-length histories of distinct raw item ids, each from at most three clusters."""
    rng = np.random.default_rng(seed)
    edges = _offsets(size)
    histories = []
    for _ in range(users):
        clusters = rng.choice(size.clusters, size=min(3, size.clusters), replace=False)
        favourites = np.concatenate([np.arange(edges[k], edges[k + 1]) for k in clusters])
        length = min(size.history_length, len(favourites))
        histories.append([str(row) for row in rng.choice(favourites, size=length, replace=False)])
    return histories


def _offsets(size: Size) -> tuple[int, ...]:
    return tuple(size.items * k // size.clusters for k in range(size.clusters + 1))
