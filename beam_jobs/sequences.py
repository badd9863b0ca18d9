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
from beam_jobs.log_files import LogFile, Piece, cut, find_log, read_piece
from beam_jobs.log_rows import EVENT_SCHEMA, Rows, dead_letter_line
from beam_jobs.packing import pack, unpack, unpack_all
from beam_jobs.pipeline import JobOptions, add_counts, options_of, run
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

_MALFORMED = "malformed: "  # prefix of the counts of malformed rows by reason


def prepare(config: DataConfig, output: Path, runner_args: Sequence[str] = ()) -> dict:
    """Reads the log, drops what is malformed or rare, and writes one sequence per user.

    Items with fewer than `min_item_events` well-formed rows go first, then users with fewer than `min_user_events`
    rows left, once. Events are ordered by time; equal times keep the order of the file. Users are spread over
    `num_shards` files by a hash of their id, and within a file and in the vocabulary ids are sorted: numerically if
    all of them are integers, else by their UTF-8 bytes. An item whose users were all dropped is dropped too.

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
    _log.info("Reading %s", log.path)
    (output / schema.DEAD_LETTER).mkdir(parents=True, exist_ok=True)
    build = partial(_build, config=config, log=log, details=details, output=output, chunk_bytes=chunk_bytes)
    result = run(build, output, options)
    figures = _figures(result)
    _refuse_malformed(figures, config, log, output)
    _refuse_losses(result, figures, config)
    if not figures["users"]:
        raise UserError(_nothing_left(figures, config, log))
    return figures


def _build(
    pipeline: beam.Pipeline, config: DataConfig, log: LogFile, details: DetailsFile | None, output: Path, chunk_bytes
) -> beam.PCollection:
    """Adds the whole graph to the pipeline; returns its counts and split hash as one dict."""
    rows = (
        pipeline
        | "Pieces" >> beam.Create(cut(log, chunk_bytes))
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
    empty = pipeline | "Buckets" >> beam.Create([(bucket, (-1, b"")) for bucket in range(config.num_shards)])
    buckets = (
        (rows.events, empty)
        | "AllBuckets" >> beam.Flatten()
        | "GroupByBucket" >> beam.GroupByKey()
        | "FilterAndSort" >> beam.ParDo(FilterBucket(config.min_user_events), AsSingleton(frequent)).with_outputs()
    )
    kept = (
        pipeline
        | "Once" >> beam.Create([None])
        | "KeptItems"
        >> beam.Map(
            lambda _, candidates, counts: kept_items(candidates, counts), AsSingleton(frequent), AsIter(buckets.counts)
        )
    )
    written = buckets.sequences | "WriteSequences" >> beam.Map(
        write_bucket, AsSingleton(kept), str(output / schema.SEQUENCES), config.num_shards
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
        events: (bucket, (offset of the block, packed events of the bucket's users in file order)).
        items: packed (item id, events) of a block.
        malformed: (file name, (offset of the block, JSON lines)).
        figures: counts of rows.
    """

    def __init__(self, log: LogFile, num_buckets: int, chunk_bytes: int):
        self._log, self._num_buckets, self._chunk_bytes = log, num_buckets, chunk_bytes

    def process(
        self, piece: Piece
    ) -> Iterator[
        TaggedOutput[Literal["events"], tuple[int, tuple[int, bytes]]]
        | TaggedOutput[Literal["items"], bytes]
        | TaggedOutput[Literal["malformed"], tuple[str, tuple[int, str]]]
        | TaggedOutput[Literal["figures"], dict[str, int]]
    ]:
        """Yields the outputs of every block of the piece."""
        name = self._log.path.name
        for rows in read_piece(self._log, piece, self._chunk_bytes):
            num_events, num_malformed = rows.events.num_rows, len(rows.malformed)
            _log.info("%s at byte %d: %d rows, %d malformed", name, rows.offset, num_events, num_malformed)
            if num_events:
                yield TaggedOutput("items", count_items(rows.events))
            for bucket, packed in split_by_bucket(rows.events, self._num_buckets):
                yield TaggedOutput("events", (bucket, (rows.offset, packed)))
            if num_malformed:
                lines = "".join(dead_letter_line(name, *row) for row in rows.malformed)
                yield TaggedOutput("malformed", (name, (rows.offset, lines)))
            yield TaggedOutput("figures", _row_figures(rows))


def _row_figures(rows: Rows) -> dict[str, int]:
    reasons = [{_MALFORMED + reason: 1} for _, _, reason in rows.malformed]
    return add_counts([{"rows_read": rows.events.num_rows + len(rows.malformed)}, *reasons])


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
        self, element: tuple[int, Iterable[tuple[int, bytes]]], frequent: bytes
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
        _log.info("bucket %d: %d users, %d events", bucket, figures["users"], figures["events"])
        yield TaggedOutput("sequences", (bucket, pack(sequences)))
        yield TaggedOutput("counts", count_candidates(sequences))
        yield TaggedOutput("held_out", held_out_items(sequences))
        yield TaggedOutput("figures", figures)


def write_dead_letters(element: tuple[str, Iterable[tuple[int, str]]], folder: str) -> None:
    """Writes the malformed rows of one log file in file order."""
    name, blocks = element
    with whole_file(Path(folder) / f"{name}.jsonl") as path, open(path, "w", encoding="utf-8") as stream:
        stream.writelines(lines for _, lines in sorted(blocks))


def _figures(result: dict) -> dict:
    malformed = {name.removeprefix(_MALFORMED): n for name, n in result.items() if name.startswith(_MALFORMED)}
    rules = ("min_item_events", "min_user_events")
    return {
        "rows_read": result.get("rows_read", 0),
        "rows_malformed": malformed,
        "rows_filtered": {rule: result[f"filtered: {rule}"] for rule in rules},
        "users": result["users"],
        "items": result["items"],
        "events": result["events"],
        "split_sha256": result["split_sha256"],
    }


def _refuse_malformed(figures: dict, config: DataConfig, log: LogFile, output: Path) -> None:
    read, malformed = figures["rows_read"], sum(figures["rows_malformed"].values())
    if not read:
        raise UserError(f"Expected events in {log.path}, found no rows.")
    if malformed <= config.max_malformed_share * read:
        return
    with open(output / schema.DEAD_LETTER / f"{log.path.name}.jsonl", encoding="utf-8") as stream:
        first = "".join(line for line, _ in zip(stream, range(3), strict=False))
    reasons = ", ".join(f"{reason}: {count}" for reason, count in figures["rows_malformed"].items())
    raise UserError(
        f"Expected at most {config.max_malformed_share:.2%} malformed rows in {log.path}, found {malformed / read:.2%} "
        f"({malformed} of {read}; {reasons}). Mend the log, check data.columns, or raise data.max_malformed_share. "
        f"The first ones:\n{first.rstrip()}"
    )


def _refuse_losses(result: dict, figures: dict, config: DataConfig) -> None:
    """Raises unless everything that was read has arrived: runners have lost elements in silence (see `pipeline`)."""
    events, users = figures["events"], figures["users"]
    gone = sum(figures["rows_malformed"].values()) + sum(figures["rows_filtered"].values())
    expected_and_found = {
        "rows": (figures["rows_read"], events + gone),
        "written files": (config.num_shards, result["written: files"]),
        "written users": (users, result["written: users"]),
        "written events": (events, result["written: events"]),
        "events of the vocabulary": (events, result["events of the vocabulary"]),
        "users with held-out items": (users, result["users with held-out items"]),
    }
    for name, (expected, found) in expected_and_found.items():
        if expected != found:
            raise RuntimeError(
                f"Expected {expected} {name}, found {found}: the runner lost data on the way. Run again, with "
                "--runner=FnApiRunner --direct_running_mode=in_memory if another one was given."
            )


def _nothing_left(figures: dict, config: DataConfig, log: LogFile) -> str:
    filtered = figures["rows_filtered"]
    return (
        f"Expected users with at least {config.min_user_events} events in {log.path}, none is left: "
        f"{figures['rows_read']} rows read, {sum(figures['rows_malformed'].values())} malformed, "
        f"{filtered['min_item_events']} of items with fewer than data.min_item_events = {config.min_item_events} "
        f"events, {filtered['min_user_events']} of users with fewer than data.min_user_events = "
        f"{config.min_user_events}. Lower these limits or bring more data."
    )


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
