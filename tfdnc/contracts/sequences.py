"""Training part of the sequences, as flat arrays."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def training_part(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the training items `[E]` int32 of one file, user after user, and their number per user, `[users]`."""
    table = pq.read_table(path, columns=["items", "train_events"], page_checksum_verification=True)
    lengths = table["train_events"].to_numpy().astype(np.int64)
    return leading_items(table["items"].combine_chunks(), lengths), lengths


def timed_training_part(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the items `[E]` int32 of `training_part` of one file, and their times `[E]` int64."""
    table = pq.read_table(path, columns=["items", "times", "train_events"], page_checksum_verification=True)
    lengths = table["train_events"].to_numpy().astype(np.int64)
    items, times = (leading_items(table[name].combine_chunks(), lengths) for name in ("items", "times"))
    return items, times


def last_training_time(path: str | Path) -> int | None:
    """Returns the latest time of a training event of one file, None without any."""
    table = pq.read_table(path, columns=["times", "train_events"], page_checksum_verification=True)
    times, events = table["times"].combine_chunks(), table["train_events"].to_numpy()
    ends = times.offsets.to_numpy()[:-1] + events  # times never fall in a sequence: the one before is the latest
    found = times.values.to_numpy()[ends[events > 0] - 1]
    return int(found.max()) if len(found) else None


def leading_items(items: pa.ListArray, lengths: np.ndarray) -> np.ndarray:
    """Returns the first `lengths` [S] values of every list, [sum of `lengths`], list after list."""
    starts = items.offsets.to_numpy()[:-1].astype(np.int64)
    # `values`, unlike `flatten`, ignores slicing, so the offsets above are indices into it.
    values = items.values.to_numpy(zero_copy_only=False)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return values[np.repeat(starts, lengths) + within]
