"""What a clusterer may see of prepare's output: the training part of every sequence, and the vocabulary."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfdnc import schema
from tfdnc.errors import UserError
from tfdnc.shards import check_shards


@dataclass(frozen=True)
class TrainingLog:
    """Training events of all users in one flat array, and the vocabulary they refer to.

    Attributes:
        items: int32 [E] item of every training event, 1..N, user after user, oldest first.
        offsets: int64 [users + 1]; user u's events are `items[offsets[u]:offsets[u + 1]]`.
        counts: int64 [N] training events of each item, in order of `sequence_index` 1..N; 0 for cold items.
        vocabulary: table of `schema.VOCABULARY_SCHEMA`, N rows.
    """

    items: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray
    vocabulary: pa.Table

    @property
    def num_items(self) -> int:
        """N, cold items included."""
        return self.vocabulary.num_rows

    def item_ids(self) -> list[str]:
        """Returns the N item ids of the log."""
        return self.vocabulary["item_id"].to_pylist()

    def first_categories(self) -> np.ndarray:
        """Returns object [N]: the first category of each item, None for an item without any."""
        lists = self.vocabulary["categories"].to_pylist()
        return np.array([values[0] if values else None for values in lists], dtype=object)


def read_training_log(prepared: Path) -> TrainingLog:
    """Reads what `tfdnc prepare` wrote and drops the `schema.HELD_OUT` events at the end of every sequence.

    Raises:
        UserError: the folder is not prepare's whole output, is damaged or empty, or its sequences name items outside
            the vocabulary.
    """
    prepared = Path(prepared)
    files = sorted((prepared / schema.SEQUENCES).glob("*.parquet"))
    check_shards([file.name for file in files], prepared / schema.SEQUENCES, "parquet", "run `tfdnc prepare` first")
    try:
        vocabulary = pq.read_table(prepared / schema.VOCABULARY, schema=schema.VOCABULARY_SCHEMA)
        parts = [_training_part(path) for path in files]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UserError(
            f"Expected whole sequences and {schema.VOCABULARY} in {prepared}, could not read them: {error}; run "
            "`tfdnc prepare` again."
        ) from error
    items = np.concatenate([items for items, _ in parts])
    lengths = np.concatenate([lengths for _, lengths in parts])
    if not len(items):
        raise UserError(
            f"Expected users with more than {schema.HELD_OUT} events in {prepared}, found none: the last "
            f"{schema.HELD_OUT} of every user are held out. Lower data.min_item_events or bring a larger log."
        )
    num_items = vocabulary.num_rows
    if items.min() < 1 or items.max() > num_items:
        raise UserError(
            f"Expected items 1..{num_items} in the sequences of {prepared}, found {items.min()}..{items.max()}: "
            "sequences and vocabulary are of different runs; run `tfdnc prepare` again."
        )
    counts = np.bincount(items, minlength=num_items + 1)[1:]
    return TrainingLog(items, np.concatenate([[0], np.cumsum(lengths)]), counts, vocabulary)


def _training_part(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the training items of one file [E] and how many of them each of its users has [users]."""
    column = pq.read_table(path, columns=["items"], page_checksum_verification=True)["items"].combine_chunks()
    starts = column.offsets.to_numpy()[:-1].astype(np.int64)
    ends = column.offsets.to_numpy()[1:].astype(np.int64)
    lengths = np.maximum(ends - starts - schema.HELD_OUT, 0)
    # `values`, unlike `flatten`, ignores slicing, so the offsets above point into it directly.
    values = column.values.to_numpy(zero_copy_only=False)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return values[np.repeat(starts, lengths) + within], lengths
