"""The log on disk: which file, which columns, and how it is cut into pieces that workers read alone."""

import csv
import gzip
import io
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from beam_jobs.log_rows import RowFormat, Rows, parse_block, parse_quoted
from tfdnc.config import DataConfig
from tfdnc.errors import UserError

RATINGS, MOVIES = "ratings.dat", "movies.dat"
_MOVIELENS_ROW = RowFormat(separator=b"::", quotes=False, num_columns=4, user=0, item=1, time=3)
_UTF8_MARK = b"\xef\xbb\xbf"


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

    def open(self) -> BinaryIO:
        """Opens the decompressed bytes."""
        return gzip.open(self.path, "rb") if self.compressed else open(self.path, "rb")


@dataclass(frozen=True)
class Piece:
    """The rows of a file that begin in bytes `[start, end)`; `end` None reads to the end of the file."""

    start: int
    end: int | None


def find_log(config: DataConfig) -> LogFile:
    """Returns the log file of the config.

    Raises:
        UserError: there is no such file, or its header lacks a column.
    """
    if config.path is None:
        raise UserError("Expected data.path to name the log, found no path in the config.")
    if config.format == "movielens":
        path = config.path / RATINGS
        if not path.is_file():
            raise UserError(f"Expected {RATINGS} (user::item::rating::time) in folder {config.path}, found none there.")
        return LogFile(path, _MOVIELENS_ROW)
    if not config.path.is_file():
        raise UserError(f"Expected a CSV log at {config.path}, found no file there; set data.path.")
    names = config.columns
    header, data_start = read_header(config.path)
    user, item, time = (
        column_of(header, name, f"data.columns.{key}", config.path)
        for key, name in (("user", names.user), ("item", names.item), ("time", names.time))
    )
    row_format = RowFormat(b",", True, len(header), user, item, time)
    return LogFile(config.path, row_format, data_start)


def read_header(path: Path) -> tuple[list[str], int]:
    """Returns the column names of a CSV file (perhaps gzipped) and the bytes that the header takes."""
    try:
        with LogFile(path, _MOVIELENS_ROW).open() as stream:
            line = stream.readline()
        text = line.removeprefix(_UTF8_MARK).decode().strip("\r\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"Expected CSV text in {path}, could not read its first line: {error}.") from error
    if not text:
        raise UserError(f"Expected a CSV header in the first line of {path}, found an empty line.")
    return next(csv.reader([text])), len(line)


def column_of(header: list[str], name: str, key: str, path: Path) -> int:
    """Returns the position of a column; `key` is the config key that names it."""
    if name not in header:
        raise UserError(f"Expected column {name!r} in {path}, found {', '.join(header)}; set {key}.")
    return header.index(name)


def cut(log: LogFile, chunk_bytes: int) -> list[Piece]:
    """Returns the pieces of the file.

    A place in the middle of a gzip stream or of a quoted field cannot be told from a row's beginning; such a file is
    one piece, which its worker streams.
    """
    if log.compressed or (log.row_format.quotes and _has_quote(log)):
        return [Piece(log.data_start, None)]
    size = log.path.stat().st_size
    return [Piece(start, min(start + chunk_bytes, size)) for start in range(log.data_start, size, chunk_bytes)]


def read_piece(log: LogFile, piece: Piece, chunk_bytes: int) -> Iterator[Rows]:
    """Yields the rows of a piece in file order, about `chunk_bytes` of text at a time."""
    try:
        with log.open() as stream:
            if piece.end is None:
                stream.seek(piece.start)
                yield from _read_to_end(stream, log.row_format, chunk_bytes)
            else:
                yield from _read_range(stream, log, piece)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"Expected a whole gzip file at {log.path}, could not decompress it: {error}.") from error


def _read_range(stream: BinaryIO, log: LogFile, piece: Piece) -> Iterator[Rows]:
    """Yields the one block of a byte range: it owns the lines whose first byte lies inside."""
    start = piece.start
    if start > log.data_start:
        # From one byte before: if that is a line end, the first line inside is whole.
        stream.seek(start - 1)
        start += len(stream.readline()) - 1
    if start >= piece.end:
        return
    stream.seek(start)
    block = stream.read(piece.end - start)
    if not block.endswith(b"\n"):
        block += stream.readline()
    yield parse_block(block, start, log.row_format)


def _read_to_end(stream: BinaryIO, row_format: RowFormat, chunk_bytes: int) -> Iterator[Rows]:
    """Yields blocks from the stream's position on; the slow parser takes over at the first quote."""
    offset = stream.tell()
    while block := stream.read(chunk_bytes) + stream.readline():
        if row_format.quotes and b'"' in block:
            yield from parse_quoted(itertools.chain(io.BytesIO(block), stream), offset, row_format)
            return
        yield parse_block(block, offset, row_format)
        offset += len(block)


def _has_quote(log: LogFile) -> bool:
    with log.open() as stream:
        stream.seek(log.data_start)
        return any(b'"' in block for block in iter(lambda: stream.read(1 << 24), b""))
