"""Text with separated columns -> checked rows: CSV, with or without quoted fields, and MovieLens' `a::b::c`."""

import dataclasses
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.csv

from beam_jobs.logs.feature_values import READERS
from beam_jobs.logs.lines import line_spans, slices_of, well_formed_lines
from beam_jobs.logs.log_rows import Columns, Malformed, Rows, Wanted, check
from beam_jobs.logs.log_times import no_times, times_of_text
from beam_jobs.logs.quoted_text import WRONG_COLUMNS, QuotedText, Record, read_records
from tfdnc.contracts.data_config import Quotes
from tfdnc.contracts.features import Feature

HAS_NUL = "NUL byte"

UTF8_MARK = b"\xef\xbb\xbf"
"""The byte order mark that some programs write before UTF-8 text; elsewhere in a file it is an ordinary character."""

_QUOTED_ROWS = 50_000  # rows of quoted CSV per block: they are Python objects until they are columns
_LONE_RETURN = re.compile(rb"\r(?!\n|\Z)")
_SEPARATOR = b"\x1f"  # pyarrow splits at single bytes only; ASCII's own "unit separator" replaces "::"


@dataclass(frozen=True)
class RowFormat:
    """Layout of rows, and the positions of the columns that are read.

    Attributes:
        separator: `b","`, or `b"::"` for MovieLens.
        quotes: spelling of quotes inside fields; `none`: no field is quoted.
        num_columns: columns that every row must have.
        user: position of the user id.
        item: position of the item id.
        time: position of the time; None: the log has no times, and its rows are in order.
        time_unit: `data.time_unit`.
        wanted: values that a row must have to count; if several rules leave a row out, the first one is counted.
        features: positions of the other inputs of events.
    """

    separator: bytes
    quotes: Quotes
    num_columns: int
    user: int
    item: int
    time: int | None
    time_unit: str = "s"
    wanted: tuple[Wanted, ...] = ()
    features: Mapping[Feature, int] = field(default_factory=dict)

    @property
    def columns(self) -> list[int]:
        """Positions of user, item, time if there is one, other inputs, and the `wanted` values."""
        return [self.user, self.item, *self.numbers, *(wanted.column for wanted in self.wanted)]

    @property
    def numbers(self) -> list[int]:
        """Positions of the time, if there is one, and of the other inputs."""
        return [*([] if self.time is None else [self.time]), *self.features.values()]

    @property
    def quoted_text(self) -> QuotedText:
        """The layout of rows that may have quoted fields."""
        return QuotedText(self.separator, self.num_columns, tuple(self.columns), self.quotes)

    def parse(self, block: bytes, offset: int) -> Rows:
        """Returns the rows of whole lines, as `parse_block`."""
        return parse_block(block, offset, self)


def parse_block(block: bytes, offset: int, row_format: RowFormat) -> Rows:
    """Parses whole lines without quoted fields, all at once; blank lines are no rows.

    Args:
        block: lines; only the last one may lack its line end.
        offset: bytes of the file before the block.
        row_format: layout of the rows.

    Returns:
        The rows of the block.
    """
    malformed: list[Malformed] = []
    if b"\0" in block:
        # The vector instructions of pyarrow's parser take a NUL for the end of a string, and miss separators behind it.
        block = _set_aside(block, offset, _lines_with_nul(block), HAS_NUL, malformed)
    lines, separator = _one_byte_separators(block, row_format)
    try:
        columns = _read_columns(lines, separator, row_format)
    except pa.ArrowInvalid:  # a line has another number of columns; pyarrow accepts all other bytes
        good = well_formed_lines(lines, separator, row_format.num_columns)
        wrong = np.setdiff1d(np.arange(len(line_spans(block)[0])), good)
        block = _set_aside(block, offset, wrong, WRONG_COLUMNS, malformed)
        columns = _read_columns(_one_byte_separators(block, row_format)[0], separator, row_format)
    rows = check(_typed(columns, row_format), offset, lambda numbers: slices_of(block, offset, numbers))
    return dataclasses.replace(rows, malformed=sorted(malformed + rows.malformed))


def _lines_with_nul(block: bytes) -> np.ndarray:
    """Returns the numbers of the lines that hold a NUL byte."""
    offsets = np.flatnonzero(np.frombuffer(block, np.uint8) == 0)
    return np.unique(np.searchsorted(line_spans(block)[0], offsets, side="right") - 1)


def _set_aside(block: bytes, offset: int, lines: np.ndarray, reason: str, malformed: list[Malformed]) -> bytes:
    """Appends lines to the malformed ones, and returns the block with blank lines instead of them."""
    malformed += [(start, text, reason) for start, text in slices_of(block, offset, lines)]
    rest = bytearray(block)
    starts, ends = line_spans(block)
    for line in lines:
        rest[starts[line] : ends[line]] = b"\n" * int(ends[line] - starts[line])
    return bytes(rest)


def _one_byte_separators(block: bytes, row_format: RowFormat) -> tuple[bytes, bytes]:
    """Returns the lines of a block with separators of one byte, and this separator."""
    # pyarrow also takes a lone carriage return for a line end.
    lines = _LONE_RETURN.sub(b" ", block) if block.count(b"\r") != block.count(b"\r\n") else block
    if len(row_format.separator) == 1:
        return lines, row_format.separator
    # A row that holds the replacement byte gets more columns than a row may have, so it is malformed.
    lines = lines.replace(_SEPARATOR, _SEPARATOR * row_format.num_columns)
    return lines.replace(row_format.separator, _SEPARATOR), _SEPARATOR


def parse_quoted(lines: Iterable[bytes], offset: int, row_format: RowFormat) -> Iterator[Rows]:
    """Parses CSV with quoted fields, which may hold separators and line ends; slower than `parse_block`.

    Args:
        lines: from the first line of a record to the end of the file.
        offset: bytes of the file before the first line.
        row_format: layout of the rows.

    Yields:
        The rows, a block at a time.
    """
    records: list[Record] = []
    malformed: list[Malformed] = []
    start, joined = offset, 0
    for record in read_records(lines, offset, row_format.quoted_text, partial(_may_be_row, row_format)):
        if b"\0" in record.text:
            malformed += _lines_of(record, HAS_NUL)
        elif record.fault is None:
            records.append(record)
            joined += record.text.count(b"\n", 0, -1)
        else:
            malformed.append((record.offset, record.text, record.fault))
        if len(records) + len(malformed) >= _QUOTED_ROWS:
            yield _rows_of_records(start, records, malformed, joined, row_format)
            start, records, malformed, joined = record.offset + len(record.text), [], [], 0
    yield _rows_of_records(start, records, malformed, joined, row_format)


def _lines_of(record: Record, reason: str) -> Iterator[tuple[int, bytes, str]]:
    """Yields the lines of a record as malformed rows."""
    offset = record.offset
    for line in io.BytesIO(record.text):
        yield offset, line, reason
        offset += len(line)


def _may_be_row(row_format: RowFormat, line: bytes) -> bool:
    """Returns whether a line inside quotes may be an event: it has all columns, and ids and time before the next quote.

    The last line of a sound record ends with the record's own columns, which come after a quote.
    """
    fields = line.removesuffix(b"\n").removesuffix(b"\r").split(row_format.separator)
    time = row_format.time
    last = max(row_format.user, row_format.item, row_format.user if time is None else time)
    if len(fields) != row_format.num_columns or line.partition(b'"')[0].count(row_format.separator) < last:
        return False
    return time is None or times_of_text(pa.array([fields[time]], pa.binary()), row_format.time_unit).null_count == 0


def _read_columns(lines: bytes, separator: bytes, row_format: RowFormat) -> list[pa.Array]:
    """Returns `row_format.columns` as bytes, all but `row_format.numbers` dictionary-encoded.

    Raises:
        pa.ArrowInvalid: a line has another number of columns. pyarrow's `invalid_row_handler` is no alternative: it
            fails for a line that is not UTF-8.
    """
    names = [str(column) for column in range(row_format.num_columns)]
    # Binary, not string or integer: a single bad value would otherwise fail the whole block.
    types = {str(column): pa.dictionary(pa.int32(), pa.binary()) for column in row_format.columns}
    types |= {str(column): pa.binary() for column in row_format.numbers}
    if lines.startswith(UTF8_MARK):
        lines = b"\n" + lines  # pyarrow would drop a mark at the beginning, which here belongs to the first row
    table = pa.csv.read_csv(
        pa.BufferReader(lines),
        read_options=pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(lines) + 1),
        parse_options=pa.csv.ParseOptions(delimiter=separator.decode(), quote_char=False, double_quote=False),
        convert_options=pa.csv.ConvertOptions(include_columns=list(types), column_types=types),
    )
    return [table[str(column)].combine_chunks() for column in row_format.columns]


def _rows_of_records(
    start: int, records: list[Record], malformed: list[Malformed], joined: int, row_format: RowFormat
) -> Rows:
    """Returns the checked rows of records, which have `joined` more lines than there are records."""
    columns = [pa.array([record.fields[c] for record in records], pa.binary()) for c in range(len(row_format.columns))]
    encoded = [
        values if column in row_format.numbers else values.dictionary_encode()
        for column, values in zip(row_format.columns, columns, strict=True)
    ]
    rows = check(_typed(encoded, row_format), start, lambda numbers: [records[row][:2] for row in numbers])
    return dataclasses.replace(rows, malformed=sorted(malformed + rows.malformed), lines_joined=joined)


def _typed(columns: list[pa.Array], row_format: RowFormat) -> Columns:
    """Returns the columns to check from `row_format.columns` as bytes."""
    user, item, *values = columns
    unit = row_format.time_unit
    time = no_times(len(user)) if row_format.time is None else times_of_text(values.pop(0), unit)
    features = {one: READERS[one.kind].read(values.pop(0)) for one in row_format.features}
    # A column that is an input too has been read as one, without a dictionary.
    wanted = tuple(one if pa.types.is_dictionary(one.type) else one.dictionary_encode() for one in values)
    return Columns(user, item, time, unit, wanted, row_format.wanted, features)
