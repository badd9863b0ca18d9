"""A map of the item embeddings: t-SNE of the most frequent items, a colour per cluster."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable, read_items
from tfdnc.contracts.schema import CHECKPOINT_ITEMS, WEIGHTS
from tfdnc.contracts.station_names import StationName
from tfdnc.contracts.tensorflow_paths import tensorflow_path
from tfdnc.page.chart import COLORS
from tfdnc.page.runs import Group, Run

WIDTH, HEIGHT, MARGIN = 720, 540, 14
MAX_POINTS, MAX_TITLES = 4000, 400
FEWEST = 10
"""Smallest number of items for which a map is drawn."""

OLD_TENSOR = "model/item_embeddings/.ATTRIBUTES/VARIABLE_VALUE"
"""Key of the item vectors in a checkpoint without a table of items, as earlier revisions wrote it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ItemMap:
    """A map as the template draws it.

    Attributes:
        group: the group; its first run is drawn.
        items: number of items of the run.
        shown: number of items on the map.
        points: path data and colour of each cluster's items.
        titles: x, y and title of the most frequent items, for hovering.
        numbers: x, y and number of each cluster, at the point where its items are densest.
        names: colour, number and name of each cluster.
        width: width of the map in its own units.
        height: height of the map in its own units.
    """

    group: Group
    items: int
    shown: int
    points: list[tuple[str, int]]
    titles: list[tuple[int, int, str]]
    numbers: list[tuple[int, int, int]]
    names: list[tuple[int, int, str]]
    width: int = WIDTH
    height: int = HEIGHT


def item_maps(groups: Sequence[Group]) -> list[ItemMap]:
    """Returns maps of the groups that have several clusters and learned embeddings."""
    maps = []
    for group in groups:
        run = group.first
        # A method that only counts keeps its random initial vectors, which mean nothing.
        learned = run.figures(StationName.TRAIN).get("epochs", 0) > 0
        if learned and run.num_clusters > 1 and StationName.CLUSTER in run.manifests:
            items = read_items(run.path / StationName.CLUSTER)
            vectors = read_embeddings(run, items)
            if vectors is not None and len(vectors) >= FEWEST:
                _log.info("map of %s: t-SNE of %d items", group.name, min(len(vectors), MAX_POINTS))
                maps.append(draw_map(group, items, vectors))
    return maps


def read_embeddings(run: Run, items: ItemTable) -> np.ndarray | None:
    """Reads the item vectors `[N, D]` of a run; None where its method learns none.

    They are read from the checkpoint without a model, so that runs of older revisions have a map too.

    Raises:
        UserError: the checkpoint is of other items or damaged, or its path is one that TensorFlow cannot open.
    """
    folder = run.path / StationName.TRAIN
    if not (folder / WEIGHTS).with_suffix(".index").is_file():
        return None
    vectors = _read_vectors(folder)
    if vectors is not None and len(vectors) != len(items.item_ids):
        raise UserError(f"Expected {len(items.item_ids)} embeddings in {folder}, found {len(vectors)}: train again.")
    return vectors


def _read_vectors(folder: Path) -> np.ndarray | None:
    if (folder / CHECKPOINT_ITEMS).is_file():
        from tfdnc.training.checkpoint import read_checkpoint

        return read_checkpoint(folder).item_vectors
    from tfdnc.backend import tf

    reader = tf.train.load_checkpoint(tensorflow_path(folder / WEIGHTS))
    return reader.get_tensor(OLD_TENSOR) if reader.has_tensor(OLD_TENSOR) else None


def draw_map(group: Group, items: ItemTable, vectors: np.ndarray) -> ItemMap:
    """Returns the map of the most frequent items, from embeddings `[N, D]`."""
    shown = np.argsort(-items.counts, kind="stable")[:MAX_POINTS]
    clusters = items.clusters[shown]
    positions = _fit(project(vectors[shown]))
    present = np.unique(clusters).tolist()
    return ItemMap(
        group=group,
        items=len(vectors),
        shown=len(shown),
        points=[(_dots(positions[clusters == k]), k % COLORS) for k in present],
        titles=[
            (x, y, items.titles[row])
            for (x, y), row in zip(positions[:MAX_TITLES].tolist(), shown[:MAX_TITLES].tolist(), strict=True)
        ],
        numbers=[(*_densest(positions[clusters == k]), k) for k in present],
        names=[(k % COLORS, k, name) for k, name in enumerate(items.cluster_names)],
    )


def project(vectors: np.ndarray) -> np.ndarray:
    """Projects vectors `[n, D]` to `[n, 2]` by t-SNE: neighbours by cosine stay neighbours.

    It uses one thread: then sums have one order, and threads do not wait for each other on a busy machine.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.maximum(lengths, 1e-12)
    perplexity = min(30, (len(vectors) - 1) / 3)
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(directions)


def _fit(positions: np.ndarray) -> np.ndarray:
    """Scales positions `[n, 2]` to the size of the map, rounded to its pixels."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    size = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
    return (MARGIN + (positions - low) / np.maximum(high - low, 1e-12) * size).round().astype(int)


def _densest(positions: np.ndarray) -> tuple[int, int]:
    """Returns the position with most others nearby; a median may lie between two parts of a cluster."""
    from sklearn.neighbors import KDTree

    x, y = positions[KDTree(positions).query_radius(positions, WIDTH / 15, count_only=True).argmax()].tolist()
    return x, y


def _dots(positions: np.ndarray) -> str:
    """Returns path data of strokes of length zero: with round caps each is a dot, in about twelve bytes."""
    return "".join(f"M{x} {y}h0" for x, y in positions.tolist())
