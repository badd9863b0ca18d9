"""Job 2: sequences + clustered items -> training, validation and test records. No shuffle: a file in, three files out.

train        the training part, its clusters, R sets of n negatives per item, and the inputs that its events have
validation   the validation target, with every event before it as history
test         the test target likewise

A user has a record in every split that has something of it; which events these are, the first job has decided.
"""

import argparse
import hashlib
import logging
import sys
from collections.abc import Sequence
from os import PathLike

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.pvalue import AsIter

from beam_jobs.command import refuse_unfinished, run_command
from beam_jobs.files import absolute, find_files, join, open_file, parent
from beam_jobs.ids import random_key
from beam_jobs.item_table import ItemTable, read_item_table, refuse_other_log
from beam_jobs.logs.event_weights import count_weights, weight_figures
from beam_jobs.pipeline import add_counts, options_of, run
from beam_jobs.progress import progress, steps
from beam_jobs.tfrecord import Lists, Varints, encode_examples, encoded, scalars, write_records
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExamplesConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, WEIGHT, features_of_file
from tfdnc.contracts.negative_sampling import EMPTY, EXACT, NEGATIVE_SAMPLERS, REDRAWN, NegativeSampler, user_generator
from tfdnc.contracts.plugins import WithPlugins
from tfdnc.contracts.shards import check_shards

_log = logging.getLogger(__name__)

SPLITS = (schema.TRAIN, schema.VALIDATION, schema.TEST)
_SPLIT_COLUMNS = ["train_events", "validation", "test"]

Shard = tuple[int, str, int]
"""Number of a sequence file, its path, and the index of its first user."""


def build_examples(
    sequences: str | PathLike,
    item_table: str | PathLike,
    config: ExamplesConfig,
    seed: int,
    output: str | PathLike,
    runner_args: Sequence[str] = (),
    train_from: int | None = None,
) -> dict:
    """Writes the records of every user: at most one per split.

    A user's negatives depend on the seed, the user's id and items, the item table and the sampler's config only; so
    the same inputs give the same bytes on any runner. A user with a single training item gets a train record too: it
    has no history to learn from, and the trainer passes it over.

    Args:
        sequences: folder of `schema.SEQUENCES`; where a `schema.VOCABULARY` stands beside it, it has the same items.
        item_table: file of `schema.ITEM_SCHEMA`.
        config: the negative sampler and its parameters.
        seed: of the negatives.
        output: folder to fill with `train/`, `validation/` and `test/`, one shard per sequence file, on a disk or in a
            store; finished when this function has returned, and not before.
        runner_args: flags for Beam.
        train_from: time of the log; records then say which events are earlier, and no training targets. None: none is.

    Returns:
        `records` per split; `positions`: training items, each of which has a row of negatives; `negatives`: how many
        were `drawn`, of these by the `exact` path, the `redrawn` proposals, and the `empty` places (`PAD`) beside the
        drawn ones; of a log with weights `weights`: the training `targets`, and how many of them are `weighted`, above
        0; `sha256` per split, of its shards one after the other.

    Raises:
        UserError: an input is missing, damaged or does not belong to the others; the sampler is unknown; no training
            target has a weight above 0.
    """
    sequences, item_table, output = absolute(sequences), absolute(item_table), absolute(output)
    NEGATIVE_SAMPLERS.resolve(config.sampler)
    read_item_table(item_table)
    refuse_other_log(item_table, sequences)
    shards, expected = find_shards(sequences)
    _log.info("%d records in %d files", sum(expected.values()), len(shards), extra=steps(encoding=len(shards)))

    def build(pipeline: beam.Pipeline) -> beam.PCollection:
        counts = (
            pipeline
            | "Shards" >> beam.Create(shards)
            | "Spread" >> beam.Reshuffle()
            | "Encode" >> beam.ParDo(EncodeShard(item_table, config, seed, output, len(shards), train_from))
        )
        once = pipeline | "Once" >> beam.Create([None])
        return once | "Sum" >> beam.Map(lambda _, counts: add_counts(counts), AsIter(counts))

    counts = run(build, output, options_of(runner_args))
    for split in SPLITS:
        # Runners have lost elements in silence (see `pipeline`).
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
    """Returns the sequence files of a folder, and how many records of every split they make.

    Users are numbered in the order of the files.

    Raises:
        UserError: a file is missing or damaged, or there is no user at all.
    """
    paths = find_files(sequences, "part-*.parquet")
    names = [path.rpartition("/")[2] for path in paths]
    check_shards(names, sequences, "parquet", "run prepare first")
    shards, first_user, records = [], 0, dict.fromkeys(SPLITS, 0)
    for shard, path in enumerate(paths):
        table = _read_sequences(path, columns=_SPLIT_COLUMNS)
        shards.append((shard, path, first_user))
        first_user += table.num_rows
        for split, users in _users_of(table).items():
            records[split] += len(users)
    if not first_user:
        raise UserError(f"Expected users in {sequences}, found none; run prepare again.")
    return shards, records


def _users_of(sequences: pa.Table) -> dict[str, np.ndarray]:
    """Returns the rows `[S]` that have a record, for every split."""
    train_events, validation, test = (sequences[name].to_numpy() for name in _SPLIT_COLUMNS)
    found = {schema.TRAIN: train_events > 0, schema.VALIDATION: validation >= 0, schema.TEST: test >= 0}
    return {split: np.flatnonzero(found[split]) for split in SPLITS}


class EncodeShard(beam.DoFn):
    """Turns a sequence file into one shard of every split; gives the counts."""

    def __init__(
        self, item_table: str, config: ExamplesConfig, seed: int, output: str, num_shards: int, train_from: int | None
    ):
        self._item_table, self._sent, self._seed = item_table, WithPlugins(config), seed
        self._train_from = train_from
        self._output, self._num_shards = output, num_shards

    def setup(self):
        """Reads the item table; by its path, because a large one would be heavy as a side input."""
        self._table = read_item_table(self._item_table)
        config = self._sent.value
        make_sampler = NEGATIVE_SAMPLERS.resolve(config.sampler)
        self._sampler = make_sampler(self._table.offsets, self._table.counts, config)

    def process(self, element: Shard):
        """Yields the counts of one file."""
        shard, path, first_user = element
        splits, counts = encode_users(
            _read_sequences(path),
            first_user,
            self._table,
            self._sampler,
            self._sent.value.recorded_negatives,
            self._seed,
            self._train_from,
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


def encode_users(
    sequences: pa.Table,
    first_user: int,
    table: ItemTable,
    sampler: NegativeSampler,
    num_negatives: int,
    seed: int,
    train_from: int | None = None,
) -> tuple[dict[str, dict[str, Lists]], dict[str, int]]:
    """Encodes the users of one file.

    Args:
        sequences: a `features.sequence_schema`.
        first_user: index of the first user.
        table: of the items.
        sampler: of the negatives.
        num_negatives: of every training item, all sets together.
        seed: of the negatives.
        train_from: as of `build_examples`.

    Returns:
        The features of every split, and the counts.
    """
    lists = sequences["items"].combine_chunks()
    edges = lists.offsets.to_numpy().astype(np.int64)  # [R + 1]
    starts, user_ids = edges[:-1], sequences["user_id"].combine_chunks()
    items = _renumber(lists.values.to_numpy(), table)
    clusters, item_varints = table.cluster[items], Varints(items)
    inputs = features_of_file(sequences.schema)
    values = {feature: sequences[feature.column].combine_chunks().values.to_numpy() for feature in inputs}
    packed = {feature: encoded(feature.form.recorded(values[feature], starts)) for feature in inputs}
    users = _users_of(sequences)
    learners = users[schema.TRAIN]
    train_starts, train_ends = starts[learners], (starts + sequences["train_events"].to_numpy())[learners]
    ids = user_ids.take(pa.array(learners)).to_pylist()
    negatives, counts = _draw(ids, items, train_starts, train_ends, sampler, num_negatives, seed)
    negative_edges = np.concatenate([[0], np.cumsum([drawn.size for drawn in negatives], dtype=np.int64)])
    features = {}
    features[schema.TRAIN] = {
        "user": scalars(first_user + learners),
        "item": item_varints.lists(train_starts, train_ends),
        "cluster": Varints(clusters).lists(train_starts, train_ends),
        "negatives": Varints(np.concatenate([np.zeros(0, np.int64), *map(np.ravel, negatives)])).lists(
            negative_edges[:-1], negative_edges[1:]
        ),
        **{feature.key: packed[feature].lists(train_starts, train_ends) for feature in inputs},
    }
    if train_from is not None:
        earlier = np.concatenate([[0], np.cumsum(values[TIME] < train_from, dtype=np.int64)])
        features[schema.TRAIN][schema.FIRST_TARGET] = scalars(earlier[train_ends] - earlier[train_starts])
    if WEIGHT in inputs:
        counts |= count_weights(values[WEIGHT], train_starts + 1, train_ends)  # the first event is no target
    held_out = [feature for feature in inputs if feature.form.in_held_out]
    of_target = [feature for feature in held_out if feature.form.of_target]
    for split in (schema.VALIDATION, schema.TEST):
        tested = users[split]
        targets = (starts + sequences[split].to_numpy())[tested]
        features[split] = {
            "user": scalars(first_user + tested),
            "item": item_varints.lists(starts[tested], targets),
            "target": item_varints.lists(targets, targets + 1),
            "target_cluster": scalars(clusters[targets]),
            **{feature.key: packed[feature].lists(starts[tested], targets) for feature in held_out},
            **{feature.target_key: packed[feature].lists(targets, targets + 1) for feature in of_target},
        }
    return features, counts


def _draw(
    user_ids: list[str],
    items: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    sampler: NegativeSampler,
    num_negatives: int,
    seed: int,
) -> tuple[list[np.ndarray], dict[str, int]]:
    """Returns the negatives `[T, R n]` of every user's training part, and the counts."""
    negatives = []
    counts = {"positions": int((ends - starts).sum()), REDRAWN: 0, EXACT: 0, EMPTY: 0}
    for user_id, start, end in zip(user_ids, starts.tolist(), ends.tolist(), strict=True):
        own = items[start:end]
        drawn, more = sampler.draw(user_generator(seed, random_key(user_id)), own, own, num_negatives)
        negatives.append(drawn)
        for name, count in more.items():
            counts[name] += count
    return negatives, counts


def _renumber(sequence_index: np.ndarray, table: ItemTable) -> np.ndarray:
    """Returns the item index of every event."""
    known = len(table.index_of_sequence)
    items = table.index_of_sequence[np.minimum(sequence_index, known - 1)]
    unknown = (sequence_index >= known) | (items == schema.PAD)
    if unknown.any():
        raise UserError(
            f"Expected every item of the sequences in the item table, sequence_index {sequence_index[unknown][0]} is "
            "not in it; cluster these sequences again."
        )
    return items


def _read_sequences(path: str, columns: list[str] | None = None) -> pa.Table:
    """Reads a file of a `features.sequence_schema`, all columns of it unless told which."""
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

    def job(flags, config, output, runner_args):
        refuse_unfinished(parent(flags.sequences))
        inputs = flags.sequences, flags.items, config.examples, config.seed
        return build_examples(*inputs, output, runner_args, config.data.first_trained)

    return run_command(parser, argv, job)


if __name__ == "__main__":
    # By its real name: what a worker unpickles must not live in the driver's `__main__`.
    from beam_jobs.examples import main as entry

    sys.exit(entry())
