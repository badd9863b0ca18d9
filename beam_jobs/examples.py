"""Job 2: sequences + clustered items -> training, validation and test records. No shuffle: a file in, three files out.

train        one record per user: the training part, its clusters, n negatives per item
validation   history = training part, target = last but one
test         history = training part and validation item, target = last
"""

import argparse
import hashlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.pvalue import AsIter

from beam_jobs.command import run_command
from beam_jobs.ids import random_key
from beam_jobs.item_table import ItemTable, read_item_table, refuse_other_log
from beam_jobs.negatives import EMPTY, EXACT, NEGATIVE_SAMPLERS, REDRAWN, NegativeSampler, user_generator
from beam_jobs.pipeline import add_counts, options_of, run
from beam_jobs.tfrecord import Int64Lists, Varints, encode_examples, scalars, write_records
from tfdnc import schema
from tfdnc.config import ExamplesConfig
from tfdnc.errors import UserError

_log = logging.getLogger(__name__)

SPLITS = (schema.TRAIN, schema.VALIDATION, schema.TEST)

Shard = tuple[int, str, int]
"""Number of a sequence file, its path, and the index of its first user."""


def build_examples(
    sequences: Path,
    item_table: Path,
    config: ExamplesConfig,
    seed: int,
    output: Path,
    runner_args: Sequence[str] = (),
) -> dict:
    """Writes the records of every user.

    A user's negatives depend on the seed, the user's id and items, the item table and the sampler's config only; so
    the same inputs give the same bytes on any runner. A user with a single training item gets a train record too: it
    has no history to learn from, and the trainer passes it over.

    Args:
        sequences: folder of `schema.SEQUENCES`; where a `schema.VOCABULARY` stands beside it, it has the same items.
        item_table: file of `schema.ITEM_SCHEMA`.
        config: the negative sampler and its parameters.
        seed: of the negatives.
        output: folder to fill with `train/`, `validation/` and `test/`, one shard per sequence file; the caller gives
            it its final name after this function has returned.
        runner_args: flags for Beam.

    Returns:
        `records` per split; `positions`: training items, each of which has a row of negatives; `negatives`: how many
        were `drawn`, of these by the `exact` path, the `redrawn` proposals, and the `empty` places (`PAD`) beside the
        drawn ones; `sha256` per split, of its shards one after the other.

    Raises:
        UserError: an input is missing, damaged or does not belong to the others; the sampler is unknown.
    """
    sequences, output = Path(sequences), Path(output)
    NEGATIVE_SAMPLERS.resolve(config.sampler)
    read_item_table(item_table)
    refuse_other_log(item_table, sequences)
    shards, num_users = find_shards(sequences)

    def build(pipeline: beam.Pipeline) -> beam.PCollection:
        counts = (
            pipeline
            | "Shards" >> beam.Create(shards)
            | "Spread" >> beam.Reshuffle()
            | "Encode" >> beam.ParDo(EncodeShard(Path(item_table), config, seed, output, len(shards)))
        )
        once = pipeline | "Once" >> beam.Create([None])
        return once | "Sum" >> beam.Map(lambda _, counts: add_counts(counts), AsIter(counts))

    counts = run(build, output, options_of(runner_args))
    for split in SPLITS:
        # Runners have lost elements in silence (see `pipeline`).
        if counts.get(split) != num_users:
            raise RuntimeError(
                f"Expected {num_users} {split} records, found {counts.get(split)}: the runner lost data."
            )
    return {
        "records": {split: counts[split] for split in SPLITS},
        "positions": counts["positions"],
        "negatives": {
            "drawn": counts["positions"] * config.num_negatives - counts[EMPTY],
            **{name: counts[name] for name in (EXACT, REDRAWN, EMPTY)},
        },
        "sha256": {split: split_sha256(output / split, len(shards)) for split in SPLITS},
    }


def find_shards(sequences: Path) -> tuple[list[Shard], int]:
    """Returns the sequence files of a folder, and how many users they hold; users are numbered in their order.

    Raises:
        UserError: a file is missing or damaged, or there is no user at all.
    """
    paths = sorted(sequences.glob("part-*.parquet"))
    if not paths:
        raise UserError(f"Expected sequence files (part-*.parquet) in {sequences}, found none; run prepare first.")
    num_shards = int(paths[0].stem.rpartition("-")[2])
    expected = [schema.shard_name(shard, num_shards, "parquet") for shard in range(num_shards)]
    if [path.name for path in paths] != expected:
        raise UserError(
            f"Expected the {num_shards} files {expected[0]} .. {expected[-1]} in {sequences}, found {len(paths)} that "
            "are not these; run prepare again."
        )
    shards, first_user = [], 0
    for shard, path in enumerate(paths):
        try:
            num_users = pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from error
        shards.append((shard, str(path), first_user))
        first_user += num_users
    if not first_user:
        raise UserError(f"Expected users in {sequences}, found none; run prepare again.")
    return shards, first_user


class EncodeShard(beam.DoFn):
    """Turns a sequence file into one shard of every split; gives the counts."""

    def __init__(self, item_table: Path, config: ExamplesConfig, seed: int, output: Path, num_shards: int):
        self._item_table, self._config, self._seed = item_table, config, seed
        self._output, self._num_shards = output, num_shards

    def setup(self):
        """Reads the item table; by its path, because a large one would be heavy as a side input."""
        self._table = read_item_table(self._item_table)
        self._sampler = NEGATIVE_SAMPLERS.resolve(self._config.sampler)(self._table, self._config)

    def process(self, element: Shard):
        """Yields the counts of one file."""
        shard, path, first_user = element
        splits, counts = encode_users(_read_sequences(Path(path)), first_user, self._table, self._sampler, self._seed)
        name = schema.shard_name(shard, self._num_shards, "tfrecord")
        for split, features in splits.items():
            counts[split] = write_records(self._output / split / name, encode_examples(features))
        _log.info(
            "shard %d of %d: %d users, %d positions", shard, self._num_shards, counts["train"], counts["positions"]
        )
        yield counts


def encode_users(
    sequences: pa.Table, first_user: int, table: ItemTable, sampler: NegativeSampler, seed: int
) -> tuple[dict[str, dict[str, Int64Lists]], dict[str, int]]:
    """Encodes the users of one file.

    Args:
        sequences: `schema.SEQUENCE_SCHEMA`.
        first_user: index of the first user.
        table: of the items.
        sampler: of the negatives.
        seed: of the negatives.

    Returns:
        The features of every split, and the counts.
    """
    lists = sequences["items"].combine_chunks()
    edges = lists.offsets.to_numpy().astype(np.int64)  # [R + 1]
    starts, ends = edges[:-1], edges[1:]
    items = _renumber(lists.values.to_numpy(), table)
    clusters = table.cluster[items]
    if len(starts) and (ends - starts).min() <= schema.HELD_OUT:
        raise UserError(f"Expected users with more than {schema.HELD_OUT} events, found one with fewer; prepare again.")
    train_ends, test = ends - schema.HELD_OUT, ends - 1
    negatives, counts = _draw(sequences["user_id"].to_pylist(), items, starts, train_ends, sampler, seed)
    item_varints, users = Varints(items), scalars(first_user + np.arange(len(starts)))
    negative_edges = np.concatenate([[0], np.cumsum([drawn.size for drawn in negatives], dtype=np.int64)])
    train = {
        "user": users,
        "item": item_varints.lists(starts, train_ends),
        "cluster": Varints(clusters).lists(starts, train_ends),
        "negatives": Varints(np.concatenate([np.zeros(0, np.int64), *map(np.ravel, negatives)])).lists(
            negative_edges[:-1], negative_edges[1:]
        ),
    }
    validation, test = (
        {
            "user": users,
            "item": item_varints.lists(starts, targets),
            "target": item_varints.lists(targets, targets + 1),
            "target_cluster": scalars(clusters[targets]),
        }
        for targets in (train_ends, test)
    )
    return {schema.TRAIN: train, schema.VALIDATION: validation, schema.TEST: test}, counts


def _draw(
    user_ids: list[str], items: np.ndarray, starts: np.ndarray, ends: np.ndarray, sampler: NegativeSampler, seed: int
) -> tuple[list[np.ndarray], dict[str, int]]:
    """Returns the negatives `[T, n]` of every user's training part, and the counts."""
    negatives = []
    counts = {"positions": int((ends - starts).sum()), REDRAWN: 0, EXACT: 0, EMPTY: 0}
    for user_id, start, end in zip(user_ids, starts.tolist(), ends.tolist(), strict=True):
        drawn, more = sampler.draw(user_generator(seed, random_key(user_id)), items[start:end])
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


def _read_sequences(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    if table.schema != schema.SEQUENCE_SCHEMA:
        raise _damaged(path, f"its columns are {', '.join(table.schema.names)}")
    return table


def _damaged(path: Path, error: object) -> UserError:
    return UserError(
        f"Expected a whole Parquet file of sequences at {path}, could not read it: {error}; prepare again."
    )


def split_sha256(folder: Path, num_shards: int) -> str:
    """Returns the SHA-256 of the folder's shards, one after the other."""
    digest = hashlib.sha256()
    for shard in range(num_shards):
        with open(folder / schema.shard_name(shard, num_shards, "tfrecord"), "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job alone: `python -m beam_jobs.examples --config X.yaml --sequences DIR --items FILE --output DIR`."""
    parser = argparse.ArgumentParser(description="Sequences and clustered items -> training and evaluation records.")
    parser.add_argument("--sequences", required=True, type=Path, help="folder of sequence files")
    parser.add_argument("--items", required=True, type=Path, help="Parquet file of clustered items")

    def job(flags, config, output, runner_args):
        return build_examples(flags.sequences, flags.items, config.examples, config.seed, output, runner_args)

    return run_command(parser, argv, job)


if __name__ == "__main__":
    # By its real name: what a worker unpickles must not live in the driver's `__main__`.
    from beam_jobs.examples import main as entry

    sys.exit(entry())
