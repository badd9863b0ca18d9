"""The training log that clusterers read: the training part of every sequence, and the vocabulary."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfdnc.clustering.cold import traits_of
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import read_vectors
from tfdnc.contracts.sequences import training_part
from tfdnc.contracts.shards import check_shards


@dataclass(frozen=True)
class TrainingLog:
    """Training events of all users, in files that are read one at a time, and the vocabulary they refer to.

    Attributes:
        files: the sequence files.
        counts: int64 [N] training events of each item, in order of `sequence_index` 1..N; 0 for cold items.
        vocabulary: table of `schema.VOCABULARY_SCHEMA`, N rows.
        scratch: folder for the intermediate files of a clusterer; the caller of `read_training_log` removes it.
        runner_args: flags for Beam, of a clusterer that runs a job over the files.
        sampling: share of the users that are read, and the seed that picks them; None for all users.
        vectors: `[N, C]` of every item feature of kind vector by name, memory-mapped; NaN for an unknown vector.
    """

    files: tuple[Path, ...]
    counts: np.ndarray
    vocabulary: pa.Table
    scratch: Path
    runner_args: tuple[str, ...] = ()
    sampling: tuple[float, int] | None = None
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def num_items(self) -> int:
        """Number N of items, cold ones included."""
        return self.vocabulary.num_rows

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields for every file its items 1..N, user after user, oldest first, and the number of items per user."""
        for number, path in enumerate(self.files):
            items, lengths = training_part(path)
            if self.sampling is not None:
                share, seed = self.sampling
                read = np.random.default_rng([seed, number]).random(len(lengths)) < share
                items, lengths = items[np.repeat(read, lengths)], lengths[read]
            yield items, lengths

    def some_users(self, share: float, seed: int) -> "TrainingLog":
        """Returns the log of a random share of the users, with their counts and the whole vocabulary."""
        if share == 1:
            return self
        log = replace(self, sampling=(share, seed))
        counts = np.zeros(self.num_items + 1, np.int64)
        for items, _ in log.parts():
            counts += np.bincount(items, minlength=len(counts))
        return replace(log, counts=counts[1:])

    def item_ids(self) -> list[str]:
        """Returns the N item ids of the log."""
        return self.vocabulary["item_id"].to_pylist()

    def first_categories(self) -> np.ndarray:
        """Returns object [N]: the first category of each item, None for an item without any."""
        lists = self.vocabulary["categories"].to_pylist()
        return np.array([values[0] if values else None for values in lists], dtype=object)

    def traits(self) -> list[Sequence[str]]:
        """Returns the `traits_of` the N items."""
        features, categories = (self.vocabulary[name].to_pylist() for name in ("features", "categories"))
        return traits_of(features, categories)


def read_training_log(prepared: Path, scratch: Path, runner_args: Sequence[str] = ()) -> TrainingLog:
    """Opens the output folder of `tfdnc prepare`, and counts its training events.

    Raises:
        UserError: the folder is not prepare's whole output, is damaged or empty, or its sequences name items outside
            the vocabulary.
    """
    prepared = Path(prepared)
    files = tuple(sorted((prepared / schema.SEQUENCES).glob("*.parquet")))
    check_shards([file.name for file in files], prepared / schema.SEQUENCES, "parquet", "run `tfdnc prepare` first")
    try:
        vocabulary = pq.read_table(prepared / schema.VOCABULARY, schema=schema.VOCABULARY_SCHEMA)
        counts = _count_items(prepared, files, vocabulary.num_rows)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UserError(
            f"Expected whole sequences and {schema.VOCABULARY} in {prepared}, could not read them: {error}; run "
            "`tfdnc prepare` again."
        ) from error
    if not counts.any():
        raise UserError(
            f"Expected users with training events in {prepared}, found none: every event is held out. Bring a larger "
            "log, or move the split of the data section."
        )
    return TrainingLog(files, counts, vocabulary, Path(scratch), tuple(runner_args), vectors=read_vectors(prepared))


def _count_items(prepared: Path, files: Iterable[Path], num_items: int) -> np.ndarray:
    """Returns int64 [N], the training events of each item."""
    counts = np.zeros(num_items + 1, np.int64)
    for items, _ in map(training_part, files):
        if len(items) and (items.min() < 1 or items.max() > num_items):
            raise UserError(
                f"Expected items 1..{num_items} in the sequences of {prepared}, found {items.min()}..{items.max()}: "
                "sequences and vocabulary are of different runs; run `tfdnc prepare` again."
            )
        counts += np.bincount(items, minlength=len(counts))
    return counts[1:]
