"""Job 1: an interaction log -> one sequence per user, and the vocabulary of items.

    pieces of the log --ParDo--> events of a user bucket, as packed columns --GroupByKey--> filtered, sorted buckets
                        |- item counts --> items with enough events ------^                         |
                        |- malformed rows --> dead_letter/                                          |
                        '- figures                                  sequences/, vocabulary.parquet <'

All events of a user lie in one bucket, so one shuffle serves the item filter, the user filter and the sort. Elements
are blocks of packed columns; there is never a Python object per event.
"""

import argparse
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton, TaggedOutput

from beam_jobs.command import run_command
from beam_jobs.files import whole_file
from beam_jobs.item_details import DetailsFile, find_details
from beam_jobs.log_files import Log, Piece, cut, read_piece
from beam_jobs.log_formats import find_log
from beam_jobs.log_rows import EVENT_SCHEMA, dead_letter_line
from beam_jobs.packing import pack, unpack, unpack_all
from beam_jobs.pipeline import JobOptions, add_counts, options_of, run
from beam_jobs.progress import progress, steps
from beam_jobs.row_accounts import count_rows, figures_of, refuse_losses, refuse_malformed, refuse_nothing_left
from beam_jobs.shuffle import SetAside, scratch_folder
from beam_jobs.user_buckets import (
    HELD_OUT_SCHEMA,
    build_sequences,
    held_out_items,
    split_by_bucket,
    split_sha256,
    write_bucket,
)
from beam_jobs.vocabulary import (
    AddItemCounts,
    count_candidates,
    count_items,
    frequent_items,
    kept_items,
    write_vocabulary,
)
from tfdnc import schema
from tfdnc.config import DataConfig
from tfdnc.errors import UserError

_log = logging.getLogger(__name__)


def prepare(config: DataConfig, output: Path, runner_args: Sequence[str] = ()) -> dict:
    """Reads the log, drops what is malformed, does not count or is rare, and writes one sequence per user.

    Items with fewer than `min_item_events` rows that count go first, then users with fewer than `min_user_events`
    rows left, once. Events are ordered by time; equal times keep the order of the file, and of the files. A row that
    stands in the log twice is two events. Users are spread over `num_shards` files by a hash of their id, and within a
    file and in the vocabulary ids are sorted: numerically if all of them are integers, else by their UTF-8 bytes. An
    item whose users were all dropped is dropped too.

    Args:
        config: where the log is and which rows count.
        output: folder to fill with `schema.SEQUENCES`, `schema.VOCABULARY` and `schema.DEAD_LETTER`; the caller gives
            it its final name after this function has returned.
        runner_args: flags for Beam, such as `--direct_running_mode=multi_processing`, and `--chunk_bytes`.

    Returns:
        `rows_read`; `rows_malformed` by reason; `rows_filtered` by rule; `users`, `items` and `events` kept, so that
        read = malformed + filtered + events; `split_sha256` of one line "user validation-item test-item" per user,
        in numeric order if all user ids are integers, else lexicographic.

    Raises:
        UserError: the log is missing, empty, lacks a column, has too many malformed rows, or has no user left.
    """
    output = Path(output)
    log, details = find_log(config), find_details(config)
    options = options_of(runner_args)
    chunk_bytes = options.view_as(JobOptions).chunk_bytes
    if not 0 < chunk_bytes < 1 << 30:
        raise UserError(f"Expected --chunk_bytes between 1 and 2^30 - 1, got {chunk_bytes}.")
    _log.info("Reading %s", ", ".join(str(file.path) for file in log.files))
    (output / schema.DEAD_LETTER).mkdir(parents=True, exist_ok=True)
    build = partial(_build, config=config, log=log, details=details, output=output, chunk_bytes=chunk_bytes)
    with scratch_folder(output, options) as scratch:
        result = run(partial(build, scratch=scratch), output, options)
    figures = figures_of(result, log)
    refuse_malformed(figures, config, log, output)
    refuse_losses(result, figures, config)
    refuse_nothing_left(figures, config, log)
    return figures


def _build(
    pipeline: beam.Pipeline,
    config: DataConfig,
    log: Log,
    details: DetailsFile | None,
    output: Path,
    chunk_bytes: int,
    scratch: Path | None,
) -> beam.PCollection:
    """Adds the whole graph to the pipeline; returns its counts and split hash as one dict."""
    pieces = cut(log, chunk_bytes)
    _log.info("%d pieces of log", len(pieces), extra=steps(reading=len(pieces), sorting=config.num_shards))
    rows = (
        pipeline
        | "Pieces" >> beam.Create(pieces)
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.ParDo(ReadPiece(log, config.num_shards, chunk_bytes)).with_outputs()
    )
    frequent = (
        rows.items
        | "CountItems" >> beam.CombineGlobally(AddItemCounts())
        | "FrequentItems" >> beam.Map(frequent_items, config.min_item_events)
    )
    _ = (
        rows.malformed
        | "GatherMalformed" >> beam.GroupByKey()
        | "WriteMalformed" >> beam.Map(write_dead_letters, str(output / schema.DEAD_LETTER))
    )
    # A bucket without users still gets its file: readers count on `num_shards` of them.
    empty = pipeline | "Buckets" >> beam.Create([(bucket, ((-1, 0), b"")) for bucket in range(config.num_shards)])
    events = rows.events | "SetEventsAside" >> SetAside(scratch)
    buckets = (
        (events, empty)
        | "AllBuckets" >> beam.Flatten()
        | "GroupByBucket" >> beam.GroupByKey()
        | "FilterAndSort" >> beam.ParDo(FilterBucket(config.min_user_events), AsSingleton(frequent)).with_outputs()
    )
    counts = buckets.counts | "SetCountsAside" >> SetAside(scratch)
    kept = (
        pipeline
        | "Once" >> beam.Create([None])
        | "KeptItems"
        >> beam.Map(lambda _, candidates, counts: kept_items(candidates, counts), AsSingleton(frequent), AsIter(counts))
    )
    written = (
        buckets.sequences
        | "SetSequencesAside" >> SetAside(scratch)
        | "WriteSequences"
        >> beam.Map(write_bucket, AsSingleton(kept), str(output / schema.SEQUENCES), config.num_shards)
    )
    _ = kept | "WriteVocabulary" >> beam.Map(write_vocabulary, details, str(output / schema.VOCABULARY))
    figures = (rows.figures, buckets.figures, written) | "AllFigures" >> beam.Flatten()
    return kept | "Summarise" >> beam.Map(summarise, AsIter(figures), AsIter(buckets.held_out))


def summarise(packed_vocabulary: bytes, counts: Iterable[dict[str, int]], packed_held_out: Iterable[bytes]) -> dict:
    """Returns all counts of the job and the split hash."""
    vocabulary, held_out = unpack(packed_vocabulary), unpack_all(packed_held_out, HELD_OUT_SCHEMA)
    return {
        **add_counts(counts),
        "items": vocabulary.num_rows,
        "events of the vocabulary": int(vocabulary["events"].to_numpy().sum()),
        "users with held-out items": held_out.num_rows,
        "split_sha256": split_sha256(held_out, vocabulary),
    }


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
        self._log, self._num_buckets, self._chunk_bytes = log, num_buckets, chunk_bytes

    def process(
        self, piece: Piece
    ) -> Iterator[
        TaggedOutput[Literal["events"], tuple[int, tuple[tuple[int, int], bytes]]]
        | TaggedOutput[Literal["items"], bytes]
        | TaggedOutput[Literal["malformed"], tuple[str, tuple[int, str]]]
        | TaggedOutput[Literal["figures"], dict[str, int]]
    ]:
        """Yields the outputs of every block of the piece."""
        name = self._log.files[piece.file].path.name
        for rows in read_piece(self._log, piece, self._chunk_bytes):
            num_events, num_malformed = rows.events.num_rows, len(rows.malformed)
            _log.info(
                "%s at byte %d: %d events, %d malformed rows",
                *(name, rows.offset, num_events, num_malformed),
                extra=progress("reading", 0, rows=rows.num_rows, malformed=num_malformed),
            )
            if num_events:
                yield TaggedOutput("items", count_items(rows.events))
            for bucket, packed in split_by_bucket(rows.events, self._num_buckets):
                yield TaggedOutput("events", (bucket, ((piece.file, rows.offset), packed)))
            if num_malformed:
                lines = "".join(dead_letter_line(name, *row) for row in rows.malformed)
                yield TaggedOutput("malformed", (name, (rows.offset, lines)))
            yield TaggedOutput("figures", count_rows(rows))
        _log.info("%s from byte %d: read", name, piece.start, extra=progress("reading"))


class FilterBucket(beam.DoFn):
    """Filters and sorts the users of one bucket.

    Outputs:
        sequences: (bucket, packed `SEQUENCE_SCHEMA` with `candidate` indices, 1..N' in order of the frequent items).
        counts: packed (candidate, events) of the bucket's kept events.
        held_out: packed (user, validation candidate, test candidate).
        figures: counts of users and events.
    """

    def __init__(self, min_user_events: int):
        self._min_user_events = min_user_events

    def process(
        self, element: tuple[int, Iterable[tuple[tuple[int, int], bytes]]], frequent: bytes
    ) -> Iterator[
        TaggedOutput[Literal["sequences"], tuple[int, bytes]]
        | TaggedOutput[Literal["counts"], bytes]
        | TaggedOutput[Literal["held_out"], bytes]
        | TaggedOutput[Literal["figures"], dict[str, int]]
    ]:
        """Yields the outputs of a bucket."""
        bucket, pieces = element
        pieces = sorted(pieces, key=lambda piece: piece[0])  # file order, whatever order the shuffle brings
        events = unpack_all((packed for _, packed in pieces if packed), EVENT_SCHEMA)
        sequences, figures = build_sequences(events, unpack(frequent)["item_id"], self._min_user_events)
        users, num_events = figures["users"], figures["events"]
        extra = progress("sorting", users=users, events=num_events)
        _log.info("bucket %d: %d users, %d events", bucket, users, num_events, extra=extra)
        yield TaggedOutput("sequences", (bucket, pack(sequences)))
        yield TaggedOutput("counts", count_candidates(sequences))
        yield TaggedOutput("held_out", held_out_items(sequences))
        yield TaggedOutput("figures", figures)


def write_dead_letters(element: tuple[str, Iterable[tuple[int, str]]], folder: str) -> None:
    """Writes the malformed rows of one file of the log in file order."""
    name, blocks = element
    with whole_file(Path(folder) / f"{name}.jsonl") as path, open(path, "w", encoding="utf-8") as stream:
        stream.writelines(lines for _, lines in sorted(blocks))


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
