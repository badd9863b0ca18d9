"""Bytes of a log -> checked columns: what a row must be, and what becomes of one that is not."""

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

EVENT_SCHEMA = pa.schema(
    [
        ("user", pa.dictionary(pa.int32(), pa.string())),
        ("item", pa.dictionary(pa.int32(), pa.string())),
        ("time", pa.int64()),
    ]
)
"""Columns of the checked events of one block, in file order."""

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
class RowFormat:
    """How rows are written, and where in a row the three columns stand.

    Attributes:
        separator: `b","`, or `b"::"` for MovieLens.
        quotes: whether a field may be quoted as in CSV.
        num_columns: columns that every row must have.
        user: position of the user id.
        item: position of the item id.
        time: position of the time.
    """

    separator: bytes
    quotes: bool
    num_columns: int
    user: int
    item: int
    time: int


@dataclass(frozen=True)
class Rows:
    """The rows of one block.

    Attributes:
        offset: bytes of the (decompressed) file before the block.
        events: the well-formed rows, `EVENT_SCHEMA`.
        malformed: (offset, text, reason) of the others, in file order.
    """

    offset: int
    events: pa.RecordBatch
    malformed: list[tuple[int, bytes, str]]


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
    user, item, time, num_skipped = _read_columns(lines, separator, row_format)

    def locate(rows: np.ndarray) -> Iterator[tuple[int, bytes]]:
        return _slices(block, offset, _well_formed_lines(lines, separator, row_format.num_columns)[rows])

    events, malformed = _check(user, item, time, locate)
    if num_skipped:
        good = _well_formed_lines(lines, separator, row_format.num_columns)
        wrong = np.setdiff1d(np.arange(len(_line_spans(lines)[0])), good)
        malformed += [(start, text, WRONG_COLUMNS) for start, text in _slices(block, offset, wrong)]
        malformed.sort()
    return Rows(offset, events, malformed)


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
            picked = (fields[row_format.user], fields[row_format.item], fields[row_format.time])
            records.append((*picked, offset, text))
        elif fields != []:
            # Line by line: a stray quote can swallow half a log, which must not pass for one malformed row.
            reason = UNREADABLE if fields is None else WRONG_COLUMNS
            starts = itertools.accumulate(map(len, pending), initial=offset)
            malformed.extend((place, line, reason) for place, line in zip(starts, pending, strict=False))
        pending.clear()
        offset += len(text)
        if len(records) + len(malformed) >= _QUOTED_ROWS:
            yield _rows_of_records(start, records, malformed)
            start, records, malformed = offset, [], []
    yield _rows_of_records(start, records, malformed)


def dead_letter_line(file: str, offset: int, text: bytes, reason: str) -> str:
    """Returns the JSON line that reports one malformed row; a very long row is cut."""
    text = text.rstrip(b"\r\n")[:_TEXT_LIMIT].decode("utf-8", "replace")
    return json.dumps({"file": file, "offset": offset, "text": text, "reason": reason}, ensure_ascii=False) + "\n"


def _read_columns(lines: bytes, separator: bytes, row_format: RowFormat):
    """Returns user, item and time as bytes, and how many rows pyarrow skipped for their number of columns."""
    skipped = 0

    def skip(row) -> str:
        nonlocal skipped
        skipped += 1
        return "skip"

    names = [str(column) for column in range(row_format.num_columns)]
    user, item, time = (str(column) for column in (row_format.user, row_format.item, row_format.time))
    # Binary, not string or integer: a single bad value would otherwise fail the whole block.
    types = dict.fromkeys((user, item), pa.dictionary(pa.int32(), pa.binary())) | {time: pa.binary()}
    table = pa.csv.read_csv(
        pa.BufferReader(lines),
        read_options=pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(lines) + 1),
        parse_options=pa.csv.ParseOptions(
            delimiter=separator.decode(), quote_char=False, double_quote=False, invalid_row_handler=skip
        ),
        convert_options=pa.csv.ConvertOptions(include_columns=list(types), column_types=types),
    )
    user, item, time = (table[name].combine_chunks() for name in (user, item, time))
    return user, item, time, skipped


def _rows_of_records(start: int, records: list[tuple], malformed: list) -> Rows:
    """Returns the checked rows of (user, item, time, offset, text) records."""
    columns = [[record[c].encode("utf-8", "surrogateescape") for record in records] for c in range(3)]
    user, item, time = (pa.array(column, pa.binary()) for column in columns)
    events, bad = _check(
        user.dictionary_encode(), item.dictionary_encode(), time, lambda rows: [records[row][3:] for row in rows]
    )
    return Rows(start, events, sorted(malformed + bad))


def _check(
    user: pa.DictionaryArray, item: pa.DictionaryArray, time: pa.Array, locate: Locate
) -> tuple[pa.RecordBatch, list]:
    """Splits the rows into well-formed events and malformed ones; of several complaints the first one counts."""
    good_time = pc.match_substring_regex(time, _TIME)
    users, user_codes, complaints = _check_ids(user, EMPTY_USER)
    items, item_codes, item_complaints = _check_ids(item, EMPTY_ITEM)
    complaints += item_complaints
    complaints.append((~good_time.to_numpy(zero_copy_only=False), BAD_TIME))
    bad = np.logical_or.reduce([mask for mask, _ in complaints])
    malformed = []
    if bad.any():
        rows = np.flatnonzero(bad)
        first = np.argmax([mask[rows] for mask, _ in complaints], axis=0)
        located = zip(locate(rows), first, strict=True)
        malformed = [(start, text, complaints[which][1]) for (start, text), which in located]
        user_codes, item_codes, time = user_codes[~bad], item_codes[~bad], time.filter(pa.array(~bad))
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(user_codes), users),
        pa.DictionaryArray.from_arrays(pa.array(item_codes), items),
        time.cast(pa.string()).cast(pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA), malformed


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


def _line_spans(block: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first and the past-the-end byte of every line that is not blank, line ends excluded."""
    characters = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(characters == ord("\n"))
    if not len(ends) or ends[-1] != len(block) - 1:
        ends = np.append(ends, len(block))
    starts = np.concatenate([[0], ends[:-1] + 1])
    returns = (ends > starts) & (characters[ends - 1] == ord("\r"))
    ends = ends - returns
    return starts[ends > starts], ends[ends > starts]


def _well_formed_lines(lines: bytes, separator: bytes, num_columns: int) -> np.ndarray:
    """Returns the numbers of the lines that have the right number of columns: row r is line `result[r]`."""
    starts, ends = _line_spans(lines)
    separators = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord(separator))
    columns = np.searchsorted(separators, ends) - np.searchsorted(separators, starts) + 1
    return np.flatnonzero(columns == num_columns)


def _slices(block: bytes, offset: int, lines: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Yields (offset in the file, text) of lines of the block as it stands in the file."""
    starts, ends = _line_spans(block)
    for line in lines:
        yield offset + int(starts[line]), block[starts[line] : ends[line]]
