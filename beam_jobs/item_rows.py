"""Files of items or users in the formats of logs: values of the columns that are read, or the fault of a row."""

import datetime
import decimal
import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.logs.inputs import InputFile, open_bytes
from beam_jobs.logs.log_rows import EMPTY_ITEM
from beam_jobs.logs.quoted_text import QuotedText, read_records
from tfdnc.contracts.data_config import Quotes
from tfdnc.contracts.errors import UserError

NOT_JSON = "not one JSON object"
NOT_UTF8 = "not UTF-8"
NO_VALUE = "a value that is neither text, a number nor a list of these"
BAD_ID = "id is neither text nor an integer"
TOO_FEW_FIELDS = "not item::title::genres"
NO_USER = "not user::gender::age::occupation::zip"

_USER_COLUMNS = ("gender", "age", "occupation", "zip")

_YEAR = re.compile(rb"\((\d{4})\)\s*$")

Value = str | list[str]
"""Content of a column: a text, or a list of texts if the format has lists."""


class ItemRow(NamedTuple):
    """A row of an item file.

    Attributes:
        offset: offset in bytes of the (decompressed) file; in Parquet the number of the row.
        text: bytes of the row in the file; in Parquet as JSON.
        item_id: id of the item, "" if the row is malformed.
        values: values of the other columns that are read, "" for a blank.
        fault: reason why the row is malformed, or None.
    """

    offset: int
    text: bytes
    item_id: str
    values: list[Value]
    fault: str | None = None


def malformed(offset: int, text: bytes, fault: str) -> ItemRow:
    """Returns a malformed row."""
    return ItemRow(offset, text, "", [], fault)


class ItemRows(Protocol):
    """An item file in one of the formats."""

    def read(self, known: Collection[str]) -> Iterator[ItemRow]:
        """Yields its rows in order, without blank lines; `known` are the item ids of the log."""


@dataclass(frozen=True)
class CsvItems:
    """CSV with a header and any separator of fields.

    Attributes:
        file: name and path.
        columns: positions of the columns that are read, the item id first.
        num_columns: number of fields that every row must have.
        separator: separator of the fields, one byte.
        quotes: as in `QuotedText`.
        data_start: offset of the first row in bytes.
    """

    file: InputFile
    columns: tuple[int, ...]
    num_columns: int
    separator: bytes
    quotes: Quotes
    data_start: int

    def read(self, known: Collection[str]) -> Iterator[ItemRow]:
        """Yields the rows; the lines of a quoted text are malformed rows if one of them is the row of a known item."""

        def is_row(line: bytes) -> bool:
            fields = line.rstrip(b"\r\n").split(self.separator)
            return len(fields) == self.num_columns and fields[self.columns[0]].decode("utf-8", "replace") in known

        layout = QuotedText(self.separator, self.num_columns, self.columns, self.quotes)
        with open_bytes(self.file) as stream:
            stream.seek(self.data_start)
            for record in read_records(stream, self.data_start, layout, is_row):
                if record.fault is None:
                    yield _row_of_bytes(record.offset, record.text, record.fields, "utf-8")
                else:
                    yield malformed(record.offset, record.text, record.fault)


@dataclass(frozen=True)
class MoviesDat:
    """MovieLens' movies.dat, `item::title::genres` in Latin-1.

    Columns are item, title, genres as categories, and the features: genres, and the year at the end of the title.
    """

    file: InputFile

    def read(self, known: Collection[str]) -> Iterator[ItemRow]:
        """Yields the rows."""
        del known
        for offset, line in _lines(self.file):
            item, *title = line.split(b"::")
            genres = title.pop() if title else b""
            if title:
                year = _YEAR.search(title[-1])
                fields = [item, b"::".join(title), genres, genres, year[1] if year else b""]
                yield _row_of_bytes(offset, line, fields, "latin-1")
            else:
                yield malformed(offset, line, TOO_FEW_FIELDS)


@dataclass(frozen=True)
class UsersDat:
    """MovieLens' users.dat, `user::gender::age::occupation::zip`.

    Attributes:
        file: name and path.
        columns: positions of the values that are read, after the user id.
    """

    file: InputFile
    columns: tuple[int, ...]

    @staticmethod
    def positions(names: Sequence[str]) -> tuple[int, ...]:
        """Returns the positions of columns by name.

        Raises:
            UserError: a name of another column.
        """
        for name in names:
            if name not in _USER_COLUMNS:
                known = ", ".join(_USER_COLUMNS)
                raise UserError(f"Expected {known} of users.dat in data.users.features, got {name}.")
        return tuple(1 + _USER_COLUMNS.index(name) for name in names)

    def read(self, known: Collection[str]) -> Iterator[ItemRow]:
        """Yields the rows."""
        del known
        for offset, line in _lines(self.file):
            fields = line.split(b"::")
            if len(fields) == 1 + len(_USER_COLUMNS):
                yield _row_of_bytes(offset, line, [fields[0], *(fields[place] for place in self.columns)], "latin-1")
            else:
                yield malformed(offset, line, NO_USER)


@dataclass(frozen=True)
class JsonItems:
    """JSON Lines: an object per line, with numbers, text or lists of these in the fields that are read.

    Attributes:
        file: name and path.
        names: names of the fields that are read, the item id first; a field that a row lacks is blank.
    """

    file: InputFile
    names: tuple[str, ...]

    def read(self, known: Collection[str]) -> Iterator[ItemRow]:
        """Yields the rows."""
        del known
        for offset, line in _lines(self.file):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict):
                yield _row_of_values(offset, line, [row.get(name) for name in self.names])
            else:
                yield malformed(offset, line, NOT_JSON)


@dataclass(frozen=True)
class ParquetItems:
    """Parquet, with numbers, text, times or lists of these in the columns that are read.

    Attributes:
        file: name and path.
        names: names of the columns that are read, the item id first.
    """

    file: InputFile
    names: tuple[str, ...]

    def read(self, known: Collection[str]) -> Iterator[ItemRow]:
        """Yields the rows."""
        del known
        offset, columns = 0, list(dict.fromkeys(self.names))
        with open_bytes(self.file) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=columns, use_threads=False):
                for row in self._rows_of(batch):
                    text = json.dumps(row, ensure_ascii=False, default=str).encode()
                    yield _row_of_values(offset, text, [row[name] for name in self.names])
                    offset += 1

    def _rows_of(self, batch: pa.RecordBatch) -> list[dict[str, object]]:
        try:
            return batch.to_pylist()
        except (ValueError, OverflowError, KeyError) as error:  # nanoseconds, years above 9999, unknown time zones
            raise UserError(
                f"Expected values that Python can hold in {', '.join(self.names)} of {self.file.path}, found others: "
                f"{error}. Cast these columns to text."
            ) from error


def _lines(file: InputFile) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that are not blank with their offsets, without line ends and byte order mark."""
    offset = 0
    with open_bytes(file) as stream:
        for line in stream:
            text = (line.removeprefix(b"\xef\xbb\xbf") if offset == 0 else line).rstrip(b"\r\n")
            if text:
                yield offset, text
            offset += len(line)


def _row_of_bytes(offset: int, text: bytes, fields: list[bytes], encoding: str) -> ItemRow:
    try:
        item_id, *values = (field.decode(encoding) for field in fields)
    except UnicodeDecodeError:
        return malformed(offset, text, NOT_UTF8)
    return ItemRow(offset, text, item_id, [*values]) if item_id else malformed(offset, text, EMPTY_ITEM)


def _row_of_values(offset: int, text: bytes, found: list[object]) -> ItemRow:
    item, *others = found
    if item is None or item == "":
        return malformed(offset, text, EMPTY_ITEM)
    item_id, converted = _text(item), [_value(other) for other in others]
    if item_id is None or isinstance(item, bool) or not isinstance(item, str | int | bytes | decimal.Decimal):
        return malformed(offset, text, BAD_ID)
    values = [value for value in converted if value is not None]
    if len(values) < len(others):
        return malformed(offset, text, NO_VALUE)
    try:
        json.dumps([item_id, *values], ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can hold as an escape
        return malformed(offset, text, NOT_UTF8)
    return ItemRow(offset, text, item_id, values)


def _value(found: object) -> Value | None:
    """Returns the value of a field of JSON or Parquet as a text or a list of texts, None if it is neither."""
    if not isinstance(found, list | tuple):
        return _text(found)
    texts = [text for text in map(_text, found) if text is not None]
    return texts if len(texts) == len(found) else None


def _text(found: object) -> str | None:
    if found is None or (isinstance(found, float) and math.isnan(found)):  # pandas' missing number
        return ""
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, bytes):
        return found.decode("utf-8", "replace")
    plain = str | int | float | decimal.Decimal | datetime.date | datetime.time
    return str(found) if isinstance(found, plain) else None
