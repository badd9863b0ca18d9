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

from beam_jobs.event_weights import BAD_WEIGHT, check_weights
from beam_jobs.lines import line_spans, slices_of, well_formed_lines

EVENT_SCHEMA = pa.schema(
    [
        ("user", pa.dictionary(pa.int32(), pa.string())),
        ("item", pa.dictionary(pa.int32(), pa.string())),
        ("time", pa.int64()),
    ]
)
"""Columns of the checked events of one block, in file order."""

WEIGHTED_EVENT_SCHEMA = EVENT_SCHEMA.append(pa.field("weight", pa.float32()))
"""The same of a log that has weights."""

WRONG_COLUMNS = "wrong number of columns"
UNREADABLE = "not readable as CSV (a quote that never ends?)"
EMPTY_USER, EMPTY_ITEM = "empty user id", "empty item id"
NOT_UTF8 = "id is not UTF-8"
BAD_TIME = "time is not an integer"

_TIME = r"^-?[0-9]{1,18}$"  # what certainly fits an int64
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
        weight: position of the weight; None: the log has none.
    """

    separator: bytes
    quotes: bool
    num_columns: int
    user: int
    item: int
    time: int
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

    @property
    def event_schema(self) -> pa.Schema:
        """Columns of the events."""
        return EVENT_SCHEMA if self.weight is None else WEIGHTED_EVENT_SCHEMA


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
    # pyarrow would end a line at a lone carriage return too. A space of the same length keeps every offset.
    lines = _LONE_RETURN.sub(b" ", block) if block.count(b"\r") != block.count(b"\r\n") else block
    separator = row_format.separator
    if len(separator) > 1:
        lines, separator = lines.replace(separator, _SEPARATOR), _SEPARATOR
    columns, num_skipped = _read_columns(lines, separator, row_format)

    def locate(rows: np.ndarray) -> Iterator[tuple[int, bytes]]:
        return slices_of(block, offset, well_formed_lines(lines, separator, row_format.num_columns)[rows])

    events, malformed, filtered = _check(columns, row_format, locate)
    if num_skipped:
        good = well_formed_lines(lines, separator, row_format.num_columns)
        wrong = np.setdiff1d(np.arange(len(line_spans(lines)[0])), good)
        malformed += [(start, text, WRONG_COLUMNS) for start, text in slices_of(block, offset, wrong)]
        malformed.sort()
    return Rows(offset, events, malformed, filtered)


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


def dead_letter_line(file: str, offset: int, text: bytes, reason: str) -> str:
    """Returns the JSON line that reports one malformed row; a very long row is cut."""
    text = text.rstrip(b"\r\n")[:_TEXT_LIMIT].decode("utf-8", "replace")
    return json.dumps({"file": file, "offset": offset, "text": text, "reason": reason}, ensure_ascii=False) + "\n"


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
    events, bad, filtered = _check(encoded, row_format, lambda rows: [records[row][1:] for row in rows])
    return Rows(start, events, sorted(malformed + bad), filtered)


def _check(
    columns: list[pa.Array], row_format: RowFormat, locate: Locate
) -> tuple[pa.RecordBatch, list[tuple[int, bytes, str]], dict[str, int]]:
    """Splits the rows into events, malformed ones (of several complaints the first one counts), and filtered ones."""
    user, item, *others = columns
    (time, *weight), values = others[: len(row_format.numbers)], others[len(row_format.numbers) :]
    good_time = pc.match_substring_regex(time, _TIME)
    users, user_codes, complaints = _check_ids(user, EMPTY_USER)
    items, item_codes, item_complaints = _check_ids(item, EMPTY_ITEM)
    complaints += item_complaints
    complaints.append((~good_time.to_numpy(zero_copy_only=False), BAD_TIME))
    weights = [check_weights(column) for column in weight]  # one, or none
    complaints += [(malformed, BAD_WEIGHT) for _, malformed in weights]
    checked = [_check_values(column, one) for column, one in zip(values, row_format.wanted, strict=True)]
    complaints += [(malformed, one.complaint) for (malformed, _), one in zip(checked, row_format.wanted, strict=True)]
    bad = np.logical_or.reduce([mask for mask, _ in complaints])
    malformed = []
    if bad.any():
        rows = np.flatnonzero(bad)
        first = np.argmax([mask[rows] for mask, _ in complaints], axis=0)
        located = zip(locate(rows), first, strict=True)
        malformed = [(start, text, complaints[which][1]) for (start, text), which in located]
    kept, filtered = ~bad, {}
    for (_, counts), one in zip(checked, row_format.wanted, strict=True):
        filtered[one.rule] = int((kept & ~counts).sum())
        kept &= counts
    if not kept.all():
        user_codes, item_codes, time = user_codes[kept], item_codes[kept], time.filter(pa.array(kept))
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(user_codes), users),
        pa.DictionaryArray.from_arrays(pa.array(item_codes), items),
        time.cast(pa.string()).cast(pa.int64()),
        *(pa.array(values[kept]) for values, _ in weights),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=row_format.event_schema), malformed, filtered


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
