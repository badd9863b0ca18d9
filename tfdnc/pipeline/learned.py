"""The time of the last event that a model has learned, by which a later comparison knows what is new to it."""

from pathlib import Path

import numpy as np
import pyarrow.dataset as ds

from tfdnc.contracts import schema
from tfdnc.contracts.config import ExperimentConfig
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
    own = _last_training_event(run / StationName.PREPARE.folder / schema.SEQUENCES)
    if config.train.initial is None:
        return own
    manifest = read_manifest(config.train.initial / StationName.TRAIN.folder)
    earlier = manifest["figures"].get(LAST_LEARNED) if manifest else None
    return None if earlier is None else max(own, earlier)


def _last_training_event(sequences: Path) -> int:
    """Returns the latest time of a training event; reads one file of sequences at a time."""
    last = np.iinfo(np.int64).min
    for shard in ds.dataset(sequences).get_fragments():
        table = shard.to_table(columns=["times", "train_events"]).combine_chunks()
        if not len(table):
            continue
        times, events = table["times"].chunk(0), table["train_events"].to_numpy()
        ends = times.offsets.to_numpy()[:-1] + events  # the last training event of a sequence is the one before
        last = max(last, int(times.values.to_numpy()[ends[events > 0] - 1].max(initial=last)))
    return last
