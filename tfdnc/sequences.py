"""What may be learnt from a sequence file: the training part of its users, as flat arrays."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq


def training_part(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the training items int32 [E] of one file, user after user, and int64 [users], how many each has."""
    table = pq.read_table(path, columns=["items", "train_events"], page_checksum_verification=True)
    column, lengths = table["items"].combine_chunks(), table["train_events"].to_numpy().astype(np.int64)
    starts = column.offsets.to_numpy()[:-1].astype(np.int64)
    # `values`, unlike `flatten`, ignores slicing, so the offsets above point into it directly.
    values = column.values.to_numpy(zero_copy_only=False)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return values[np.repeat(starts, lengths) + within], lengths
