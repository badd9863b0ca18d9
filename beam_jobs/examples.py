"""Job 2: sequences + clustered items -> training, validation and test records. No shuffle: a file in, three files out.

train        the training part, its clusters, R sets of n negatives per item, and the inputs of its events
validation   the validation target, with every event before it as history
test         the test target, with every event before it as history

A user has a record in every split for which it has events; the first job has marked these events.
"""

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.pvalue import AsIter

from beam_jobs.command import refuse_unfinished, run_command
from beam_jobs.files import absolute, find_files, join, open_file, parent, whole_file
from beam_jobs.input_values import read_values
from beam_jobs.item_table import read_item_table, refuse_other_log
from beam_jobs.logs.event_weights import weight_figures
from beam_jobs.pipeline import add_counts, options_of, run
from beam_jobs.progress import progress, steps
from beam_jobs.records import SPLIT_COLUMNS, SPLITS, encode_users, users_of_splits
from beam_jobs.tfrecord import encode_examples, write_records
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExamplesConfig, ExperimentConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import features_of_file
from tfdnc.contracts.negative_sampling import EMPTY, EXACT, NEGATIVE_SAMPLERS, REDRAWN
from tfdnc.contracts.plugins import WithPlugins
from tfdnc.contracts.shards import check_shards

_log = logging.getLogger(__name__)

Shard = tuple[int, str, int]
"""Number of a sequence file, its path, and the index of its first user."""


def build_examples(
    sequences: str | PathLike[str],
    item_table: str | PathLike[str],
    config: ExamplesConfig,
    seed: int,
    output: str | PathLike[str],
    runner_args: Sequence[str] = (),
    train_from: int | None = None,
    allows_seen: bool = False,
) -> dict[str, Any]:
    """Writes the records of every user: at most one per split.

    A user's negatives depend only on the seed, the user's id and items, the item table and the sampler's config. So
    the same inputs give the same bytes on any runner. A user with a single training item gets a train record too; it
    has no history to learn from, and the trainer ignores it.

    Args:
        sequences: folder of `schema.SEQUENCES`; a `schema.VOCABULARY` beside it must have the items of the table.
        item_table: file of `schema.ITEM_SCHEMA`.
        config: the negative sampler and its parameters.
        seed: seed of the negatives.
        output: folder to fill with `train/`, `validation/` and `test/`, one shard per sequence file, on a disk or in a
            store; complete only when this function has returned.
        runner_args: flags for Beam.
        train_from: time of the log; earlier events are no training targets, and the records say how many they are.
            None: all events are targets.
        allows_seen: whether lists may hold items of the history; then a user's own items may be negatives too.

    Returns:
        - `records`: number per split.
        - `positions`: number of training items, each with a row of negatives.
        - `negatives`: number of `drawn` negatives, of those that the `exact` method drew, of `redrawn` proposals, and
          of `empty` entries (`PAD`), which the first does not count.
        - `weights`, of a log with weights: number of training `targets`, and of those with a weight above 0
          (`weighted`).
        - `sha256`: per split, of its shards one after the other.

    Raises:
        UserError: an input is missing, damaged or does not belong to the others; the sampler is unknown; no training
            target has a weight above 0.
    """
    sequences, item_table, output = absolute(sequences), absolute(item_table), absolute(output)
    NEGATIVE_SAMPLERS.resolve(config.sampler)
    read_item_table(item_table)
    refuse_other_log(item_table, sequences)
    shards, expected = find_shards(sequences)
    known = read_values(parent(sequences))
    _log.info("%d records in %d files", sum(expected.values()), len(shards), extra=steps(encoding=len(shards)))

    encode = EncodeShard(item_table, config, seed, output, len(shards), train_from, allows_seen, known)

    def build(pipeline: beam.Pipeline) -> beam.PCollection:
        counts = (
            pipeline | "Shards" >> beam.Create(shards) | "Spread" >> beam.Reshuffle() | "Encode" >> beam.ParDo(encode)
        )
        once = pipeline | "Once" >> beam.Create([None])
        return once | "Sum" >> beam.Map(lambda _, counts: add_counts(counts), AsIter(counts))

    counts = run(build, output, options_of(runner_args))
    if known:
        with whole_file(join(output, schema.INPUT_VALUES)) as stream:
            stream.write(json.dumps(known).encode())
    for split in SPLITS:
        # Some runners lose elements without an error (see `pipeline`).
        if counts.get(split) != expected[split]:
            raise RuntimeError(
                f"Expected {expected[split]} {split} records, found {counts.get(split)}: the runner lost data."
            )
    return {
        "records": {split: counts[split] for split in SPLITS},
        "positions": counts["positions"],
        "negatives": {
            "drawn": counts["positions"] * config.recorded_negatives - counts[EMPTY],
            **{name: counts[name] for name in (EXACT, REDRAWN, EMPTY)},
        },
        "sha256": {split: split_sha256(join(output, split), len(shards)) for split in SPLITS},
        **weight_figures(counts),
    }


def find_shards(sequences: str) -> tuple[list[Shard], dict[str, int]]:
    """Returns the sequence files of a folder, and the number of their records in every split.

    Users are numbered in the order of the files.

    Raises:
        UserError: a file is missing or damaged, or there is no user at all.
    """
    paths = find_files(sequences, "part-*.parquet")
    names = [path.rpartition("/")[2] for path in paths]
    check_shards(names, sequences, "parquet", "run prepare first")
    shards: list[Shard] = []
    first_user, records = 0, dict.fromkeys(SPLITS, 0)
    for shard, path in enumerate(paths):
        table = _read_sequences(path, columns=SPLIT_COLUMNS)
        shards.append((shard, path, first_user))
        first_user += table.num_rows
        for split, users in users_of_splits(table).items():
            records[split] += len(users)
    if not first_user:
        raise UserError(f"Expected users in {sequences}, found none; run prepare again.")
    return shards, records


class EncodeShard(beam.DoFn):
    """Turns a sequence file into one shard of every split; its output is the counts."""

    def __init__(
        self,
        item_table: str,
        config: ExamplesConfig,
        seed: int,
        output: str,
        num_shards: int,
        train_from: int | None,
        allows_seen: bool,
        known: dict[str, list[str]],
    ) -> None:
        self._item_table, self._sent, self._seed = item_table, WithPlugins(config), seed
        self._train_from, self._allows_seen, self._known = train_from, allows_seen, known
        self._output, self._num_shards = output, num_shards

    def setup(self) -> None:
        """Reads the item table from its file, because a large one would take much memory as a side input."""
        self._table = read_item_table(self._item_table)
        config: ExamplesConfig = self._sent.value
        make_sampler = NEGATIVE_SAMPLERS.resolve(config.sampler)
        self._sampler = make_sampler(self._table.offsets, self._table.counts, config)

    def process(self, element: Shard) -> Iterator[dict[str, int]]:
        """Yields the counts of one file."""
        shard, path, first_user = element
        splits, counts = encode_users(
            _read_sequences(path),
            first_user,
            self._table,
            self._sampler,
            self._sent.value.recorded_negatives,
            self._seed,
            train_from=self._train_from,
            allows_seen=self._allows_seen,
            known=self._known,
        )
        name = schema.shard_name(shard, self._num_shards, "tfrecord")
        for split, features in splits.items():
            counts[split] = write_records(join(self._output, split, name), encode_examples(features))
        records, positions = counts[schema.TRAIN], counts["positions"]
        _log.info(
            "shard %d of %d: %d train records, %d positions",
            *(shard, self._num_shards, records, positions),
            extra=progress("encoding", users=records, positions=positions),
        )
        yield counts


def _read_sequences(path: str, columns: list[str] | None = None) -> pa.Table:
    """Reads a file of a `features.sequence_schema`: all columns, or those that are given."""
    try:
        with open_file(path) as stream:
            file = pq.ParquetFile(stream, page_checksum_verification=True)
            if features_of_file(file.schema_arrow) is None:
                raise _damaged(path, f"its columns are {', '.join(file.schema_arrow.names)}")
            return file.read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _damaged(path: str, error: object) -> UserError:
    return UserError(
        f"Expected a whole Parquet file of sequences at {path}, could not read it: {error}; prepare again."
    )


def split_sha256(folder: str, num_shards: int) -> str:
    """Returns the SHA-256 of the folder's shards, one after the other."""
    digest = hashlib.sha256()
    for shard in range(num_shards):
        with open_file(join(folder, schema.shard_name(shard, num_shards, "tfrecord"))) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job alone: `python -m beam_jobs.examples --config X.yaml --sequences DIR --items FILE --output DIR`."""
    parser = argparse.ArgumentParser(description="Sequences and clustered items -> training and evaluation records.")
    parser.add_argument("--sequences", required=True, help="folder of sequence files")
    parser.add_argument("--items", required=True, help="Parquet file of clustered items")

    def job(flags: argparse.Namespace, config: ExperimentConfig, output: str, runner_args: list[str]) -> dict[str, Any]:
        refuse_unfinished(parent(flags.sequences))
        inputs = flags.sequences, flags.items, config.examples, config.seed
        return build_examples(*inputs, output, runner_args, config.data.first_trained, config.data.allows_seen)

    return run_command(parser, argv, job)


if __name__ == "__main__":
    # Imported by name, because workers cannot unpickle functions of the driver's `__main__`.
    from beam_jobs.examples import main as entry

    sys.exit(entry())
