"""Outputs of finished stations of a run, read for later stations and for the Python API."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfdnc.contracts import schema
from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.features import Of, model_features, request_features, training_features
from tfdnc.contracts.items import ItemTable, read_items
from tfdnc.contracts.station_names import StationName
from tfdnc.pipeline import dependencies
from tfdnc.training.workers import ALONE, WorkerIndex

if TYPE_CHECKING:
    import numpy as np

    from tfdnc.model.tower import Tower
    from tfdnc.training.records import HeldOutRecords, TrainingRecords


def item_table(run: Path) -> ItemTable:
    """Returns the items with their clusters and vectors; raises as `read_items` and `read_vectors`."""
    return read_items(run / StationName.CLUSTER.folder, run / StationName.PREPARE.folder)


def attributes(
    config: ExperimentConfig, run: Path, item_ids: Sequence[str], file: str | None = None
) -> list[Attribute]:
    """Returns the attributes of items, from the item file or a newer `file`, read now; raises as `read_attributes`.

    They are no output of a station before: a price may change without a training.
    """
    from beam_jobs.item_attributes import read_attributes

    if not config.export.attributes:
        return []
    return read_attributes(dependencies.resolve_data(config, run), config.export.attributes, item_ids, file)


def training_records(config: ExperimentConfig, run: Path, worker: WorkerIndex = ALONE) -> "TrainingRecords":
    """Returns the training part of every user, or of those in the shards of one of several workers.

    Raises:
        UserError: as `read_training`.
    """
    from tfdnc.training.records import read_training

    folder, partly = run / StationName.EXAMPLES.folder / schema.TRAIN, config.data.train_from is not None
    return read_training(folder, worker, training_features(config), partly)


def popularity(config: ExperimentConfig, run: Path, items: ItemTable) -> "np.ndarray | None":
    """Returns the events of the items in the last `model.popular_days` of the training part; None without that key.

    Raises:
        UserError: as `recent_counts`.
    """
    from tfdnc.training.recent_counts import recent_counts

    days = config.model.popular_days
    if days is None:
        return None
    sequences = run / StationName.PREPARE.folder / schema.SEQUENCES
    counts = recent_counts(sorted(sequences.glob("*.parquet")), len(items.item_ids), config.data, days)
    return counts[items.sequence_indices - 1]


def held_out_records(config: ExperimentConfig, run: Path, split: str) -> "HeldOutRecords":
    """Returns the held-out targets of `schema.VALIDATION` or `schema.TEST`, each with its history.

    Raises:
        UserError: as `read_held_out`.
    """
    from tfdnc.training.records import read_held_out

    return read_held_out(run / StationName.EXAMPLES.folder / split, model_features(config))


def target_values(config: ExperimentConfig, run: Path) -> "np.ndarray | None":
    """Returns the value by `data.targets` of every test target, an array of text; None without that key.

    Raises:
        UserError: as `read_held_out`.
    """
    import numpy as np

    from tfdnc.training.records import input_values, read_held_out

    for name in config.data.targets:
        folder = run / StationName.EXAMPLES.folder
        [wanted] = (one for one in request_features(config.data) if one.name == name and one.of is Of.REQUEST)
        records = read_held_out(folder / schema.TEST, [wanted])
        known = np.array(["", *input_values(folder)[name]])
        return known[records.features[wanted.key][records.splits[1:] - 1]]
    return None


def histories(config: ExperimentConfig, run: Path) -> "HeldOutRecords":
    """Returns histories like those of requests, of every user, to tune and to check a bundle with.

    They are those of the validation targets, or where nothing is held out all events of the users.

    Raises:
        UserError: as `read_held_out`, `read_training`.
    """
    from tfdnc.training.records import whole_histories

    if config.data.split == "none":
        return whole_histories(training_records(config, run), model_features(config))
    return held_out_records(config, run, schema.VALIDATION)


def trained_tower(config: ExperimentConfig, run: Path, items: ItemTable) -> "Tower":
    """Returns the tower with the weights of the train station; raises as `load_trained`."""
    from tfdnc.training.checkpoint import load_trained

    return load_trained(config, items, run / StationName.TRAIN.folder)
