"""Files whose rows are lines: cut into ranges of bytes if the beginnings of rows can be found, else streamed."""

import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from beam_jobs.logs.csv_rows import RowFormat, parse_quoted
from beam_jobs.logs.inputs import InputFile, open_bytes
from beam_jobs.logs.log_rows import Rows, Wanted

_SEARCHED_BYTES = 1 << 24  # read at a time, to search for quotes


class LineFormat(Protocol):
    """Layout of rows that are lines; only CSV has rows of several lines.

    It is pickled for the workers, and should compare by its fields, as a frozen dataclass does.
    """

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """Values that a well-formed row must have to count, () if every row counts."""

    def parse(self, block: bytes, offset: int) -> Rows:
        """Returns the rows of whole lines, each of them an event, filtered by a rule of `wanted`, or malformed.

        `log_rows.check` makes them from columns: it checks ids, times and other inputs as for every other format.

        Args:
            block: lines; only the last one may lack its line end. Blank lines are no rows.
            offset: number of bytes of the (decompressed) file before the block.
        """


@dataclass(frozen=True)
class TextFile:
    """A `LogFile` of lines.

    Attributes:
        file: name, path and size.
        row_format: layout of its rows.
        data_start: number of bytes before the first row (the header), in decompressed text.
    """

    file: InputFile
    row_format: LineFormat
    data_start: int = 0

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of the rules by which well-formed rows are left out."""
        return tuple(wanted.rule for wanted in self.row_format.wanted)

    def spans(self, chunk_bytes: int) -> Iterator[tuple[int, int | None]]:
        """Yields ranges of bytes; a row belongs to the range that holds its first byte.

        A compressed file, and one with quoted fields, is a single span, which one worker streams. The first can only
        be read from its beginning. In the second, a line may begin inside a quoted field.
        """
        if self.file.compressed or (self._quoted and self._has_quote()):
            yield self.data_start, None
            return
        for start in range(self.data_start, self.file.size, chunk_bytes):
            yield start, min(start + chunk_bytes, self.file.size)

    def read(self, start: int, end: int | None, chunk_bytes: int) -> Iterator[Rows]:
        """Yields the rows of a span."""
        with open_bytes(self.file) as stream:
            if end is None:
                stream.seek(start)
                yield from self._read_to_end(stream, chunk_bytes)
            else:
                yield from self._read_range(stream, start, end)

    def _read_range(self, stream: BinaryIO, start: int, end: int) -> Iterator[Rows]:
        """Yields the one block of a range."""
        if start > self.data_start:
            # Skip the rest of a line that began before; the byte before `start` shows whether there is one.
            stream.seek(start - 1)
            start += len(stream.readline()) - 1
        if start >= end:
            return
        stream.seek(start)
        block = stream.read(end - start)
        if not block.endswith(b"\n"):
            block += stream.readline()
        yield self.row_format.parse(block, start)

    def _read_to_end(self, stream: BinaryIO, chunk_bytes: int) -> Iterator[Rows]:
        """Yields blocks from the stream's position on; from the first quote on, the slower parser reads."""
        offset = stream.tell()
        while block := stream.read(chunk_bytes) + stream.readline():
            if self._quoted and b'"' in block:
                yield from parse_quoted(itertools.chain(io.BytesIO(block), stream), offset, self._quoted)
                return
            yield self.row_format.parse(block, offset)
            offset += len(block)

    @property
    def _quoted(self) -> RowFormat | None:
        """Layout of rows with quoted fields, which may hold line ends; None if every row is a line."""
        rows = self.row_format
        return rows if isinstance(rows, RowFormat) and rows.quotes != "none" else None

    def _has_quote(self) -> bool:
        with open_bytes(self.file) as stream:
            stream.seek(self.data_start)
            return any(b'"' in block for block in iter(lambda: stream.read(_SEARCHED_BYTES), b""))
