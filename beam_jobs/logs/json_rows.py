"""JSON Lines -> checked rows: pyarrow parses blocks, and Python the few lines around one that pyarrow refuses."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from beam_jobs.logs.feature_values import READERS
from beam_jobs.logs.lines import line_spans, slices_of
from beam_jobs.logs.log_rows import Columns, Rows, as_bytes, check, encode_ids
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
"""Columns of lines, before those of the other inputs of events, which are float64."""

_OTHER = math.inf  # stands for a value that is no JSON number, and that no kind takes for one
_GOOD, _NOT_JSON, _BAD_ID = range(3)  # faults
_REASONS = {_NOT_JSON: NOT_JSON, _BAD_ID: BAD_ID}
_FEW_LINES = 64  # cheaper one by one than in halves
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class JsonFormat:
    """Which fields of a row are read, and what they hold in most rows.

    Attributes:
        user: name of the field with the user id.
        item: name of the field with the item id.
        time: name of the field with the time; None: the log has none, and is in order.
        time_unit: `data.time_unit`.
        numbers: those of the fields with ids and time that hold integers where the file begins. A row that holds text
            there, or the other way round, is read as well, but slowly.
        features: names of the fields with the other inputs of events, which are JSON numbers or missing.
    """

    user: str
    item: str
    time: str | None
    time_unit: str = "s"
    numbers: frozenset[str] = frozenset()
    features: Mapping[Feature, str] = field(default_factory=dict)

    wanted = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields with user id, item id and, if there is one, time."""
        return (self.user, self.item) if self.time is None else (self.user, self.item, self.time)

    @property
    def layout(self) -> pa.Schema:
        """Columns of lines."""
        return pa.schema([*_LINES, *(pa.field(feature.event_column, pa.float64()) for feature in self.features)])

    def parse(self, block: bytes, offset: int) -> Rows:
        """Returns the rows of whole lines.

        A row is a line that is exactly one JSON object; empty lines are no rows. Ids are text or integers, 7 and "7"
        are the same one. Times are integers, or text as `times_of_text` reads it.
        """
        lines = pa.Table.from_batches(_parse(block, *line_spans(block), self), self.layout).unify_dictionaries()
        user, item, time, fault, *values = (column.combine_chunks() for column in lines.columns)
        unreadable = tuple((fault.to_numpy() == code, reason) for code, reason in _REASONS.items())
        features = {one: READERS[one.kind].read(of_one) for one, of_one in zip(self.features, values, strict=True)}
        columns = Columns(user, item, time, self.time_unit, features=features, unreadable=unreadable)
        return check(columns, offset, lambda rows: slices_of(block, offset, rows))


def numbers_in(lines: bytes, fields: tuple[str, ...]) -> frozenset[str]:
    """Returns which of the fields hold an integer where they first hold anything."""
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
    """Returns the columns of consecutive lines, None if pyarrow refuses one or if one is not exactly one object.

    To pyarrow a line end is a blank like any other. But where all lines begin and end with a brace no object goes over
    several of them, and of several objects in a line the number of rows tells; a zero byte would end the text.
    """
    characters = np.frombuffer(block, np.uint8)[starts[0] : ends[-1]]
    braces = np.all(characters[starts - starts[0]] == ord("{")) and np.all(characters[ends - 1 - starts[0]] == ord("}"))
    if not braces or not characters.all():
        return None
    types = {field: pa.int64() if field in row_format.numbers else pa.string() for field in row_format.fields}
    types |= dict.fromkeys(row_format.features.values(), pa.float64())
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
    values = [rows[field].combine_chunks() for field in row_format.features.values()]
    return [encode_ids(user), encode_ids(item), time, pa.repeat(pa.scalar(_GOOD, pa.int8()), len(time)), *values]


def _parse_one_by_one(block: bytes, starts: np.ndarray, ends: np.ndarray, row_format: JsonFormat) -> list[pa.Array]:
    """Returns the columns of any lines."""
    rows = [_row(block[start:end], row_format) for start, end in zip(starts, ends, strict=True)]
    users, items, numbers, texts, faults, *values = zip(*rows, strict=True)
    ids = [pa.array(column, pa.binary()).dictionary_encode() for column in (users, items)]
    times = times_of_text(pa.array(texts, pa.binary()), row_format.time_unit)
    times = pc.coalesce(pa.array(numbers, pa.int64()), times)
    return [*ids, times, pa.array(faults, pa.int8()), *(pa.array(of_one, pa.float64()) for of_one in values)]


def _row(
    line: bytes, row_format: JsonFormat
) -> tuple[bytes, bytes, int | None, bytes | None, int, *tuple[float | None, ...]]:
    """Returns user id, item id, time if it is a number, time if it is text, fault and other inputs of one line."""
    row = _object(line)
    if row is None:
        return _row_of_pyarrow(line, row_format)
    user, item, *times = (row.get(field) for field in row_format.fields)
    time = times[0] if times else 0
    number = type(time) is int and time in _INT64 and (row_format.time is None or row_format.time_unit != ISO)
    text = time.encode("utf-8", "surrogatepass") if isinstance(time, str) else None
    user, item = _id(user), _id(item)
    fault = _BAD_ID if user is None or item is None else _GOOD
    values = [_number(row.get(field)) for field in row_format.features.values()]
    return user or b"", item or b"", time if number else None, text, fault, *values


def _row_of_pyarrow(
    line: bytes, row_format: JsonFormat
) -> tuple[bytes, bytes, int | None, None, int, *tuple[float | None, ...]]:
    """Returns what `_row` does of a line that is no JSON to Python.

    A few are to pyarrow, which does not look into fields that nobody reads: `Inf`, or a thousand brackets. They must
    be rows in every block or in none.
    """
    columns = _parse_at_once(line, np.array([0]), np.array([len(line)]), row_format)
    if columns is None:
        return b"", b"", None, None, _NOT_JSON, *([None] * len(row_format.features))
    user, item, time, fault, *values = (column[0].as_py() for column in columns)
    return user, item, time, None, fault, *values


def _object(line: bytes) -> dict | None:
    """Returns the JSON object that a line is, None if it is none."""
    try:
        # Bytes that are not UTF-8 matter in an id only, where they come out as they went in.
        row = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _number(value: object) -> float | None:
    """Returns a JSON number, None for null, and `_OTHER` for anything else and for integers beyond all floats."""
    if type(value) is int:
        return float(value) if abs(value) < 2**1023 else _OTHER
    return value if value is None or type(value) is float else _OTHER


def _id(value: object) -> bytes | None:
    """Returns an id as bytes, nothing for a missing one, and None for what cannot be one."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if type(value) is int:
        return str(value).encode()
    return b"" if value is None else None
