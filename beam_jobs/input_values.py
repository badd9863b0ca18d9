"""Values of categories: counted in the training part of every bucket, and written with those that are known."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from beam_jobs.files import exists, join, open_file, whole_file
from beam_jobs.packing import unpack
from beam_jobs.vocabulary import count_items
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.features import Of, features_of_file, is_of_log, sequence_features
from tfdnc.contracts.sequences import leading_items

_log = logging.getLogger(__name__)

LEAST = 2
"""Training events, or users for their inputs, of a value that is known: a model learns nothing of a rarer one."""

COUNT = "known values of "
"""Prefix of the counts of known values by input."""


def has_values(config: DataConfig) -> bool:
    """Returns whether a log has such inputs."""
    return any(map(is_of_log, sequence_features(config)))


def count_values(sequences: pa.RecordBatch) -> Iterator[bytes]:
    """Yields the packed ("input=value", events) of the training part of one bucket, see `vocabulary.count_items`."""
    train_events = sequences["train_events"].to_numpy()
    for feature in filter(is_of_log, features_of_file(sequences.schema) or ()):
        column = sequences[feature.column]
        if feature.of is Of.USER:
            values = column.filter(pa.array(train_events > 0))
        else:
            values = pa.array(leading_items(column, train_events.astype(np.int64)), pa.string())
        found = values.dictionary_encode()
        names = pa.array([f"{feature.name}={value}" for value in found.dictionary.to_pylist()], pa.string())
        yield count_items(names, found.indices.to_numpy())


def write_values(packed: bytes, config: DataConfig, output: str) -> dict[str, int]:
    """Writes `schema.INPUT_VALUES` from the summed counts, and returns the number of known values by input."""
    counts = unpack(packed)
    known: dict[str, list[str]] = {one.name: [] for one in sequence_features(config) if is_of_log(one)}
    for text, events in zip(counts["item_id"].to_pylist(), counts["events"].to_pylist(), strict=True):
        name, _, value = text.partition("=")
        if value and events >= LEAST:
            known[name].append(value)
    with whole_file(join(output, schema.INPUT_VALUES)) as stream:
        stream.write(json.dumps({name: sorted(values) for name, values in known.items()}).encode())
    return {COUNT + name: len(values) for name, values in known.items()}


def read_values(folder: str) -> dict[str, list[str]]:
    """Returns the known values by input of a prepared log; nothing of a log without such inputs."""
    path = join(folder, schema.INPUT_VALUES)
    if not exists(path):
        return {}
    with open_file(path) as stream:
        return json.loads(stream.read())


def warn_of_targets(values: Mapping[str, Sequence[str]], config: DataConfig) -> None:
    """Logs a warning of kinds of `data.targets` that the training events lack: each may be a misspelt one.

    Args:
        values: the known values of each input, see `write_values`.
        config: holds the kinds.
    """
    for name, weights in config.targets.items():
        known = values.get(name, ())
        if unknown := [kind for kind in weights if kind not in known]:
            _log.warning(
                "Fewer than %d training events have %s %s of data.targets; they have %s. Is the spelling that of the "
                "log?",
                LEAST,
                name,
                ", ".join(unknown),
                ", ".join(known) or "no value more often",
            )
