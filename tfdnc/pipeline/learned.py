"""The time of the last event that a model has learned, by which a later comparison knows what is new to it."""

from pathlib import Path

from tfdnc.contracts import schema
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.sequences import last_training_time
from tfdnc.contracts.station_names import StationName
from tfdnc.pipeline.manifests import read_manifest

LAST_LEARNED = "last_learned"
"""Key in the figures of a training, and in the manifest of a bundle."""


def last_learned(config: ExperimentConfig, run: Path) -> int | None:
    """Returns the time of the last training event of a run, or of the run that its weights started from.

    It is in the log's unit; None for a log without times, or if it is not known of the initial run.
    """
    if not config.data.has_times:
        return None
    files = (run / StationName.PREPARE.folder / schema.SEQUENCES).glob("*.parquet")
    own = max(last for file in files if (last := last_training_time(file)) is not None)
    if config.train.initial is None:
        return own
    manifest = read_manifest(config.train.initial / StationName.TRAIN.folder)
    earlier = manifest["figures"].get(LAST_LEARNED) if manifest else None
    return None if earlier is None else max(own, earlier)
