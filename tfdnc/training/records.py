"""Reads the TFRecords of the examples job into flat arrays with row splits.

Records are batched before they are parsed (about ten times faster than one by one) and kept in memory. An event costs 8
+ 4 R n bytes with R sets of n negatives: 0.16 GB for 20 million events with none. Times cost 8 bytes more, another
input 4, one of the context 8, and exposures 4 W with at most W after an event. While it is read, an event costs at most
twice that. A log of 100 million events (.8 GB) is better read by several workers, each of which keeps its own shards.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import WEIGHT, Feature, Of
from tfdnc.contracts.item_lists import padded_lists
from tfdnc.contracts.shards import check_shards
from tfdnc.training.workers import ALONE, WorkerIndex

_PARSE_BATCH = 256  # the fastest of 64 to 1024, by a third: the parsed values still fit into a cache


NOTHING: Mapping[str, np.ndarray] = MappingProxyType({})
"""No inputs beside the items."""


class TrainingRecords(NamedTuple):
    """The training part of every user with one; row u is events splits[u] .. splits[u + 1] - 1."""

    items: np.ndarray  # [E] int32
    clusters: np.ndarray  # [E] int32
    negatives: np.ndarray  # [E, R n] int32, R sets one after the other
    splits: np.ndarray  # [users + 1] int64
    users: np.ndarray  # [users] int32, number of the user among those of all shards
    # [E] by `Feature.key`, beside the event where a window reads it; that of a user beside each of its events; [E, W]
    # of exposures
    features: Mapping[str, np.ndarray] = NOTHING
    first_targets: np.ndarray | None = None  # [users], earlier events of a user are no targets; None: all but the first
    values: Mapping[str, Sequence[str]] = MappingProxyType({})  # of each input of kind `value`, by name


class HeldOutRecords(NamedTuple):
    """The held-out target of every user with one, and all items before it: at least one."""

    items: np.ndarray  # [E] int32 histories, oldest first
    splits: np.ndarray  # [users + 1] int64
    targets: np.ndarray  # [users] int32
    target_clusters: np.ndarray  # [users] int32
    features: Mapping[str, np.ndarray] = (
        NOTHING  # [E] likewise; the last event of a history has the value of the target
    )


def read_training(
    folder: Path, worker: WorkerIndex = ALONE, features: Sequence[Feature] = (), partly: bool = False
) -> TrainingRecords:
    """Reads the shards of `folder` in order: all of them, or those of one worker of several.

    Args:
        folder: of the training records.
        worker: the worker that reads.
        features: inputs of events to read as well.
        partly: True for records that mark events as no targets, as with `data.train_from`; these get weight 0.

    Raises:
        UserError: a shard is missing, truncated or damaged, there are fewer than workers, or the features do not fit
            together.
    """
    names = (*schema.TRAIN_FEATURES, *([schema.FIRST_TARGET] if partly else []))
    columns = _read(_shards(folder, worker), _dtypes(names, features))
    items, lengths = columns["item"]
    clusters, negatives = (columns[name][0] for name in ("cluster", "negatives"))
    if len(clusters) != len(items) or len(negatives) % max(1, len(items)):
        raise UserError(
            f"Expected as many clusters as items, and a whole number of negatives per item, in {folder}; found "
            f"{len(items)} items, {len(clusters)} clusters, {len(negatives)} negatives. Run the examples station again."
        )
    negatives = negatives.reshape(len(items), len(negatives) // max(1, len(items)))
    splits = _splits(lengths)
    values = {feature.key: _beside(feature, columns, splits, folder) for feature in features}
    first_targets = columns[schema.FIRST_TARGET][0] if partly else None
    if first_targets is not None:
        if len(first_targets) != len(lengths):
            raise UserError(
                f"Expected {schema.FIRST_TARGET} in each of {len(lengths)} records in {folder}, as data.train_from "
                f"needs it, found {len(first_targets)}. Run the examples station again."
            )
        values[WEIGHT.key] = values.get(WEIGHT.key, np.float32(1)) * _counting(splits, first_targets)
    known = input_values(folder.parent)
    return TrainingRecords(items, clusters, negatives, splits, columns["user"][0], values, first_targets, known)


def input_values(folder: Path) -> dict[str, list[str]]:
    """Returns the values of each input of kind `value` by name, from the folder of the examples station."""
    file = folder / schema.INPUT_VALUES
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def read_held_out(folder: Path, features: Sequence[Feature] = ()) -> HeldOutRecords:
    """Reads every shard of the validation or test folder, with these inputs of events; raises as `read_training`."""
    of_target = {feature.target_key: feature.form.dtype for feature in features if feature.of_target}
    columns = _read(_shards(folder), _dtypes(schema.HELD_OUT_FEATURES, features) | of_target)
    items, lengths = columns["item"]
    splits = _splits(lengths)
    values = {feature.key: _beside(feature, columns, splits, folder) for feature in features}
    for feature in (feature for feature in features if feature.of_target):
        values[feature.key][splits[1:] - 1] = columns[feature.target_key][0]
    return HeldOutRecords(items, splits, columns["target"][0], columns["target_cluster"][0], values)


def whole_histories(records: TrainingRecords, features: Sequence[Feature] = ()) -> HeldOutRecords:
    """Returns every user with all training events as the history, for a log that holds nothing out.

    Nothing follows the last event, so there is no target (item 0), and the request is made at the time of that event,
    in an unknown context.

    Args:
        records: of all shards.
        features: inputs that the histories have.
    """
    values = {feature.key: records.features[feature.key].copy() for feature in features}
    for feature in (feature for feature in features if feature.of_target):
        values[feature.key][records.splits[1:] - 1] = 0 if feature.form.relative else feature.unknown
    nothing = np.zeros(len(records.users), np.int32)
    return HeldOutRecords(records.items, records.splits, nothing, nothing, values)


def _dtypes(fixed: Iterable[str], features: Sequence[Feature]) -> dict[str, np.dtype]:
    """Dtypes in memory of the features to read, by name."""
    return dict.fromkeys(fixed, np.dtype(np.int32)) | {feature.record_key: feature.form.dtype for feature in features}


def _beside(
    feature: Feature, columns: Mapping[str, tuple[np.ndarray, np.ndarray]], splits: np.ndarray, folder: Path
) -> np.ndarray:
    """Values of an input `[E]`, each beside the event at whose position a window reads it.

    An input of the target is beside the event before it. No position reads the value beside the last event of a user.
    """
    values, of_user = columns[feature.record_key][0], feature.of is Of.USER
    if feature.form.of_items:
        values = padded_lists(values)
    expected, each = (len(splits) - 1, "users") if of_user else (splits[-1], "items")
    if len(values) != expected:
        raise UserError(
            f"Expected {feature.record_key} of each of the {expected} {each} in {folder}, found {len(values)}: these "
            "records are of another log, or of an earlier version. Run the examples station again (--force)."
        )
    if of_user:
        return np.repeat(values, np.diff(splits))
    return np.append(values[1:], values[:1]) if feature.of_target else values


def _counting(splits: np.ndarray, first_targets: np.ndarray) -> np.ndarray:
    """Returns 1 beside every event whose next one is a target that counts, else 0: float32 `[E]`."""
    own = np.arange(splits[-1]) - np.repeat(splits[:-1], np.diff(splits))
    return (own + 1 >= np.repeat(first_targets, np.diff(splits))).astype(np.float32)


def _shards(folder: Path, worker: WorkerIndex = ALONE) -> list[str]:
    """The shards that one worker reads: every n-th of n workers."""
    files = sorted(folder.glob("*.tfrecord"))
    check_shards([file.name for file in files], folder, "tfrecord", "run the examples station first")
    if len(files) < worker.count:
        raise UserError(
            f"Expected at least one shard per worker in {folder}, found {len(files)} for {worker.count} workers: start "
            "fewer, or raise data.num_shards."
        )
    return [str(file) for file in files[worker.index :: worker.count]]


def _read(files: list[str], dtypes: dict[str, np.dtype]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Feature name -> (flat values of its dtype, values per record)."""
    chunks: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {name: ([], []) for name in dtypes}
    for parsed in _parsed(files, dtypes):
        for name, parts in parsed.items():
            for chunk, part in zip(chunks[name], parts, strict=True):
                chunk.append(np.asarray(part))  # without the copy that `numpy()` makes
    if not all(lengths for _, lengths in chunks.values()):
        raise UserError(
            f"Expected records in {', '.join(files)}, found none: make them again, or start fewer workers if these are "
            "the shards of one of several."
        )
    return {name: _joined(*chunks.pop(name)) for name in dtypes}


def _joined(values: list[np.ndarray], lengths: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """One feature as two arrays; called for one feature at a time, so that only that one is twice in memory."""
    return np.concatenate(values), np.concatenate(lengths)


def _parsed(files: list[str], dtypes: dict[str, np.dtype]) -> Iterator[dict[str, tuple[tf.Tensor, tf.Tensor]]]:
    """Yields chunks of records: feature name -> (flat values as of `_read`, values per record)."""
    # A feature that no record has is read as empty lists.
    lists = {name: tf.float32 if dtype.kind == "f" else tf.int64 for name, dtype in dtypes.items()}
    spec = {name: tf.io.RaggedFeature(dtype) for name, dtype in lists.items()}

    def parse(serialized: tf.Tensor) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        parsed = tf.io.parse_example(serialized, spec)
        return {name: (tf.cast(of.flat_values, dtypes[name]), of.row_lengths()) for name, of in parsed.items()}

    dataset = tf.data.TFRecordDataset(files).batch(_PARSE_BATCH).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    try:
        yield from dataset
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise UserError(
            f"Expected whole TFRecords of features {', '.join(dtypes)} in {Path(files[0]).parent}; a shard is "
            f"truncated or damaged ({error.message}). Run the examples station again."
        ) from error


def _splits(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
