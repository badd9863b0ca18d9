"""Job 1: an interaction log -> one sequence per user, and the vocabulary of items.

    pieces of the log --ParDo--> events of a user bucket, as packed columns --GroupByKey--> filtered, sorted buckets
                        |- item counts --> items with enough events ------^                         |
                        |- malformed rows --> dead_letter/                                          |
                        '- figures                                  sequences/, vocabulary.parquet <'

All events of a user are in one bucket, so one shuffle serves every filter round and the sort: further rounds count the
items of the grouped buckets again. Elements are blocks of packed columns; there is never a Python object per event.
"""

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from os import PathLike
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import AsIter, AsSingleton

from beam_jobs.command import run_command
from beam_jobs.event_rules import cuts_before_counting
from beam_jobs.files import absolute, join, make_folder, whole_file
from beam_jobs.input_steps import with_inputs
from beam_jobs.input_values import COUNT, has_values, read_values, warn_of_targets
from beam_jobs.item_accounts import DEAD_LETTERS, item_figures, refuse_malformed_items, warn_of_gaps
from beam_jobs.item_details import DetailsFile, find_details
from beam_jobs.kept_reads import KeptReads, WholeFiles
from beam_jobs.logs.log_files import Log
from beam_jobs.logs.log_formats import find_log
from beam_jobs.packing import pack, unpack, unpack_all
from beam_jobs.pipeline import JobOptions, add_counts, options_of, run
from beam_jobs.progress import steps
from beam_jobs.repetitions import warn_of_repetitions
from beam_jobs.row_accounts import (
    figures_of,
    first_dead_letters,
    refuse_empty_split,
    refuse_losses,
    refuse_malformed,
    refuse_nothing_left,
    warn_of_exposures,
    warn_of_open_filter,
)
from beam_jobs.sequence_steps import CountBucket, FilterBucket, ReadPiece, cut_file
from beam_jobs.shuffle import SetAside, scratch_folder
from beam_jobs.splits import HELD_OUT_SCHEMA, count_targets, split_sha256
from beam_jobs.twin_ids import count_twin_items, refuse_twins
from beam_jobs.unit_of_times import warn_of_unit
from beam_jobs.user_accounts import DEAD_LETTERS as USER_DEAD_LETTERS
from beam_jobs.user_accounts import refuse_bad_users, user_figures, warn_of_unknown_users
from beam_jobs.user_buckets import write_bucket
from beam_jobs.user_details import UsersFile, find_users
from beam_jobs.vocabulary import AddItemCounts, frequent_items, kept_items, write_vocabulary
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.plugins import WithPlugins

_log = logging.getLogger(__name__)


def prepare(
    config: DataConfig,
    output: str | PathLike[str],
    runner_args: Sequence[str] = (),
    kept: KeptReads | None = None,
) -> dict[str, Any]:
    """Reads the log, leaves out malformed rows and the events that the rules exclude, and writes the sequences.

    There is one sequence per user or session. `event_rules` chooses its events, `splits` those that are held out.
    Events are ordered by time; equal times keep the order of the rows and files. Equal rows are separate events, unless
    `data.duplicates` is `drop`. A hash of the id distributes the users over `num_shards` files. Ids are sorted within a
    file and in the vocabulary: as numbers if all are integers, else by their UTF-8 bytes. An item is left out if all
    its users are.

    Args:
        config: location of the log, and the rules.
        output: folder to fill with `schema.SEQUENCES`, `schema.VOCABULARY` and `schema.DEAD_LETTER`, on a disk or in a
            store; complete only when this function has returned.
        runner_args: flags for Beam, such as `--direct_running_mode=multi_processing`, and `--chunk_bytes`.
        kept: results of reading the same files earlier, to be used and completed; no byte of the output depends on it.

    Returns:
        - `rows_read` = malformed + filtered + `events` + `rows` of `exposures`.
        - `lines_joined`: lines that continue a row inside quotes.
        - `rows_malformed`: number by reason; `rows_filtered`: number by rule.
        - `filter_rounds`: number of rounds that `changed` something, and whether they `converged`, so that one more
          round would change nothing.
        - `twin_ids`: number of users and items that are written in two ways, `7` and `7.0`.
        - `users` (or sessions), `items` and `events`: numbers of the kept ones.
        - `split`: `train_events`, and per kind of target the `users` with one and the `cold` targets, whose items have
          no training event; with `split: time` also the number of users `without_history`, whose first event is in the
          window of that kind, and who have no target in it.
        - `times`: times of the first and last event, in the log's unit, 0 in a log without times; `days`: these as
          dates, None if they are no dates.
        - `split_sha256`: see `splits.split_sha256`.
        - `equal_events` and `seen_targets`: see `repetitions.repetition_figures`.
        - `item_file`: see `item_accounts.item_figures`; None without an item file.
        - `kept_reads`, only with `kept`: number of `files` of the log, `reused` ones that were not read, and the
          `bytes` that are now kept of the log.
        - `user_file`: see `user_accounts.user_figures`, only with `data.users`.
        - `input_values`: number of known values by input, only with inputs of kind `value`.
        - `exposures`: see `exposures.exposure_figures`, only with `data.exposures`; these rows are no `events`.

    Raises:
        UserError: the log is missing or empty, lacks a column, or has too many malformed rows or ids that are written
            in two ways; or there is no user, or an empty part of the split.
    """
    output = absolute(output)
    log, details, users = find_log(config), find_details(config), find_users(config)
    options = options_of(runner_args)
    chunk_bytes = options.view_as(JobOptions).chunk_bytes
    if not 0 < chunk_bytes < 1 << 30:
        raise UserError(f"Expected --chunk_bytes between 1 and 2^30 - 1, got {chunk_bytes}.")
    names = ", ".join(log_file.file.path for log_file in log.files)
    _log.info("Reading %s", names, extra=steps(sorting=config.num_shards))
    make_folder(join(output, schema.DEAD_LETTER))
    build = partial(
        _build, config=config, log=log, details=details, users=users, output=output, chunk_bytes=chunk_bytes
    )
    with scratch_folder(output, options) as scratch, kept.in_use() if kept else nullcontext():
        whole = kept.whole_files(chunk_bytes) if kept else None
        result = run(partial(build, whole=whole, scratch=scratch), output, options)
        of_reading = whole and whole.figures()
    figures = figures_of(result, config, log) | {"item_file": details and item_figures(result, details.file.name)}
    figures |= {"kept_reads": of_reading} if of_reading else {}
    if has_values(config):
        figures["input_values"] = {
            name.removeprefix(COUNT): count for name, count in result.items() if name.startswith(COUNT)
        }
    refuse_malformed(figures, config, log, output)
    if users:
        figures["user_file"] = user_figures(result, users.file.name)
        refuse_bad_users(figures["user_file"], config, first_dead_letters(output, [USER_DEAD_LETTERS]))
        warn_of_unknown_users(figures["user_file"])
    if details:
        refuse_malformed_items(figures["item_file"], config, first_dead_letters(output, [DEAD_LETTERS]))
    refuse_losses(result, figures, config)
    refuse_twins(result, figures, log)
    refuse_nothing_left(figures, config, log)
    if config.targets:
        warn_of_targets(read_values(output), config)
    refuse_empty_split(figures, config)
    warn_of_repetitions(figures, config)
    warn_of_open_filter(figures, config)
    warn_of_exposures(figures, config)
    warn_of_unit(figures, config)
    if details:
        warn_of_gaps(figures["item_file"])
    return figures


def _build(
    pipeline: beam.Pipeline,
    config: DataConfig,
    log: Log,
    details: DetailsFile | None,
    users: UsersFile | None,
    output: str,
    chunk_bytes: int,
    whole: WholeFiles | None,
    scratch: str | None,
) -> beam.PCollection:
    """Adds the whole graph to the pipeline; returns a collection of one dict, the result of `summarise`."""
    rows = (
        pipeline
        | "Files" >> beam.Create(range(len(log.files)))
        | "SpreadFiles" >> beam.Reshuffle()  # to cut a file may mean to search all of it for quotes
        | "Cut" >> beam.FlatMap(cut_file, WithPlugins(log), chunk_bytes, whole and whole.kept)
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.ParDo(ReadPiece(log, config.num_shards, chunk_bytes, whole)).with_outputs()
    )
    _ = (
        rows.malformed
        | "GatherMalformed" >> beam.GroupByKey()
        | "WriteMalformed" >> beam.Map(write_dead_letters, join(output, schema.DEAD_LETTER))
    )
    # A bucket without users gets a file with the same columns, because readers expect `num_shards` files.
    no_events = ((-1, 0), pack(pa.RecordBatch.from_pylist([], schema=log.event_schema)))
    empty = pipeline | "Buckets" >> beam.Create([(bucket, no_events) for bucket in range(config.num_shards)])
    events = rows.events | "SetEventsAside" >> SetAside(scratch)
    grouped = (events, empty) | "AllBuckets" >> beam.Flatten() | "GroupByBucket" >> beam.GroupByKey()
    frequent, twins = _find_frequent(rows.items, grouped, config, whole)
    buckets = grouped | "FilterAndSort" >> beam.ParDo(FilterBucket(config, whole), *frequent).with_outputs()
    counts = buckets.counts | "SetCountsAside" >> SetAside(scratch)
    kept = (
        pipeline
        | "Once" >> beam.Create([None])
        | "KeptItems"
        >> beam.Map(lambda _, candidates, counts: kept_items(candidates, counts), frequent[-1], AsIter(counts))
    )
    sequences, more_figures = with_inputs(pipeline, buckets.sequences, config, users, output, scratch)
    written = sequences | "WriteSequences" >> beam.Map(
        write_bucket, AsSingleton(kept), join(output, schema.SEQUENCES), config.num_shards
    )
    more = config.catalogue == "items"
    described = kept | "WriteVocabulary" >> beam.Map(write_vocabulary, details, more, output)
    all_figures = (rows.figures, buckets.figures, written, twins, described, *more_figures)
    figures = all_figures | "AllFigures" >> beam.Flatten()
    return kept | "Summarise" >> beam.Map(summarise, AsIter(figures), AsIter(buckets.held_out), AsIter(buckets.spans))


def _find_frequent(
    block_counts: beam.PCollection, grouped: beam.PCollection, config: DataConfig, whole: WholeFiles | None
) -> tuple[list[AsSingleton], beam.PCollection]:
    """Returns the frequent items of every filter round, and the counts of items that are written in two ways.

    Frequent items of a round have enough events among those that the earlier rounds left. The second are counted
    before the first round, so that no item is left out yet.
    """
    frequent: list[AsSingleton] = []
    counts, twins = block_counts, None
    for number in range(1, config.filter_rounds + 1):
        if number > 1 or cuts_before_counting(config):
            counts = grouped | f"Recount{number}" >> beam.ParDo(CountBucket(config, whole), *frequent)
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
) -> dict[str, Any]:
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
    # Imported by name, because workers cannot unpickle functions of the driver's `__main__`.
    from beam_jobs.sequences import main as entry

    sys.exit(entry())
