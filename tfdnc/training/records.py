"""Reads the TFRecords of the examples job into flat arrays with row splits.

Records are batched before they are parsed (about ten times faster than one by one) and kept in memory: an event costs
8 + 4 R n bytes with R sets of n negatives, 0.16 GB for 20 million events with none, 8 bytes more for a model that reads
times, and while it is read twice that at most. A log of 100 million events (.8 GB) is better read by several workers,
each of which keeps its own shards.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.shards import check_shards
from tfdnc.training.workers import ALONE, Place

_PARSE_BATCH = 256  # of 64 to 1024 the fastest, by a third: what it parses still fits a cache


class TrainingRecords(NamedTuple):
    """The training part of every user who has one; row u is events splits[u] .. splits[u + 1] - 1."""

    items: np.ndarray  # [E] int32
    clusters: np.ndarray  # [E] int32
    negatives: np.ndarray  # [E, R n] int32, R sets one after the other
    splits: np.ndarray  # [users + 1] int64
    users: np.ndarray  # [users] int32, number of the user among those of all shards
    weights: np.ndarray | None = None  # [E] float32, what each event counts in the loss; None: all the same
    elapsed: np.ndarray | None = None  # [E] int64, time since the event before; None: not read


class HeldOutRecords(NamedTuple):
    """One held-out target per user who has one, with everything before it: at least one item."""

    items: np.ndarray  # [E] int32 histories, oldest first
    splits: np.ndarray  # [users + 1] int64
    targets: np.ndarray  # [users] int32
    target_clusters: np.ndarray  # [users] int32
    elapsed: np.ndarray | None = None  # [E] int64, time from each event to the next one or the target; None: not read


def read_training(folder: Path, place: Place = ALONE, times: bool = False) -> TrainingRecords:
    """Reads the shards of `folder` in order: all of them, or of several workers every worker its own.

    Args:
        folder: of the training records.
        place: which worker reads.
        times: whether to read `elapsed` too.

    Raises:
        UserError: a shard is missing, truncated or damaged, there are fewer than workers, or the features do not fit
            together.
    """
    # A feature that no record has comes out as empty lists.
    columns = _read(_shards(folder, place), [*_features(schema.TRAIN_FEATURES, times), schema.WEIGHT])
    items, lengths = columns["item"]
    clusters, negatives, weights = (columns[name][0] for name in ("cluster", "negatives", schema.WEIGHT))
    if len(clusters) != len(items) or len(negatives) % max(1, len(items)):
        raise UserError(
            f"Expected as many clusters as items, and a whole number of negatives per item, in {folder}; found "
            f"{len(items)} items, {len(clusters)} clusters, {len(negatives)} negatives. Run the examples station again."
        )
    if len(weights) not in (0, len(items)):
        raise UserError(
            f"Expected a weight for each of the {len(items)} items in {folder}, or for none; found {len(weights)}. "
            "Run the examples station again."
        )
    negatives = negatives.reshape(len(items), len(negatives) // max(1, len(items)))
    weights = weights if len(weights) else None
    elapsed = _elapsed(columns, folder) if times else None
    return TrainingRecords(items, clusters, negatives, _splits(lengths), columns["user"][0], weights, elapsed)


def read_held_out(folder: Path, times: bool = False) -> HeldOutRecords:
    """Reads every shard of the validation or test folder, `elapsed` if `times`; raises as `read_training`."""
    columns = _read(_shards(folder), _features(schema.HELD_OUT_FEATURES, times))
    items, lengths = columns["item"]
    splits, elapsed = _splits(lengths), None
    if times:
        elapsed = np.append(_elapsed(columns, folder)[1:], 0)
        elapsed[splits[1:] - 1] = columns["target_elapsed"][0]
    return HeldOutRecords(items, splits, columns["target"][0], columns["target_cluster"][0], elapsed)


def _features(features: Iterable[str], times: bool) -> list[str]:
    """Names of the features to read; of those about time only for who wants them."""
    return [name for name in features if times or not name.endswith("elapsed")]


def _elapsed(columns: dict, folder: Path) -> np.ndarray:
    """The times of all events, which the records of earlier versions lack."""
    elapsed, events = columns["elapsed"][0], len(columns["item"][0])
    if len(elapsed) != events:
        raise UserError(
            f"Expected the elapsed time of each of the {events} items in {folder}, found {len(elapsed)}: these records "
            "are of an earlier version. Run the examples station again (--force)."
        )
    return elapsed


def _shards(folder: Path, place: Place = ALONE) -> list[str]:
    """The shards that one worker reads: every count-th."""
    files = sorted(folder.glob("*.tfrecord"))
    check_shards([file.name for file in files], folder, "tfrecord", "run the examples station first")
    if len(files) < place.count:
        raise UserError(
            f"Expected at least one shard per worker in {folder}, found {len(files)} for {place.count} workers: start "
            "fewer, or raise data.num_shards."
        )
    return [str(file) for file in files[place.index :: place.count]]


def _read(files: list[str], features: Iterable[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Feature name -> (flat values int32, int64 of times, float32 of weights; values per record)."""
    chunks = {name: ([], []) for name in features}
    for parsed in _parsed(files, features):
        for name, parts in parsed.items():
            for chunk, part in zip(chunks[name], parts, strict=True):
                chunk.append(np.asarray(part))  # without the copy that `numpy()` makes
    if not all(lengths for _, lengths in chunks.values()):
        raise UserError(
            f"Expected records in {', '.join(files)}, found none: make them again, or start fewer workers if these are "
            "the shards of one of several."
        )
    # One feature at a time, so that only that one is twice in memory.
    return {name: tuple(map(np.concatenate, chunks.pop(name))) for name in features}


def _parsed(files: list[str], features: Iterable[str]) -> Iterator[dict[str, tuple[tf.Tensor, tf.Tensor]]]:
    """Chunks of records: feature name -> (flat values as of `_read`, values per record)."""
    spec = {name: tf.io.RaggedFeature(tf.float32 if name == schema.WEIGHT else tf.int64) for name in features}

    def parse(serialized):
        parsed = tf.io.parse_example(serialized, spec)
        return {name: (_narrow(name, lists.flat_values), lists.row_lengths()) for name, lists in parsed.items()}

    dataset = tf.data.TFRecordDataset(files).batch(_PARSE_BATCH).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    try:
        yield from dataset
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise UserError(
            f"Expected whole TFRecords of features {', '.join(features)} in {Path(files[0]).parent}; a shard is "
            f"truncated or damaged ({error.message}). Run the examples station again."
        ) from error


def _narrow(name: str, values: tf.Tensor) -> tf.Tensor:
    """Integers as int32, unless they are times; floats are as they are."""
    return values if name.endswith("elapsed") or values.dtype.is_floating else tf.cast(values, tf.int32)


def _splits(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
