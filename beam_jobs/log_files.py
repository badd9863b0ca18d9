"""The log on disk: its files, and how they are cut into pieces that workers read alone."""

import gzip
import io
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from beam_jobs.log_rows import RowFormat, Rows, parse_block, parse_quoted
from tfdnc.errors import UserError


def open_bytes(path: Path) -> BinaryIO:
    """Opens the bytes of a file, decompressed if its name says that it is gzipped."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")


@dataclass(frozen=True)
class LogFile:
    """One file of the log.

    Attributes:
        path: of the file, on a disk that every worker sees.
        row_format: how its rows are written.
        data_start: bytes before the first row (the header), counted in decompressed text.
    """

    path: Path
    row_format: RowFormat
    data_start: int = 0

    @property
    def compressed(self) -> bool:
        """Whether the file is gzipped, and so readable from its beginning only."""
        return self.path.suffix == ".gz"


@dataclass(frozen=True)
class Log:
    """A log: the rows of its files, one file after the other.

    Attributes:
        source: the file or folder that the config names.
        files: at least one, each with a name of its own.
    """

    source: Path
    files: tuple[LogFile, ...]

    @property
    def event_schema(self) -> pa.Schema:
        """Columns of the events of every file."""
        return self.files[0].row_format.event_schema

    @property
    def rules(self) -> list[str]:
        """The rules by which well-formed rows are left out, in the order in which they are asked."""
        return list(dict.fromkeys(wanted.rule for file in self.files for wanted in file.row_format.wanted))


@dataclass(frozen=True)
class Piece:
    """The rows of file number `file` that begin in bytes `[start, end)`; `end` None reads to the end of the file."""

    file: int
    start: int
    end: int | None


def cut(log: Log, chunk_bytes: int) -> list[Piece]:
    """Returns the pieces of all files, in order."""
    return [piece for number, file in enumerate(log.files) for piece in _cut_file(number, file, chunk_bytes)]


def _cut_file(number: int, file: LogFile, chunk_bytes: int) -> list[Piece]:
    """Returns the pieces of one file.

    A place in the middle of a gzip stream or of a quoted field cannot be told from a row's beginning; such a file is
    one piece, which its worker streams.
    """
    if file.compressed or (file.row_format.quotes and _has_quote(file)):
        return [Piece(number, file.data_start, None)]
    size = file.path.stat().st_size
    starts = range(file.data_start, size, chunk_bytes)
    return [Piece(number, start, min(start + chunk_bytes, size)) for start in starts]


def read_piece(log: Log, piece: Piece, chunk_bytes: int) -> Iterator[Rows]:
    """Yields the rows of a piece in file order, about `chunk_bytes` of text at a time."""
    file = log.files[piece.file]
    try:
        with open_bytes(file.path) as stream:
            if piece.end is None:
                stream.seek(piece.start)
                yield from _read_to_end(stream, file.row_format, chunk_bytes)
            else:
                yield from _read_range(stream, file, piece)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"Expected a whole gzip file at {file.path}, could not decompress it: {error}.") from error


def _read_range(stream: BinaryIO, file: LogFile, piece: Piece) -> Iterator[Rows]:
    """Yields the one block of a byte range: it owns the lines whose first byte lies inside."""
    start = piece.start
    if start > file.data_start:
        # From one byte before: if that is a line end, the first line inside is whole.
        stream.seek(start - 1)
        start += len(stream.readline()) - 1
    if start >= piece.end:
        return
    stream.seek(start)
    block = stream.read(piece.end - start)
    if not block.endswith(b"\n"):
        block += stream.readline()
    yield parse_block(block, start, file.row_format)


def _read_to_end(stream: BinaryIO, row_format: RowFormat, chunk_bytes: int) -> Iterator[Rows]:
    """Yields blocks from the stream's position on; the slow parser takes over at the first quote."""
    offset = stream.tell()
    while block := stream.read(chunk_bytes) + stream.readline():
        if row_format.quotes and b'"' in block:
            yield from parse_quoted(itertools.chain(io.BytesIO(block), stream), offset, row_format)
            return
        yield parse_block(block, offset, row_format)
        offset += len(block)


def _has_quote(file: LogFile) -> bool:
    with open_bytes(file.path) as stream:
        stream.seek(file.data_start)
        return any(b'"' in block for block in iter(lambda: stream.read(1 << 24), b""))
