"""Steps of the first job that run in workers: cut a file of the log, read a piece, count and filter a bucket."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import TaggedOutput

from beam_jobs.event_rules import apply_rules, events_of
from beam_jobs.exposures import set_apart
from beam_jobs.kept_reads import KeptReads, WholeFiles
from beam_jobs.log_blocks import Block, block_of
from beam_jobs.logs.log_files import Log, Piece, cut, read_piece
from beam_jobs.logs.log_rows import EVENT_SCHEMA, dead_letter_line
from beam_jobs.packing import pack, unpack, unpack_all
from beam_jobs.progress import progress, steps
from beam_jobs.repetitions import count_repetitions
from beam_jobs.splits import count_without_history, held_out_items
from beam_jobs.user_buckets import build_sequences
from beam_jobs.vocabulary import count_candidates, count_items, settled
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.features import log_features
from tfdnc.contracts.plugins import WithPlugins

_log = logging.getLogger(__name__)

Bucket = tuple[int, Iterable[tuple[tuple[int, int], bytes]]]
"""Number of a bucket, and the (position, packed events) of its blocks, in any order.

A position is (number of the file in the log, offset of the block in the file).
"""


def cut_file(number: int, sent: WithPlugins, chunk_bytes: int, kept: KeptReads | None) -> list[Piece]:
    """Returns the pieces of one file of the log, in order.

    Args:
        number: number of the file in the log.
        sent: the log.
        chunk_bytes: see `LogFile.spans`.
        kept: results of reading that are kept, None if none are.
    """
    log: Log = sent.value

    def pieces_now() -> list[Piece]:
        return list(cut(log, number, chunk_bytes))

    pieces = kept.pieces(number, chunk_bytes, pieces_now) if kept else pieces_now()
    _log.info("%s: %d pieces", log.names[number], len(pieces), extra=steps(reading=len(pieces)))
    return pieces


class ReadPiece(beam.DoFn):
    """Reads a piece of the log.

    Outputs:
        events: (bucket, (position of the block, packed events of the bucket's users in file order)), see `Bucket`; not
            those of whole files, which the buckets add themselves.
        items: packed (item id, events) of a block.
        malformed: (file name, (offset of the block, JSON lines)).
        figures: counts of rows.
    """

    def __init__(self, log: Log, num_buckets: int, chunk_bytes: int, whole: WholeFiles | None = None) -> None:
        self._sent, self._num_buckets, self._chunk_bytes = WithPlugins(log), num_buckets, chunk_bytes
        self._kept: KeptReads | None = whole.kept if whole else None
        self._whole: frozenset[int] = whole.numbers if whole else frozenset()

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
        for block in self._blocks(log, piece):
            num_malformed = len(block.malformed)
            _log.info(
                "%s at %d: %d events, %d malformed rows",
                *(name, block.offset, block.num_events, num_malformed),
                extra=progress("reading", 0, rows=block.figures["rows_read"], malformed=num_malformed),
            )
            for packed in block.items:
                yield TaggedOutput("items", packed)
            for bucket, packed in block.events if piece.file not in self._whole else ():
                yield TaggedOutput("events", (bucket, ((piece.file, block.offset), packed)))
            if num_malformed:
                lines = "".join(dead_letter_line(name, letter) for letter in block.malformed)
                yield TaggedOutput("malformed", (name, (block.offset, lines)))
            yield TaggedOutput("figures", block.figures)
        _log.info("%s from %d: read", name, piece.start, extra=progress("reading"))

    def _blocks(self, log: Log, piece: Piece) -> Iterable[Block]:
        def blocks_now() -> Iterator[Block]:
            pieces = read_piece(log, piece, self._chunk_bytes)
            return (block_of(rows, self._num_buckets, log.exposures) for rows in pieces)

        return self._kept.blocks(piece, self._chunk_bytes, blocks_now) if self._kept else blocks_now()


def _events_of_bucket(bucket: Bucket, whole: WholeFiles | None) -> pa.Table:
    """Returns the events of a bucket, with those of whole files, in the order of the log, in its `event_schema`."""
    number, blocks = bucket
    blocks = sorted([*blocks, *(whole.events[number] if whole else ())], key=lambda block: block[0])
    return unpack_all((packed for _, packed in blocks), EVENT_SCHEMA)


class CountBucket(beam.DoFn):
    """Counts the events per item that the rules and the filter rounds before this one leave in a bucket."""

    def __init__(self, config: DataConfig, whole: WholeFiles | None) -> None:
        self._config, self._whole = config, whole

    # The frequent items are bytes, but from that hint Beam would require at least one of them.
    def process(self, element: Bucket, *frequent: Any) -> Iterator[bytes]:
        """Yields the packed (item id, events) of a bucket; nothing if the rounds have settled, see `settled`."""
        if settled(frequent):
            return
        item_ids = [unpack(packed)["item_id"] for packed in frequent]
        rows = events_of(_events_of_bucket(element, self._whole), log_features(self._config))
        events, _ = set_apart(rows, self._config)
        left, _ = apply_rules(events, self._config, item_ids)
        yield count_items(left.item_ids, left.item)


class FilterBucket(beam.DoFn):
    """Filters and sorts the users of one bucket.

    Outputs:
        sequences: (bucket, packed sequences); items are candidates, 1..N' in order of the frequent items.
        counts: packed (candidate, events, training events) of the bucket.
        held_out: packed (user, validation candidate, test candidate).
        spans: (first time, last time), if the bucket has events.
        figures: counts of users and events.
    """

    def __init__(self, config: DataConfig, whole: WholeFiles | None) -> None:
        self._config, self._whole = config, whole

    def process(
        self, element: Bucket, *frequent: Any
    ) -> Iterator[
        TaggedOutput[Literal["sequences"], tuple[int, bytes]]
        | TaggedOutput[Literal["counts"], bytes]
        | TaggedOutput[Literal["held_out"], bytes]
        | TaggedOutput[Literal["spans"], tuple[int, int]]
        | TaggedOutput[Literal["figures"], dict[str, int]]
    ]:
        """Yields the outputs of a bucket; `frequent` are the packed items to keep, by filter round."""
        bucket, item_ids = element[0], [unpack(packed)["item_id"] for packed in frequent]
        sequences, figures = build_sequences(_events_of_bucket(element, self._whole), item_ids, self._config)
        users, num_events = figures["users"], figures["events"]
        extra = progress("sorting", users=users, events=num_events)
        _log.info("bucket %d: %d users, %d events", bucket, users, num_events, extra=extra)
        yield TaggedOutput("sequences", (bucket, pack(sequences)))
        yield TaggedOutput("counts", count_candidates(sequences))
        yield TaggedOutput("held_out", held_out_items(sequences))
        if num_events:
            span = pc.min_max(sequences["times"].flatten())
            yield TaggedOutput("spans", (span["min"].as_py(), span["max"].as_py()))
        repeated = count_repetitions(sequences, self._config.has_times)
        yield TaggedOutput("figures", figures | repeated | count_without_history(sequences, self._config))
