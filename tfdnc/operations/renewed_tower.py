"""Item vectors of a tower for items that it was not trained on, and for those whose features have changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from beam_jobs.item_details import Details, DetailsFile
from tfdnc.contracts.items import ItemTable
from tfdnc.operations.version_vectors import VersionVectors, read_version_vectors

if TYPE_CHECKING:
    from tfdnc.model.content import Projection
    from tfdnc.model.tower import Tower


def known_content(tower: "Tower") -> dict[str, "Projection"]:
    """Returns the projections of the content vectors that a tower reads, by feature."""
    from tfdnc.model.item_tower import FeaturedItems

    return tower.items.content if isinstance(tower.items, FeaturedItems) else {}


def read_content(
    tower: "Tower", details: DetailsFile, table: pa.Table, found: Details, trained: ItemTable, version: Path
) -> VersionVectors | None:
    """Returns the content vectors of the items of a version and of a newer file; None for a tower that reads none.

    Args:
        tower: as it was trained.
        details: the newer file.
        table: items of the version, of `schema.VERSION_ITEM_SCHEMA`.
        found: items of the file.
        trained: the items that the tower was trained on.
        version: folder of the version.

    Raises:
        UserError: as `read_version_vectors`.
    """
    if not known_content(tower):
        return None
    item_ids = [*dict.fromkeys([*table["item_id"].to_pylist(), *found.item_ids])]
    return read_version_vectors(details.vectors, item_ids, trained, version)


def known_features(tower: "Tower") -> set[str]:
    """Returns the features with a row in a tower; none for a model without item features."""
    from tfdnc.model.item_tower import FeaturedItems

    return set(tower.items.features.names) if isinstance(tower.items, FeaturedItems) else set()


def item_vectors(
    tower: "Tower", trained: ItemTable, table: pa.Table, content: VersionVectors | None = None
) -> np.ndarray:
    """Returns the vectors of the items of a table, `[N + R, D]` float32.

    Args:
        tower: as it was trained, its features apart.
        trained: the items that it was trained on.
        table: of `schema.VERSION_ITEM_SCHEMA`; a new item is only allowed with a feature of the tower, or a vector.
        content: vectors of these items, for a tower that reads some.
    """
    from tfdnc.model.item_tower import FeaturedItems

    row_of, ids = {item_id: row for row, item_id in enumerate(trained.item_ids)}, table["item_id"].to_pylist()
    source = np.array([row_of.get(item_id, -1) for item_id in ids])
    vectors = tower.item_vectors().numpy()[source]
    if not isinstance(tower.items, FeaturedItems):
        return vectors
    features = [own or [] for own in table["features"].to_pylist()]
    earlier: Sequence[Sequence[str]] = trained.features or [[]] * len(trained.item_ids)
    untrained = np.zeros(len(ids), bool) if content is None else content.untrained[content.rows(ids)]
    other = [
        row for row, own in enumerate(features) if source[row] < 0 or untrained[row] or own != earlier[source[row]]
    ]
    if other:
        rows = source[other]
        known = (rows >= 0) & (trained.counts[rows] > 0)  # the embedding of the others was never trained
        own_part = tower.item_embeddings.numpy()[rows] * known[:, None].astype(np.float32)
        vectors[other] = own_part + tower.items.share_of([features[row] for row in other])
        if content is not None:
            rows = content.rows([ids[row] for row in other])
            for name, projection in known_content(tower).items():
                vectors[other] += projection.share_for(content.vectors[name][rows])
    return vectors
