"""Export of a version with recorded answers of its files, which are checked before the version gets its number."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdnc.contracts.attributes import Attribute, example_rules
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.items import ItemTable

if TYPE_CHECKING:
    from tfdnc.model.tower import Tower
    from tfdnc.training.records import HeldOutRecords

_RECORDED_HISTORIES = 5


def export_checked(
    tower: "Tower",
    items: ItemTable,
    cold_start_vectors: np.ndarray,
    config: ExperimentConfig,
    manifest: dict[str, Any],
    output: Path,
    version: int,
    histories: "HeldOutRecords",
    start: int,
    attributes: Sequence[Attribute] = (),
    past_ids: Sequence[str] = (),
    complete: Callable[[Path], object] | None = None,
) -> dict[str, Any]:
    """Writes `output`/`version`, with recorded requests and answers.

    Args:
        tower: as of `export_bundle`, as are the other arguments that are not described here.
        items: of the tower.
        cold_start_vectors: `[V, D]`.
        config: of the experiment.
        manifest: further entries.
        output: the model base path.
        version: number of the version.
        histories: of users, by the tower's item indices; an approximate index is tuned on some of them.
        start: time of the first event of every recorded history.
        attributes: columns of the items, by which requests may filter.
        past_ids: ids of items that only histories hold.
        complete: called with the written and checked version before it gets its number.

    Returns:
        Figures of `export_bundle`, and the number of `recorded_requests`.

    Raises:
        UserError: as `export_bundle`; or the files encode users in another way than the tower.
    """
    from serving.bundles.recorded import record, recorded_vectors
    from tfdnc.export.bundle import export_bundle
    from tfdnc.export.histories import sample_by_length, sample_histories
    from tfdnc.export.users import encode_users, refuse_other_vectors, sample_users

    features, recorded = tower.inputs.features, 0

    def check(folder: Path) -> None:
        nonlocal recorded
        ids = [*items.item_ids, *past_ids]
        asked, known = sample_histories(histories, ids, _RECORDED_HISTORIES, features, start)
        sizes = config.export.num_candidates, config.export.max_candidates
        recorded = record(folder, asked, *sizes, features, known, example_rules(attributes))
        expected = encode_users(tower, sample_by_length(histories, _RECORDED_HISTORIES)).vectors
        refuse_other_vectors(recorded_vectors(folder)[: len(expected)], expected)
        if complete is not None:
            complete(folder)

    users = sample_users(tower, histories, config.data.allows_seen)
    parts = tower, items, cold_start_vectors, config, manifest, output, version, users, attributes, past_ids
    figures = export_bundle(*parts, complete=check)
    return figures | {"recorded_requests": recorded}
