"""JSON Lines -> checked rows: pyarrow parses blocks, and Python the few lines around one that pyarrow rejects."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from beam_jobs.logs.feature_values import READERS
from beam_jobs.logs.lines import line_spans, slices_of
from beam_jobs.logs.log_rows import Columns, Rows, Wanted, as_bytes, check, encode_ids
from beam_jobs.logs.log_times import ISO, no_times, times_of_text
from tfdnc.contracts.features import Feature

NOT_JSON = "not one JSON object"
BAD_ID = "id is neither text nor an integer"

_LINES = pa.schema(
    [
        ("user", pa.dictionary(pa.int32(), pa.binary())),
        ("item", pa.dictionary(pa.int32(), pa.binary())),
        ("time", pa.int64()),
        ("fault", pa.int8()),
    ]
)
"""Columns of lines, before those of the other inputs of events, which are float64, or bytes for categories."""

_OTHER = math.inf  # replaces a value that is no JSON number; every kind of numbers takes it for malformed
_NO_VALUE = b"\xff"  # replaces a value that is no category; it is no UTF-8
_GOOD, _NOT_JSON, _BAD_ID = range(3)  # faults
_REASONS = {_NOT_JSON: NOT_JSON, _BAD_ID: BAD_ID}
_FEW_LINES = 64  # cheaper one by one than in halves
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class JsonFormat:
    """Names of the fields that are read, and their usual types.

    Attributes:
        user: name of the field with the user id.
        item: name of the field with the item id.
        time: name of the field with the time; None: the log has no times, and its rows are in order.
        time_unit: `data.time_unit`.
        numbers: those of the fields with ids, time and categories that hold integers in the first rows of the file.
            Rows of the other type are read too, but slowly.
        features: names of the fields with the other inputs of events: JSON numbers, categories, or missing.
    """

    user: str
    item: str
    time: str | None
    time_unit: str = "s"
    numbers: frozenset[str] = frozenset()
    features: Mapping[Feature, str] = field(default_factory=dict)

    wanted: ClassVar[tuple[Wanted, ...]] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields with user id, item id and, if there is one, time."""
        return (self.user, self.item) if self.time is None else (self.user, self.item, self.time)

    @property
    def layout(self) -> pa.Schema:
        """Columns of lines."""
        types = {one.event_column: _type(one) for one in self.features}
        return pa.schema([*_LINES, *(pa.field(name, kind) for name, kind in types.items())])

    def parse(self, block: bytes, offset: int) -> Rows:
        """Returns the rows of whole lines.

        A row is a line that is exactly one JSON object; empty lines are no rows. Ids are text or integers; 7 and "7"
        are the same id. Times are integers, or text in the formats of `times_of_text`.
        """
        lines = pa.Table.from_batches(_parse(block, *line_spans(block), self), self.layout).unify_dictionaries()
        user, item, time, fault, *values = (column.combine_chunks() for column in lines.columns)
        unreadable = tuple((fault.to_numpy() == code, reason) for code, reason in _REASONS.items())
        features = {one: READERS[one.kind].read(of_one) for one, of_one in zip(self.features, values, strict=True)}
        columns = Columns(user, item, time, self.time_unit, features=features, unreadable=unreadable)
        return check(columns, offset, lambda rows: slices_of(block, offset, rows))


def numbers_in(lines: bytes, fields: tuple[str, ...]) -> frozenset[str]:
    """Returns the fields whose first value, other than null, is an integer."""
    rows = [row for row in map(_object, lines.splitlines()) if row is not None]
    first = {field: row[field] for row in reversed(rows) for field in fields if row.get(field) is not None}
    return frozenset(field for field, value in first.items() if type(value) is int)


def _parse(block: bytes, starts: np.ndarray, ends: np.ndarray, row_format: JsonFormat) -> Iterator[pa.RecordBatch]:
    """Yields the `layout` of some consecutive lines of the block."""
    if not len(starts):
        return
    columns = _parse_at_once(block, starts, ends, row_format)
    if columns is None and len(starts) > _FEW_LINES:
        for half in (slice(len(starts) // 2), slice(len(starts) // 2, None)):
            yield from _parse(block, starts[half], ends[half], row_format)
    else:
        columns = columns or _parse_one_by_one(block, starts, ends, row_format)
        yield pa.RecordBatch.from_arrays(columns, schema=row_format.layout)


def _parse_at_once(block: bytes, starts: np.ndarray, ends: np.ndarray, row_format: JsonFormat) -> list[pa.Array] | None:
    """Returns the columns of consecutive lines, None if pyarrow rejects one or if one is not exactly one object.

    pyarrow treats a line end as any other blank. So all lines must begin and end with a brace, which excludes objects
    of several lines. The number of rows must be the number of lines, which excludes several objects in a line. There
    must be no NUL, at which pyarrow would end the text.
    """
    characters = np.frombuffer(block, np.uint8)[starts[0] : ends[-1]]
    braces = np.all(characters[starts - starts[0]] == ord("{")) and np.all(characters[ends - 1 - starts[0]] == ord("}"))
    if not braces or not characters.all():
        return None
    numbers = {field for one, field in row_format.features.items() if not one.form.is_category} - {*row_format.fields}
    fields = (*row_format.fields, *row_format.features.values())
    types = {field: pa.int64() if field in row_format.numbers else pa.string() for field in fields}
    types |= dict.fromkeys(numbers, pa.float64())
    try:
        rows = pa.json.read_json(
            pa.BufferReader(characters),
            pa.json.ReadOptions(use_threads=False, block_size=len(characters) + 1),
            pa.json.ParseOptions(explicit_schema=pa.schema(types), unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None
    if rows.num_rows != len(starts):
        return None
    user, item, *times = (rows[field].combine_chunks() for field in row_format.fields)
    time = times[0] if times else no_times(rows.num_rows)
    if time.type == pa.string():
        time = times_of_text(as_bytes(time), row_format.time_unit)
    values = [
        as_bytes(rows[field].combine_chunks()) if one.form.is_category else rows[field].combine_chunks()
        for one, field in row_format.features.items()
    ]
    return [encode_ids(user), encode_ids(item), time, pa.repeat(pa.scalar(_GOOD, pa.int8()), len(time)), *values]


def _parse_one_by_one(block: bytes, starts: np.ndarray, ends: np.ndarray, row_format: JsonFormat) -> list[pa.Array]:
    """Returns the columns of lines of any content."""
    rows = [_row(block[start:end], row_format) for start, end in zip(starts, ends, strict=True)]
    users, items, numbers, texts, faults, *values = zip(*rows, strict=True)
    ids = [pa.array(column, pa.binary()).dictionary_encode() for column in (users, items)]
    times = times_of_text(pa.array(texts, pa.binary()), row_format.time_unit)
    times = pc.coalesce(pa.array(numbers, pa.int64()), times)
    return [*ids, times, pa.array(faults, pa.int8()), *map(pa.array, values, map(_type, row_format.features))]


def _row(
    line: bytes, row_format: JsonFormat
) -> tuple[bytes, bytes, int | None, bytes | None, int, *tuple[float | bytes | None, ...]]:
    """Returns user id, item id, time if it is a number, time if it is text, fault and other inputs of one line."""
    row = _object(line)
    if row is None:
        return _row_of_pyarrow(line, row_format)
    user, item, *times = (row.get(field) for field in row_format.fields)
    time = times[0] if times else 0
    may_be_number = row_format.time is None or row_format.time_unit != ISO
    number = time if type(time) is int and time in _INT64 and may_be_number else None
    text = time.encode("utf-8", "surrogatepass") if isinstance(time, str) else None
    user, item = _id(user), _id(item)
    fault = _BAD_ID if user is None or item is None else _GOOD
    values = [
        _value(row.get(field)) if one.form.is_category else _number(row.get(field))
        for one, field in row_format.features.items()
    ]
    return user or b"", item or b"", number, text, fault, *values


def _row_of_pyarrow(
    line: bytes, row_format: JsonFormat
) -> tuple[bytes, bytes, int | None, None, int, *tuple[float | bytes | None, ...]]:
    """Returns the result of `_row` for a line that is no JSON to Python.

    pyarrow accepts a few of these, such as `Inf` or a thousand brackets in a field that is not read. Such a line must
    be a row in every block, also in one that Python parses line by line.
    """
    columns = _parse_at_once(line, np.array([0]), np.array([len(line)]), row_format)
    if columns is None:
        return b"", b"", None, None, _NOT_JSON, *([None] * len(row_format.features))
    user, item, time, fault, *values = (column[0].as_py() for column in columns)
    return user, item, time, None, fault, *values


def _object(line: bytes) -> dict[str, object] | None:
    """Returns the JSON object of a line, None if it is none."""
    try:
        # Bytes that are not UTF-8 stay unchanged, because they matter in ids only, which are checked later.
        row = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _number(value: object) -> float | None:
    """Returns a JSON number, None for null, and `_OTHER` for other values and for integers too large for a float."""
    if type(value) is int:
        return float(value) if abs(value) < 2**1023 else _OTHER
    return value if value is None or type(value) is float else _OTHER


def _value(value: object) -> bytes | None:
    """Returns a category as bytes, None for null, and `_NO_VALUE` for numbers with a fraction, lists and objects."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower().encode()
    found = _id(value)
    return _NO_VALUE if found is None else found


def _type(feature: Feature) -> pa.DataType:
    """Type of the column of an input in `JsonFormat.layout`."""
    return pa.binary() if feature.form.is_category else pa.float64()


def _id(value: object) -> bytes | None:
    """Returns an id as bytes, empty bytes for a missing one, and None for a value that cannot be one."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if type(value) is int:
        return str(value).encode()
    return b"" if value is None else None
