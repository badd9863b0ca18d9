"""Parquet files -> checked rows: a span is a row group, and only the columns that are needed are read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.logs.event_weights import is_number
from beam_jobs.logs.feature_values import READERS
from beam_jobs.logs.inputs import InputFile, open_bytes
from beam_jobs.logs.log_rows import Columns, Rows, as_bytes, check, encode_ids
from beam_jobs.logs.log_times import ISO, NO_TIMES, no_times, times_of_text, times_of_timestamps
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Feature

_ROW_BYTES = 32  # estimate of the size of a row of three columns in memory


@dataclass(frozen=True)
class ParquetFile:
    """A `LogFile` in Parquet; the offset of a row is its number in the file, from 0 on.

    Attributes:
        file: name, path and size.
        user: name of the column with the user id: integers, decimals without a fraction, text or bytes.
        item: name of the column with the item id, the same.
        time: name of the column with the time: integers, text or timestamps; None: the log has no times, and its
            rows are in order.
        time_unit: `data.time_unit`.
        num_row_groups: number of row groups of the file.
        features: names of the columns with the other inputs of events: numbers, text or truth values.
    """

    file: InputFile
    user: str
    item: str
    time: str | None
    time_unit: str
    num_row_groups: int
    features: Mapping[Feature, str] = field(default_factory=dict)

    rules: ClassVar[tuple[str, ...]] = ()

    def spans(self, chunk_bytes: int) -> Iterator[tuple[int, int]]:
        """Yields one span per row group of any size."""
        del chunk_bytes
        for group in range(self.num_row_groups):
            yield group, group + 1

    def read(self, start: int, end: int | None, chunk_bytes: int) -> Iterator[Rows]:
        """Yields the rows of row groups `start` to `end` - 1, or to the last one."""
        names = [self.user, self.item, *([] if self.time is None else [self.time]), *self.features.values()]
        names = list(dict.fromkeys(names))  # one column may serve as two inputs
        with open_bytes(self.file) as stream:
            parquet = pq.ParquetFile(stream, read_dictionary=[self.user, self.item])
            offset = sum(parquet.metadata.row_group(group).num_rows for group in range(start))
            rows = max(1, chunk_bytes // _ROW_BYTES)
            groups = range(start, self.num_row_groups if end is None else end)
            for batch in _whole(parquet.iter_batches(rows, groups, names, use_threads=False), self.file):
                yield self._check(batch, offset)
                offset += batch.num_rows

    def _check(self, batch: pa.RecordBatch, offset: int) -> Rows:
        user, item = batch[self.user], batch[self.item]
        times = no_times(batch.num_rows) if self.time is None else _times(batch[self.time], self.time_unit)

        def locate(rows: np.ndarray) -> Iterator[tuple[int, bytes]]:
            bad = batch.take(pa.array(rows))
            bad = pa.table({name: _printable(bad[name]) for name in bad.schema.names}).to_pylist()
            for row, values in zip(rows, bad, strict=True):
                yield offset + int(row), json.dumps(values, ensure_ascii=False).encode()

        features = {one: READERS[one.kind].read(_read(one, batch[name])) for one, name in self.features.items()}
        columns = Columns(encode_ids(user), encode_ids(item), times, self.time_unit, features=features)
        return check(columns, offset, locate)


def _whole(batches: Iterator[pa.RecordBatch], file: InputFile) -> Iterator[pa.RecordBatch]:
    """Yields the batches; raises a `UserError` where their bytes are damaged."""
    try:
        yield from batches
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"Expected a whole Parquet file at {file.path}, could not read its rows: {error}.") from error


def find_parquet(
    file: InputFile, columns: dict[str, str], time_unit: str, features: Mapping[Feature, str]
) -> ParquetFile:
    """Returns a Parquet file as a file of a log.

    Args:
        file: name, path and size.
        columns: names of the columns by "user", "item" and, if the log has times, "time".
        time_unit: `data.time_unit`.
        features: names of the columns of the other inputs of events.

    Raises:
        UserError: it is not Parquet, lacks a column, or has a column of a type that cannot be read.
    """
    try:
        with open_bytes(file) as stream:
            parquet = pq.ParquetFile(stream)
            found, num_row_groups = parquet.schema_arrow, parquet.num_row_groups
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"Expected a Parquet file at {file.path}, could not read its schema: {error}.") from error
    for key, name in columns.items():
        advice = f"set data.columns.{key}{NO_TIMES if key == 'time' else ''}"
        _refuse_type(file, name, _type_of(found, name, file, advice), time_unit if key == "time" else None)
    for feature, name in features.items():
        refuse = _refuse_other_than_values if feature.form.is_category else _refuse_other_than_numbers
        refuse(file, name, _type_of(found, name, file, f"set {feature.config_key}"))
    time = columns.get("time")
    return ParquetFile(file, columns["user"], columns["item"], time, time_unit, num_row_groups, features)


def _type_of(found: pa.Schema, name: str, file: InputFile, advice: str) -> pa.DataType:
    """Returns the type of the only column of a name; `advice` is for a file without such a column."""
    if found.names.count(name) > 1:
        raise UserError(f"Expected one column {name!r} in {file.path}, found several; rename all but one.")
    if found.get_field_index(name) < 0:
        raise UserError(f"Expected column {name!r} in {file.path}, found {', '.join(found.names)}; {advice}.")
    return found.field(name).type


def _refuse_type(file: InputFile, name: str, found: pa.DataType, time_unit: str | None) -> None:
    """Raises a `UserError` if ids (`time_unit` None), or times in this unit, cannot be read from such a column."""
    kind = found.value_type if pa.types.is_dictionary(found) else found
    text, whole = _is_text(kind), pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    instants = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    if time_unit is None:
        readable, expected, advice = text or whole, "integers or text", "cast it to one of these"
    elif time_unit == ISO:
        readable, expected, advice = text or instants, "timestamps or text", "set data.time_unit to s, ms or us"
    else:
        readable, expected = text or whole, f"integers ({time_unit}) or text"
        advice = "set data.time_unit: iso" if instants else "cast it to integers"
    if not readable:
        raise UserError(f"Expected {expected} in column {name!r} of {file.path}, found {found}; {advice}.")


def _refuse_other_than_numbers(file: InputFile, name: str, found: pa.DataType) -> None:
    """Raises a `UserError` if numbers cannot be read from such a column."""
    kind = found.value_type if pa.types.is_dictionary(found) else found
    if not (is_number(kind) or pa.types.is_decimal(kind) or _is_text(kind)):
        raise UserError(
            f"Expected numbers or text in column {name!r} of {file.path}, found {found}; cast it to double."
        )


def _refuse_other_than_values(file: InputFile, name: str, found: pa.DataType) -> None:
    """Raises a `UserError` if categories cannot be read from such a column."""
    kind = found.value_type if pa.types.is_dictionary(found) else found
    if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise UserError(
            f"Expected text, integers or truth values in column {name!r} of {file.path}, found {found}; cast it to "
            "text."
        )


def _is_text(found: pa.DataType) -> bool:
    tests = "string", "large_string", "string_view", "binary", "large_binary", "binary_view"
    return any(getattr(pa.types, f"is_{test}")(found) for test in tests)


def _plain(column: pa.Array) -> pa.Array:
    """Returns a column without dictionary encoding."""
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _read(feature: Feature, column: pa.Array) -> pa.Array:
    """Returns a column of an input as its reader takes it."""
    if not feature.form.is_category:
        return _numbers(column)
    column = _plain(column)
    return column if pa.types.is_boolean(column.type) else as_bytes(column)


def _numbers(column: pa.Array) -> pa.Array:
    """Returns a column that `_refuse_other_than_numbers` accepts, as numbers or bytes."""
    column = _plain(column)
    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64())
    return column if is_number(column.type) else as_bytes(column)


def _times(column: pa.Array, time_unit: str) -> pa.Array:
    """Returns the times of a column that `_refuse_type` accepts: int64, null where malformed."""
    column = _plain(column)
    if pa.types.is_signed_integer(column.type):
        return column.cast(pa.int64())
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return times_of_timestamps(column)
    return times_of_text(as_bytes(column), time_unit)


def _printable(column: pa.Array) -> pa.Array:
    """Returns a column as integers or text for JSON.

    Timestamps become text in Arrow, because Python's own have no nanoseconds.
    """
    column = _plain(column)
    if pa.types.is_integer(column.type):
        return column
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp(column.type.unit))  # in UTC, without its zone
    elif not pa.types.is_date(column.type):
        texts = [None if text is None else text.decode("utf-8", "replace") for text in as_bytes(column).to_pylist()]
        return pa.array(texts, pa.string())
    return column.cast(pa.string())
