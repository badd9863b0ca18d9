"""Strict reader of text with quoted fields (RFC 4180): a record is understood as it stands, or its lines are malformed.

A quote opens a field only at the beginning of the field, and a separator or the line end follows the closing quote.
Separators, quotes and line ends may stand between the two. Any other line is malformed, with a reason, and the reader
continues with the next line. So a quote that never closes costs one line only. Every line that is not blank is part of
exactly one `Record`.

An example with a header and commas, for a file that is open as `stream`:

    header = split_line(stream.readline(), b",")                              # None: the header itself is malformed
    layout = QuotedText(b",", len(header), columns=(header.index("item"), header.index("title")))
    for record in read_records(stream, offset_of_the_first_line, layout):
        if record.fault is None:
            item, title = record.fields                                       # bytes, in the order of `columns`
        else:
            ...                                                               # one line of the file, record.text
"""

import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from tfdnc.contracts.data_config import Quotes

WRONG_COLUMNS = "wrong number of columns"
NEVER_CLOSES = "a quote that never closes"
TEXT_AFTER_QUOTE = "text after a closing quote"
QUOTE_INSIDE = "a quote inside a field that does not begin with one"
BACKSLASH = "a quote after a backslash"
AMBIGUOUS = "a quoted field that holds a whole row"
"""Faults of lines."""

LONGEST_RECORD = 1 << 24
"""Bytes after which a quote counts as never closed, because the lines up to its end are held in memory."""

_QUOTED = {"doubled": rb'"[^"]*+(?:""[^"]*+)*+"', "escaped": rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'}
_ESCAPED = re.compile(rb'\\(["\\])')  # a backslash before anything else is a backslash


class Record(NamedTuple):
    """A well-formed record, or a malformed line.

    Attributes:
        offset: number of bytes of the file before it.
        text: its bytes in the file, line ends included; several lines only if a quoted field holds line ends.
        fields: the fields of `QuotedText.columns`, without their quotes; empty if it is malformed.
        fault: reason why it is malformed, or None.
    """

    offset: int
    text: bytes
    fields: list[bytes]
    fault: str | None = None


@dataclass(frozen=True)
class QuotedText:
    """Layout of records, and the fields that are read.

    Attributes:
        separator: separator of the fields; one byte, neither a quote nor a line end.
        num_columns: number of fields that every record must have.
        columns: positions of the fields to return.
        quotes: `doubled`: a quote inside a quoted field is written twice; `escaped`: it is written after a backslash,
            and a backslash is written twice; `none`: a quote is an ordinary character.
    """

    separator: bytes
    num_columns: int
    columns: tuple[int, ...]
    quotes: Quotes = "doubled"

    @cached_property
    def one_line(self) -> re.Pattern[bytes]:
        """Pattern of a well-formed record of one line, with a group for every column that is read."""
        field = rb'%b|[^"%b]*+' % (_QUOTED[self.quotes], re.escape(self.separator))
        read = set(self.columns)
        fields = [(b"(%b)" if column in read else b"(?:%b)") % field for column in range(self.num_columns)]
        return re.compile(re.escape(self.separator).join(fields), re.DOTALL)

    @cached_property
    def closing(self) -> re.Pattern[bytes]:
        """Pattern of the rest of a quoted field, its closing quote included."""
        return re.compile(_QUOTED[self.quotes][1:], re.DOTALL)

    def unquote(self, field: bytes) -> bytes:
        """Returns a field without its quotes."""
        if not field.startswith(b'"'):
            return field.replace(b"\r", b" ")  # as in all readers here, a lone carriage return is a blank
        inside = field[1:-1]
        return inside.replace(b'""', b'"') if self.quotes == "doubled" else _ESCAPED.sub(rb"\1", inside)


def read_records(
    lines: Iterable[bytes], offset: int, layout: QuotedText, is_row: Callable[[bytes], bool] | None = None
) -> Iterator[Record]:
    """Yields the records of a text and its malformed lines, in order; blank lines are neither.

    Args:
        lines: lines from the beginning of a record to the end of the file, each with its line end.
        offset: number of bytes of the file before them.
        layout: layout of the records.
        is_row: tells whether a line inside a record, its line end included, may be a row by itself. Such a record is
            ambiguous, because a closing quote may be missing. So each of its lines is malformed.
    """
    separator, num_columns, columns = layout.separator, layout.num_columns, layout.columns
    groups = [1 + sorted(set(columns)).index(column) for column in columns]
    one_line = None if layout.quotes == "none" else layout.one_line.fullmatch
    source, ahead = iter(lines), deque[bytes]()

    def following() -> bytes:
        return ahead.popleft() if ahead else next(source, b"")

    while line := ahead.popleft() if ahead else next(source, b""):
        text = _without_end(line)
        if one_line is None or b'"' not in line:
            fields = (text.replace(b"\r", b" ") if b"\r" in text else text).split(separator)
            if len(fields) == num_columns and text:
                yield Record(offset, line, [fields[column] for column in columns])
            elif text:
                yield Record(offset, line, [], WRONG_COLUMNS)
            offset += len(line)
        elif found := one_line(text):
            values = [found[group] for group in groups]
            if b'"' in b"".join(values) or b"\r" in text:
                values = [layout.unquote(value) for value in values]
            yield Record(offset, line, values)
            offset += len(line)
        else:
            fields, record, fault = _split(line, following, layout)
            if fault is None:
                fault = _fault_of_record(fields, record, layout, is_row)
            else:  # only the first line is malformed; the lines after it may be records
                ahead.extendleft(reversed(record[1:]))
                fault, record = _fault_of_quotes(fault, record, layout), record[:1]
            if fault is None:
                yield Record(offset, b"".join(record), [fields[column] for column in columns])
            else:
                starts = itertools.accumulate(map(len, record), initial=offset)
                yield from (Record(start, line, [], fault) for start, line in zip(starts, record, strict=False))
            offset += sum(map(len, record))


def _fault_of_quotes(fault: str, record: list[bytes], layout: QuotedText) -> str:
    """Returns the fault of the first line of a record that was read up to a fault of its quotes."""
    if layout.quotes == "doubled" and b'\\"' in record[0]:
        return BACKSLASH
    return NEVER_CLOSES if len(record) > 1 else fault


def _fault_of_record(
    fields: list[bytes], record: list[bytes], layout: QuotedText, is_row: Callable[[bytes], bool] | None
) -> str | None:
    """Returns the fault of a record whose quotes are well-formed, or None."""
    if is_row is not None and any(map(is_row, record[1:])):
        return AMBIGUOUS
    return None if len(fields) == layout.num_columns else WRONG_COLUMNS


def split_line(line: bytes, separator: bytes, quotes: Quotes = "doubled") -> list[bytes] | None:
    """Returns all fields of a record of one line, None if it is malformed; any number of fields is allowed."""
    if quotes == "none":
        return _without_end(line).split(separator)
    fields, _, fault = _split(line, lambda: b"", QuotedText(separator, 0, (), quotes))
    return None if fault else fields


def _without_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _split(
    first: bytes, following: Callable[[], bytes], layout: QuotedText
) -> tuple[list[bytes], list[bytes], str | None]:
    """Returns the fields of the record that begins with a line, the lines of the record, and its fault or None.

    Args:
        first: first line of the record.
        following: returns the next line, empty after the last one.
        layout: layout of the record.
    """
    lines, start, size = [first], 0, len(first)
    fields: list[bytes] = []
    while True:
        line = lines[-1]
        if line.startswith(b'"', start):
            parts, start, begin = [], start, start + 1
            while (rest := layout.closing.match(line, begin)) is None:
                parts.append(line[start:])
                line, start, begin = following(), 0, 0
                lines += [line] if line else []
                size += len(line)
                if not line or size > LONGEST_RECORD:
                    return fields, lines, NEVER_CLOSES
            parts.append(line[start : rest.end()])
            fields.append(layout.unquote(b"".join(parts)))
            start = rest.end()
        else:
            stop = line.find(layout.separator, start)
            field = line[start:stop] if stop >= 0 else _without_end(line)[start:]
            if b'"' in field:
                return fields, lines, QUOTE_INSIDE
            fields.append(layout.unquote(field))
            start += len(field)
        if start >= len(_without_end(line)):
            return fields, lines, None
        if not line.startswith(layout.separator, start):
            return fields, lines, TEXT_AFTER_QUOTE
        start += len(layout.separator)


def advice_on(faults: Iterable[str], key: str) -> str:
    """Returns advice on faults, one sentence per kind; `key` is the config key of the quotes."""
    kinds = set(faults)
    advice = f" Quotes that are escaped by a backslash need {key}: escaped." if BACKSLASH in kinds else ""
    if kinds & {NEVER_CLOSES, TEXT_AFTER_QUOTE, QUOTE_INSIDE, AMBIGUOUS}:
        advice += f" Where quotes are characters like any other, and enclose no field, set {key}: none."
    return advice
