"""Job 1: an interaction log -> one sequence per user, and the vocabulary of items.

    pieces of the log --ParDo--> events of a user bucket, as packed columns --GroupByKey--> filtered, sorted buckets
                        |- item counts --> items with enough events ------^                         |
                        |- malformed rows --> dead_letter/                                          |
                        '- figures                                  sequences/, vocabulary.parquet <'

All events of a user lie in one bucket, so one shuffle serves every filter round and the sort: further rounds count the
items of the grouped buckets again. Elements are blocks of packed columns; there is never a Python object per event.
"""

import argparse
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from os import PathLike
from typing import Literal

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import AsIter, AsSingleton, TaggedOutput

from beam_jobs.command import run_command
from beam_jobs.event_rules import apply_rules, cuts_before_counting, events_of
from beam_jobs.files import absolute, join, make_folder, whole_file
from beam_jobs.item_accounts import DEAD_LETTERS, item_figures, refuse_malformed_items, warn_of_gaps
from beam_jobs.item_details import DetailsFile, find_details
from beam_jobs.logs.log_files import Log, Piece, cut, read_piece
from beam_jobs.logs.log_formats import find_log
from beam_jobs.logs.log_rows import EVENT_SCHEMA, dead_letter_line
from beam_jobs.packing import pack, unpack, unpack_all
from beam_jobs.pipeline import JobOptions, add_counts, options_of, run
from beam_jobs.progress import progress, steps
from beam_jobs.repetitions import count_repetitions, warn_of_repetitions
from beam_jobs.row_accounts import (
    count_rows,
    figures_of,
    first_dead_letters,
    refuse_empty_split,
    refuse_losses,
    refuse_malformed,
    refuse_nothing_left,
    warn_of_open_filter,
)
from beam_jobs.shuffle import SetAside, scratch_folder
from beam_jobs.splits import HELD_OUT_SCHEMA, count_targets, held_out_items, split_sha256
from beam_jobs.twin_ids import count_twin_items, refuse_twins
from beam_jobs.unit_of_times import warn_of_unit
from beam_jobs.user_buckets import build_sequences, split_by_bucket, write_bucket
from beam_jobs.vocabulary import (
    AddItemCounts,
    count_candidates,
    count_items,
    frequent_items,
    kept_items,
    settled,
    write_vocabulary,
)
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import log_features
from tfdnc.contracts.plugins import WithPlugins

_log = logging.getLogger(__name__)


def prepare(config: DataConfig, output: str | PathLike, runner_args: Sequence[str] = ()) -> dict:
    """Reads the log, drops what is malformed, does not count or is rare, and writes one sequence per user or session.

    `event_rules` says which events of a user stay, `splits` what of them is held out. Events are ordered by time; equal
    times keep the order of the file, and of the files. A row that stands in the log twice is two events, unless
    `duplicates` says drop. Users are
    spread over `num_shards` files by a hash of their id, and within a file and in the vocabulary ids are sorted:
    numerically if all of them are integers, else by their UTF-8 bytes. An item whose users were all dropped is dropped
    too.

    Args:
        config: where the log is and which rows count.
        output: folder to fill with `schema.SEQUENCES`, `schema.VOCABULARY` and `schema.DEAD_LETTER`, on a disk or in a
            store; finished when this function has returned, and not before.
        runner_args: flags for Beam, such as `--direct_running_mode=multi_processing`, and `--chunk_bytes`.

    Returns:
        `rows_read`; `lines_joined`, which go on with a row inside quotes; `rows_malformed` by reason; `rows_filtered`
        by rule; `filter_rounds`: how many of them `changed` something, and whether they `converged`, so that one more
        would change nothing; `twin_ids`: the users and items that are written in two ways, `7` and `7.0`; `users` (or
        sessions), `items` and `events` kept, so that read = malformed + filtered + events; `split`: the `train_events`,
        and per kind of target the users who have one and the targets that are `cold`, items without a training event;
        `times`: of the first and the last event, in the log's unit, 0 where the log has none; `days`: these as dates,
        None if they are none; `split_sha256` of one line "user validation-item test-item" per user, "-" for no target,
        in numeric order if all user ids are integers, else lexicographic; what `repetitions.repetition_figures` adds;
        `item_file`: what `item_accounts.item_figures` says of it, None without one.

    Raises:
        UserError: the log is missing, empty, lacks a column, has too many malformed rows or ids that are written in two
            ways, has no user left, or nothing for a part of the split.
    """
    output = absolute(output)
    log, details = find_log(config), find_details(config)
    options = options_of(runner_args)
    chunk_bytes = options.view_as(JobOptions).chunk_bytes
    if not 0 < chunk_bytes < 1 << 30:
        raise UserError(f"Expected --chunk_bytes between 1 and 2^30 - 1, got {chunk_bytes}.")
    names = ", ".join(log_file.file.path for log_file in log.files)
    _log.info("Reading %s", names, extra=steps(sorting=config.num_shards))
    make_folder(join(output, schema.DEAD_LETTER))
    build = partial(_build, config=config, log=log, details=details, output=output, chunk_bytes=chunk_bytes)
    with scratch_folder(output, options) as scratch:
        result = run(partial(build, scratch=scratch), output, options)
    figures = figures_of(result, config, log) | {"item_file": details and item_figures(result, details.file.name)}
    refuse_malformed(figures, config, log, output)
    if details:
        refuse_malformed_items(figures["item_file"], config, first_dead_letters(output, [DEAD_LETTERS]))
    refuse_losses(result, figures, config)
    refuse_twins(result, figures, log)
    refuse_nothing_left(figures, config, log)
    refuse_empty_split(figures, config)
    warn_of_repetitions(figures, config)
    warn_of_open_filter(figures, config)
    warn_of_unit(figures, config)
    if details:
        warn_of_gaps(figures["item_file"])
    return figures


def _build(
    pipeline: beam.Pipeline,
    config: DataConfig,
    log: Log,
    details: DetailsFile | None,
    output: str,
    chunk_bytes: int,
    scratch: str | None,
) -> beam.PCollection:
    """Adds the whole graph to the pipeline; returns its counts and split hash as one dict."""
    rows = (
        pipeline
        | "Files" >> beam.Create(range(len(log.files)))
        | "SpreadFiles" >> beam.Reshuffle()  # cutting may read a file to its end, to see whether it has quotes
        | "Cut" >> beam.FlatMap(cut_file, WithPlugins(log), chunk_bytes)
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.ParDo(ReadPiece(log, config.num_shards, chunk_bytes)).with_outputs()
    )
    _ = (
        rows.malformed
        | "GatherMalformed" >> beam.GroupByKey()
        | "WriteMalformed" >> beam.Map(write_dead_letters, join(output, schema.DEAD_LETTER))
    )
    # A bucket without users still gets its file, with the columns of the others: readers count on `num_shards` of them.
    no_events = ((-1, 0), pack(pa.RecordBatch.from_pylist([], schema=log.event_schema)))
    empty = pipeline | "Buckets" >> beam.Create([(bucket, no_events) for bucket in range(config.num_shards)])
    events = rows.events | "SetEventsAside" >> SetAside(scratch)
    grouped = (events, empty) | "AllBuckets" >> beam.Flatten() | "GroupByBucket" >> beam.GroupByKey()
    frequent, twins = _find_frequent(rows.items, grouped, config)
    buckets = grouped | "FilterAndSort" >> beam.ParDo(FilterBucket(config), *frequent).with_outputs()
    counts = buckets.counts | "SetCountsAside" >> SetAside(scratch)
    kept = (
        pipeline
        | "Once" >> beam.Create([None])
        | "KeptItems"
        >> beam.Map(lambda _, candidates, counts: kept_items(candidates, counts), frequent[-1], AsIter(counts))
    )
    written = (
        buckets.sequences
        | "SetSequencesAside" >> SetAside(scratch)
        | "WriteSequences"
        >> beam.Map(write_bucket, AsSingleton(kept), join(output, schema.SEQUENCES), config.num_shards)
    )
    more = config.catalogue == "items"
    described = kept | "WriteVocabulary" >> beam.Map(write_vocabulary, details, more, output)
    figures = (rows.figures, buckets.figures, written, twins, described) | "AllFigures" >> beam.Flatten()
    return kept | "Summarise" >> beam.Map(summarise, AsIter(figures), AsIter(buckets.held_out), AsIter(buckets.spans))


def _find_frequent(
    block_counts: beam.PCollection, grouped: beam.PCollection, config: DataConfig
) -> tuple[list[AsSingleton], beam.PCollection]:
    """Returns, per filter round, the items that are frequent among what the rounds before have left.

    And the counts of those that are written in two ways, before any is left out for being rare.
    """
    frequent, counts, twins = [], block_counts, None
    for number in range(1, config.filter_rounds + 1):
        if number > 1 or cuts_before_counting(config):
            counts = grouped | f"Recount{number}" >> beam.ParDo(CountBucket(config), *frequent)
        added = counts | f"CountItems{number}" >> beam.CombineGlobally(AddItemCounts())
        twins = twins or added | "TwinItems" >> beam.Map(count_twin_items)
        found = added | f"FrequentItems{number}" >> beam.Map(frequent_items, config.min_item_events, *frequent)
        frequent.append(AsSingleton(found))
    return frequent, twins


def summarise(
    packed_vocabulary: bytes,
    counts: Iterable[dict[str, int]],
    packed_held_out: Iterable[bytes],
    spans: Iterable[tuple[int, int]],
) -> dict:
    """Returns all counts of the job, the first and last time, and the split hash."""
    vocabulary, held_out = unpack(packed_vocabulary), unpack_all(packed_held_out, HELD_OUT_SCHEMA)
    times = [time for span in spans for time in span]
    return {
        **add_counts(counts),
        "items": vocabulary.num_rows,
        "events of the vocabulary": int(vocabulary["events"].to_numpy().sum()),
        "events of the rarest item": pc.min(vocabulary["events"]).as_py() or 0,
        "train_events": int(vocabulary["train_events"].to_numpy().sum()),
        "users of the split": held_out.num_rows,
        **count_targets(held_out, vocabulary),
        "times": [min(times), max(times)] if times else None,
        "split_sha256": split_sha256(held_out, vocabulary),
    }


def cut_file(number: int, sent: WithPlugins, chunk_bytes: int) -> list[Piece]:
    """Returns the pieces of one file of the log that was `sent`, in order."""
    log: Log = sent.value
    pieces = list(cut(log, number, chunk_bytes))
    _log.info("%s: %d pieces", log.names[number], len(pieces), extra=steps(reading=len(pieces)))
    return pieces


class ReadPiece(beam.DoFn):
    """Reads a piece of the log.

    Outputs:
        events: (bucket, (place of the block, packed events of the bucket's users in file order)); a place is
            (number of the file, offset in it).
        items: packed (item id, events) of a block.
        malformed: (file name, (offset of the block, JSON lines)).
        figures: counts of rows.
    """

    def __init__(self, log: Log, num_buckets: int, chunk_bytes: int):
        self._sent, self._num_buckets, self._chunk_bytes = WithPlugins(log), num_buckets, chunk_bytes

    def process(
        self, piece: Piece
    ) -> Iterator[
        TaggedOutput[Literal["events"], tuple[int, tuple[tuple[int, int], bytes]]]
        | TaggedOutput[Literal["items"], bytes]
        | TaggedOutput[Literal["malformed"], tuple[str, tuple[int, str]]]
        | TaggedOutput[Literal["figures"], dict[str, int]]
    ]:
        """Yields the outputs of every block of the piece."""
        log: Log = self._sent.value
        name = log.names[piece.file]
        for rows in read_piece(log, piece, self._chunk_bytes):
            num_events, num_malformed = rows.events.num_rows, len(rows.malformed)
            _log.info(
                "%s at %d: %d events, %d malformed rows",
                *(name, rows.offset, num_events, num_malformed),
                extra=progress("reading", 0, rows=rows.num_rows, malformed=num_malformed),
            )
            if num_events:
                items = rows.events["item"]
                yield TaggedOutput("items", count_items(items.dictionary, items.indices.to_numpy()))
            for bucket, packed in split_by_bucket(rows.events, self._num_buckets):
                yield TaggedOutput("events", (bucket, ((piece.file, rows.offset), packed)))
            if num_malformed:
                lines = "".join(dead_letter_line(name, *row) for row in rows.malformed)
                yield TaggedOutput("malformed", (name, (rows.offset, lines)))
            yield TaggedOutput("figures", count_rows(rows))
        _log.info("%s from %d: read", name, piece.start, extra=progress("reading"))


Bucket = tuple[int, Iterable[tuple[tuple[int, int], bytes]]]
"""Number of a bucket, and the places and packed events of its pieces, in whatever order the shuffle brings them."""


def _events_of_bucket(bucket: Bucket) -> pa.Table:
    """Returns the log's `event_schema` in file order."""
    pieces = sorted(bucket[1], key=lambda piece: piece[0])
    return unpack_all((packed for _, packed in pieces), EVENT_SCHEMA)


class CountBucket(beam.DoFn):
    """Gives the packed (item id, events) of what the rules, and the filter rounds so far, leave of a bucket."""

    def __init__(self, config: DataConfig):
        self._config = config

    def process(self, element: Bucket, *frequent) -> Iterator[bytes]:
        """Yields the counts of a bucket, unless they cannot change any more."""
        if settled(frequent):
            return
        item_ids = [unpack(packed)["item_id"] for packed in frequent]
        events = events_of(_events_of_bucket(element), log_features(self._config))
        left, _ = apply_rules(events, self._config, item_ids)
        yield count_items(left.item_ids, left.item)


class FilterBucket(beam.DoFn):
    """Filters and sorts the users of one bucket.

    Outputs:
        sequences: (bucket, packed sequences with `candidate` indices, 1..N' in order of the frequent items).
        counts: packed (candidate, events, training events) of the bucket.
        held_out: packed (user, validation candidate, test candidate).
        spans: first and last time, if there is one.
        figures: counts of users and events.
    """

    def __init__(self, config: DataConfig):
        self._config = config

    def process(
        self, element: Bucket, *frequent
    ) -> Iterator[
        TaggedOutput[Literal["sequences"], tuple[int, bytes]]
        | TaggedOutput[Literal["counts"], bytes]
        | TaggedOutput[Literal["held_out"], bytes]
        | TaggedOutput[Literal["spans"], tuple[int, int]]
        | TaggedOutput[Literal["figures"], dict[str, int]]
    ]:
        """Yields the outputs of a bucket."""
        bucket, item_ids = element[0], [unpack(packed)["item_id"] for packed in frequent]
        sequences, figures = build_sequences(_events_of_bucket(element), item_ids, self._config)
        users, num_events = figures["users"], figures["events"]
        extra = progress("sorting", users=users, events=num_events)
        _log.info("bucket %d: %d users, %d events", bucket, users, num_events, extra=extra)
        yield TaggedOutput("sequences", (bucket, pack(sequences)))
        yield TaggedOutput("counts", count_candidates(sequences))
        yield TaggedOutput("held_out", held_out_items(sequences))
        if num_events:
            span = pc.min_max(sequences["times"].flatten())
            yield TaggedOutput("spans", (span["min"].as_py(), span["max"].as_py()))
        yield TaggedOutput("figures", figures | count_repetitions(sequences, self._config.has_times))


def write_dead_letters(element: tuple[str, Iterable[tuple[int, str]]], folder: str) -> None:
    """Writes the malformed rows of one file of the log in file order."""
    name, blocks = element
    with whole_file(join(folder, f"{name}.jsonl")) as stream:
        stream.writelines(lines.encode() for _, lines in sorted(blocks))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job alone: `python -m beam_jobs.sequences --config X.yaml --output DIR [--runner=...]`."""
    parser = argparse.ArgumentParser(description="Interaction log -> sequences and vocabulary.")
    return run_command(
        parser, argv, lambda flags, config, output, runner_args: prepare(config.data, output, runner_args)
    )


if __name__ == "__main__":
    # By its real name: what a worker unpickles must not live in the driver's `__main__`.
    from beam_jobs.sequences import main as entry

    sys.exit(entry())
