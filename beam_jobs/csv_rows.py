"""Text with separated columns -> checked rows: CSV, with or without quoted fields, and MovieLens' `a::b::c`."""

import csv
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv

from beam_jobs.event_weights import weights_of
from beam_jobs.lines import line_spans, slices_of, well_formed_lines
from beam_jobs.log_rows import Columns, Rows, Wanted, check
from beam_jobs.log_times import times_of_text

WRONG_COLUMNS = "wrong number of columns"
UNREADABLE = "not readable as CSV (a quote that never ends?)"

_QUOTED_ROWS = 50_000  # rows of quoted CSV per block: they are Python objects until they are columns
_LONE_RETURN = re.compile(rb"\r(?!\n|\Z)")
_SEPARATOR = b"\x1f"  # pyarrow splits at single bytes only; ASCII's own "unit separator" stands for "::"


@dataclass(frozen=True)
class RowFormat:
    """How rows are written, and where in a row the columns stand that are read.

    Attributes:
        separator: `b","`, or `b"::"` for MovieLens.
        quotes: whether a field may be quoted as in CSV.
        num_columns: columns that every row must have.
        user: position of the user id.
        item: position of the item id.
        time: position of the time.
        time_unit: `data.time_unit`.
        wanted: what a row must have to count; of several rules that leave a row out the first one is counted.
        weight: position of the weight; None: the log has none.
    """

    separator: bytes
    quotes: bool
    num_columns: int
    user: int
    item: int
    time: int
    time_unit: str = "s"
    wanted: tuple[Wanted, ...] = ()
    weight: int | None = None

    @property
    def columns(self) -> list[int]:
        """Positions of user, item, time, weight if there is one, and of what is wanted."""
        return [self.user, self.item, *self.numbers, *(wanted.column for wanted in self.wanted)]

    @property
    def numbers(self) -> list[int]:
        """Positions of the time, and of the weight if there is one."""
        return [self.time] if self.weight is None else [self.time, self.weight]

    def parse(self, block: bytes, offset: int) -> Rows:
        """Returns the rows of whole lines, as `parse_block`."""
        return parse_block(block, offset, self)


def parse_block(block: bytes, offset: int, row_format: RowFormat) -> Rows:
    """Parses whole lines without quoted fields, all at once; blank lines are no rows.

    Args:
        block: lines; only the last one may lack its line end.
        offset: bytes of the file before the block.
        row_format: how rows are written.

    Returns:
        The block's rows.
    """
    # pyarrow would end a line at a lone carriage return too. A space of the same length keeps every offset.
    lines = _LONE_RETURN.sub(b" ", block) if block.count(b"\r") != block.count(b"\r\n") else block
    separator = row_format.separator
    if len(separator) > 1:
        lines, separator = lines.replace(separator, _SEPARATOR), _SEPARATOR
    columns, num_skipped = _read_columns(lines, separator, row_format)

    def locate(rows: np.ndarray) -> Iterator[tuple[int, bytes]]:
        return slices_of(block, offset, well_formed_lines(lines, separator, row_format.num_columns)[rows])

    rows = check(_typed(columns, row_format), offset, locate)
    if not num_skipped:
        return rows
    good = well_formed_lines(lines, separator, row_format.num_columns)
    wrong = np.setdiff1d(np.arange(len(line_spans(lines)[0])), good)
    wrong_columns = [(start, text, WRONG_COLUMNS) for start, text in slices_of(block, offset, wrong)]
    return dataclasses.replace(rows, malformed=sorted(rows.malformed + wrong_columns))


def parse_quoted(lines: Iterable[bytes], offset: int, row_format: RowFormat) -> Iterator[Rows]:
    """Parses CSV with quoted fields, which may hold separators and line ends; slower than `parse_block`.

    Args:
        lines: from the first line of a record to the end of the file.
        offset: bytes of the file before the first line.
        row_format: how rows are written.

    Yields:
        The rows, a block at a time.
    """
    pending: list[bytes] = []  # the lines of the record that the reader is in

    def feed() -> Iterator[str]:
        for line in lines:
            pending.append(line)
            yield line.decode("utf-8", "surrogateescape")

    reader = csv.reader(feed())
    start, records, malformed = offset, [], []
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error:
            fields = None
        text = b"".join(pending)
        if fields is not None and len(fields) == row_format.num_columns:
            records.append(([fields[column] for column in row_format.columns], offset, text))
        elif fields != []:
            # Line by line: a stray quote can swallow half a log, which must not pass for one malformed row.
            reason = UNREADABLE if fields is None else WRONG_COLUMNS
            starts = itertools.accumulate(map(len, pending), initial=offset)
            malformed.extend((place, line, reason) for place, line in zip(starts, pending, strict=False))
        pending.clear()
        offset += len(text)
        if len(records) + len(malformed) >= _QUOTED_ROWS:
            yield _rows_of_records(start, records, malformed, row_format)
            start, records, malformed = offset, [], []
    yield _rows_of_records(start, records, malformed, row_format)


def _read_columns(lines: bytes, separator: bytes, row_format: RowFormat) -> tuple[list[pa.Array], int]:
    """Returns `row_format.columns` as bytes, and how many rows pyarrow skipped for their number of columns.

    All but `row_format.numbers` are dictionary-encoded.
    """
    skipped = 0

    def skip(row) -> str:
        nonlocal skipped
        skipped += 1
        return "skip"

    names = [str(column) for column in range(row_format.num_columns)]
    # Binary, not string or integer: a single bad value would otherwise fail the whole block.
    types = {str(column): pa.dictionary(pa.int32(), pa.binary()) for column in row_format.columns}
    types |= {str(column): pa.binary() for column in row_format.numbers}
    table = pa.csv.read_csv(
        pa.BufferReader(lines),
        read_options=pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(lines) + 1),
        parse_options=pa.csv.ParseOptions(
            delimiter=separator.decode(), quote_char=False, double_quote=False, invalid_row_handler=skip
        ),
        convert_options=pa.csv.ConvertOptions(include_columns=list(types), column_types=types),
    )
    return [table[str(column)].combine_chunks() for column in row_format.columns], skipped


def _rows_of_records(start: int, records: list[tuple], malformed: list, row_format: RowFormat) -> Rows:
    """Returns the checked rows of (fields, offset, text) records."""
    columns = [
        pa.array([fields[c].encode("utf-8", "surrogateescape") for fields, _, _ in records], pa.binary())
        for c in range(len(row_format.columns))
    ]
    encoded = [
        values if column in row_format.numbers else values.dictionary_encode()
        for column, values in zip(row_format.columns, columns, strict=True)
    ]
    rows = check(_typed(encoded, row_format), start, lambda numbers: [records[row][1:] for row in numbers])
    return dataclasses.replace(rows, malformed=sorted(malformed + rows.malformed))


def _typed(columns: list[pa.Array], row_format: RowFormat) -> Columns:
    """Returns `row_format.columns`, read as bytes, as the columns to check."""
    user, item, time, *values = columns
    unit, weight = row_format.time_unit, None
    if row_format.weight is not None:
        weight = weights_of(values.pop(0))
    return Columns(user, item, times_of_text(time, unit), unit, tuple(values), row_format.wanted, weight)
