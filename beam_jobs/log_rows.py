"""Bytes of a log -> checked columns: what a row must be, which rows count, and what becomes of the others."""

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from beam_jobs.lines import line_spans, slices_of, well_formed_lines

EVENT_SCHEMA = pa.schema(
    [
        ("user", pa.dictionary(pa.int32(), pa.string())),
        ("item", pa.dictionary(pa.int32(), pa.string())),
        ("time", pa.int64()),
    ]
)
"""Columns of the checked events of one block, in file order."""

WRONG_COLUMNS = "wrong number of columns"
HAS_NUL = "NUL byte"
UNREADABLE = "not readable as CSV (a quote that never ends?)"
EMPTY_USER, EMPTY_ITEM = "empty user id", "empty item id"
NOT_UTF8 = "id is not UTF-8"
BAD_TIME = "time is not an integer"

_SHORT_TIME = r"^-?[0-9]{1,18}$"  # what certainly fits an int64
_LONG_TIMES = ((r"^[0-9]{19}$", b"9223372036854775807"), (r"^-[0-9]{19}$", b"-9223372036854775808"))  # and their ends
UTF8_MARK = b"\xef\xbb\xbf"
"""What some programs put before UTF-8 text; elsewhere it is a character like any other."""

_TEXT_LIMIT = 1000  # bytes of a malformed row that are kept
_QUOTED_ROWS = 50_000  # rows of quoted CSV per block: they are Python objects until they are columns
_LONE_RETURN = re.compile(rb"\r(?!\n|\Z)")
_SEPARATOR = b"\x1f"  # pyarrow splits at single bytes only; ASCII's own "unit separator" stands for "::"

Locate = Callable[[np.ndarray], Iterable[tuple[int, bytes]]]


@dataclass(frozen=True)
class Wanted:
    """A value that a row must have to count; a well-formed row with another value is left out.

    Attributes:
        rule: name under which the rows that are left out are counted.
        column: position of the value.
        value: the one that counts.
        well_formed: regular expression of the values that may stand there at all.
        complaint: reason given for a row with any other value: it is malformed.
    """

    rule: str
    column: int
    value: str
    well_formed: str
    complaint: str


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
        wanted: what a row must have to count; of several rules that leave a row out the first one is counted.
    """

    separator: bytes
    quotes: bool
    num_columns: int
    user: int
    item: int
    time: int
    wanted: tuple[Wanted, ...] = ()

    @property
    def columns(self) -> list[int]:
        """Positions of user, item, time, and of what is wanted."""
        return [self.user, self.item, self.time, *(wanted.column for wanted in self.wanted)]


@dataclass(frozen=True)
class Rows:
    """The rows of one block.

    Attributes:
        offset: bytes of the (decompressed) file before the block.
        events: the well-formed rows that count, `EVENT_SCHEMA`.
        malformed: (offset, text, reason) of the malformed ones, in file order.
        filtered: how many well-formed ones each rule left out.
    """

    offset: int
    events: pa.RecordBatch
    malformed: list[tuple[int, bytes, str]]
    filtered: dict[str, int]

    @property
    def num_rows(self) -> int:
        """Rows of the block, whatever became of them."""
        return self.events.num_rows + len(self.malformed) + sum(self.filtered.values())


def parse_block(block: bytes, offset: int, row_format: RowFormat) -> Rows:
    """Parses whole lines without quoted fields, all at once; blank lines are no rows.

    Args:
        block: lines; only the last one may lack its line end.
        offset: bytes of the file before the block.
        row_format: how rows are written.

    Returns:
        The block's rows.
    """
    malformed: list[tuple[int, bytes, str]] = []
    if b"\0" in block:
        # For the vector instructions of pyarrow's parser a NUL ends a string: they overlook separators behind it.
        block = _set_aside(block, offset, _lines_with_nul(block), HAS_NUL, malformed)
    lines, separator = _one_byte_separators(block, row_format)
    try:
        columns = _read_columns(lines, separator, row_format)
    except pa.ArrowInvalid:  # some line has another number of columns; all other bytes are read as they stand
        good = well_formed_lines(lines, separator, row_format.num_columns)
        wrong = np.setdiff1d(np.arange(len(line_spans(block)[0])), good)
        block = _set_aside(block, offset, wrong, WRONG_COLUMNS, malformed)
        columns = _read_columns(_one_byte_separators(block, row_format)[0], separator, row_format)
    events, bad, filtered = _check(columns, row_format.wanted, lambda rows: slices_of(block, offset, rows))
    return Rows(offset, events, sorted(malformed + bad), filtered)


def _lines_with_nul(block: bytes) -> np.ndarray:
    """Returns the numbers of the lines that hold a NUL byte."""
    places = np.flatnonzero(np.frombuffer(block, np.uint8) == 0)
    return np.unique(np.searchsorted(line_spans(block)[0], places, side="right") - 1)


def _set_aside(block: bytes, offset: int, lines: np.ndarray, reason: str, malformed: list) -> bytes:
    """Appends lines to the malformed ones, and returns the block with blank lines in their place."""
    malformed += [(start, text, reason) for start, text in slices_of(block, offset, lines)]
    rest = bytearray(block)
    starts, ends = line_spans(block)
    for line in lines:
        rest[starts[line] : ends[line]] = b"\n" * int(ends[line] - starts[line])
    return bytes(rest)


def _one_byte_separators(block: bytes, row_format: RowFormat) -> tuple[bytes, bytes]:
    """Returns the lines of a block as pyarrow can split them, and the separator to split them at."""
    # pyarrow would end a line at a lone carriage return too.
    lines = _LONE_RETURN.sub(b" ", block) if block.count(b"\r") != block.count(b"\r\n") else block
    if len(row_format.separator) == 1:
        return lines, row_format.separator
    # A row that itself holds our stand-in gets more columns than any row may have.
    lines = lines.replace(_SEPARATOR, _SEPARATOR * row_format.num_columns)
    return lines.replace(row_format.separator, _SEPARATOR), _SEPARATOR


def parse_quoted(lines: Iterable[bytes], offset: int, row_format: RowFormat) -> Iterator[Rows]:
    """Parses CSV with quoted fields, which may hold separators and line ends; slower than `parse_block`.

    Args:
        lines: from the first line of a record to the end of the file.
        offset: bytes of the file before the first line.
        row_format: how rows are written.

    Yields:
        The rows, a block at a time.
    """
    lines = iter(lines)
    start, records, malformed = offset, [], []
    for first in lines:
        fields, record = _read_record(first, lines, row_format.separator.decode())
        text = b"".join(record)
        if fields and len(fields) == row_format.num_columns and b"\0" not in text:
            records.append(([fields[column] for column in row_format.columns], offset, text))
        elif fields != []:
            # Line by line: a stray quote can swallow half a log, which must not pass for one malformed row.
            reason = HAS_NUL if b"\0" in text else UNREADABLE if fields is None else WRONG_COLUMNS
            starts = itertools.accumulate(map(len, record), initial=offset)
            malformed.extend((place, line, reason) for place, line in zip(starts, record, strict=False))
        offset += len(text)
        if len(records) + len(malformed) >= _QUOTED_ROWS:
            yield _rows_of_records(start, records, malformed, row_format)
            start, records, malformed = offset, [], []
    yield _rows_of_records(start, records, malformed, row_format)


def _read_record(first: bytes, lines: Iterator[bytes], separator: str) -> tuple[list[str] | None, list[bytes]]:
    """Returns the fields of the record that begins with line `first` (None: unreadable), and the lines it takes.

    A line without quotes is read as `parse_block` reads it: which of the two comes upon it depends on the chunk size.
    """
    if b'"' not in first:
        text = _LONE_RETURN.sub(b" ", first).rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        return text.split(separator) if text else [], [first]
    record = []

    def feed() -> Iterator[str]:
        for line in itertools.chain([first], lines):
            record.append(line)
            yield line.decode("utf-8", "surrogateescape")

    try:
        return next(csv.reader(feed(), delimiter=separator)), record
    except csv.Error:
        return None, record


def dead_letter_line(file: str, offset: int, text: bytes, reason: str) -> str:
    """Returns the JSON line that reports one malformed row; a very long row is cut."""
    text = text.rstrip(b"\r\n")[:_TEXT_LIMIT].decode("utf-8", "replace")
    return json.dumps({"file": file, "offset": offset, "text": text, "reason": reason}, ensure_ascii=False) + "\n"


def _read_columns(lines: bytes, separator: bytes, row_format: RowFormat) -> list[pa.Array]:
    """Returns `row_format.columns` as bytes, all but the time dictionary-encoded.

    Raises:
        pa.ArrowInvalid: a line has another number of columns. pyarrow would also ask what to do about each of them, but
            fails to ask about a line that is not UTF-8.
    """
    names = [str(column) for column in range(row_format.num_columns)]
    # Binary, not string or integer: a single bad value would otherwise fail the whole block.
    types = {str(column): pa.dictionary(pa.int32(), pa.binary()) for column in row_format.columns}
    types[str(row_format.time)] = pa.binary()
    if lines.startswith(UTF8_MARK):
        lines = b"\n" + lines  # pyarrow drops a mark that a block happens to begin with
    table = pa.csv.read_csv(
        pa.BufferReader(lines),
        read_options=pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(lines) + 1),
        parse_options=pa.csv.ParseOptions(delimiter=separator.decode(), quote_char=False, double_quote=False),
        convert_options=pa.csv.ConvertOptions(include_columns=list(types), column_types=types),
    )
    return [table[str(column)].combine_chunks() for column in row_format.columns]


def _rows_of_records(start: int, records: list[tuple], malformed: list, row_format: RowFormat) -> Rows:
    """Returns the checked rows of (fields, offset, text) records."""
    columns = [
        pa.array([fields[c].encode("utf-8", "surrogateescape") for fields, _, _ in records], pa.binary())
        for c in range(len(row_format.columns))
    ]
    user, item, time, *values = columns
    encoded = [user.dictionary_encode(), item.dictionary_encode(), time, *(v.dictionary_encode() for v in values)]
    events, bad, filtered = _check(encoded, row_format.wanted, lambda rows: [records[row][1:] for row in rows])
    return Rows(start, events, sorted(malformed + bad), filtered)


def _check(
    columns: list[pa.Array], wanted: tuple[Wanted, ...], locate: Locate
) -> tuple[pa.RecordBatch, list[tuple[int, bytes, str]], dict[str, int]]:
    """Splits the rows into events, malformed ones (of several complaints the first one counts), and filtered ones."""
    user, item, time, *values = columns
    users, user_codes, complaints = _check_ids(user, EMPTY_USER)
    items, item_codes, item_complaints = _check_ids(item, EMPTY_ITEM)
    complaints += item_complaints
    complaints.append((~_are_times(time), BAD_TIME))
    checked = [_check_values(column, one) for column, one in zip(values, wanted, strict=True)]
    complaints += [(malformed, one.complaint) for (malformed, _), one in zip(checked, wanted, strict=True)]
    bad = np.logical_or.reduce([mask for mask, _ in complaints])
    malformed = []
    if bad.any():
        rows = np.flatnonzero(bad)
        first = np.argmax([mask[rows] for mask, _ in complaints], axis=0)
        located = zip(locate(rows), first, strict=True)
        malformed = [(start, text, complaints[which][1]) for (start, text), which in located]
    kept, filtered = ~bad, {}
    for (_, counts), one in zip(checked, wanted, strict=True):
        filtered[one.rule] = int((kept & ~counts).sum())
        kept &= counts
    if not kept.all():
        user_codes, item_codes, time = user_codes[kept], item_codes[kept], time.filter(pa.array(kept))
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(user_codes), users),
        pa.DictionaryArray.from_arrays(pa.array(item_codes), items),
        time.cast(pa.string()).cast(pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA), malformed, filtered


def _are_times(times: pa.Array) -> np.ndarray:
    """Returns which of the texts `[R]` are integers that fit an int64; nanoseconds have 19 digits, as has its end."""
    good = pc.match_substring_regex(times, _SHORT_TIME)
    if not pc.all(good, min_count=0).as_py():
        for digits, end in _LONG_TIMES:
            fits = pc.and_(pc.match_substring_regex(times, digits), pc.less_equal(times, end))
            good = pc.or_(good, fits)
    return good.to_numpy(zero_copy_only=False)


def _check_values(values: pa.DictionaryArray, wanted: Wanted) -> tuple[np.ndarray, np.ndarray]:
    """Returns which rows `[R]` have a malformed value, and which `[R]` have the wanted one."""
    distinct, codes = values.dictionary, values.indices.to_numpy()
    well_formed = pc.match_substring_regex(distinct, wanted.well_formed).to_numpy(zero_copy_only=False)
    counts = pc.equal(distinct, wanted.value.encode()).to_numpy(zero_copy_only=False)
    return ~well_formed[codes], counts[codes]


def _check_ids(ids: pa.DictionaryArray, empty: str) -> tuple[pa.Array, np.ndarray, list[tuple[np.ndarray, str]]]:
    """Returns the distinct ids as text, the codes `[R]`, and (mask `[R]`, reason) per complaint."""
    distinct, codes = ids.dictionary, ids.indices.to_numpy()
    complaints = []
    is_empty = pc.equal(pc.binary_length(distinct), 0).to_numpy(zero_copy_only=False)
    if is_empty.any():
        complaints.append((is_empty[codes], empty))
    try:
        return distinct.cast(pa.string()), codes, complaints
    except pa.ArrowInvalid:
        texts = [_decode(value) for value in distinct.to_pylist()]
        complaints.append((np.array([text is None for text in texts])[codes], NOT_UTF8))
        return pa.array([text or "" for text in texts], pa.string()), codes, complaints


def _decode(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
