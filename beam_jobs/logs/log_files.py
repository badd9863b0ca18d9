"""A log: its files, and the pieces of them that workers read alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Protocol

import pyarrow as pa

from beam_jobs.logs.inputs import InputFile
from beam_jobs.logs.log_rows import Rows, event_schema
from tfdnc.contracts.features import Feature


class LogFile(Protocol):
    """One file of a log, in one of the formats.

    Attributes:
        file: where it is.
        rules: by which well-formed rows of it are left out, in the order in which they are asked.
    """

    file: InputFile
    rules: tuple[str, ...]

    def spans(self, chunk_bytes: int) -> Iterator[tuple[int, int | None]]:
        """Yields what `read` reads alone, in order: from where up to where; None is the end of the file.

        Bytes of a text, of about `chunk_bytes`; row groups of a Parquet file.
        """

    def read(self, start: int, end: int | None, chunk_bytes: int) -> Iterator[Rows]:
        """Yields the rows of a span in file order, about `chunk_bytes` of them at a time."""


@dataclass(frozen=True)
class Log:
    """A log: the rows of its files, one file after the other.

    Attributes:
        source: what the config names, for messages.
        files: at least one.
        features: the inputs that the events of every file have beside their times.
    """

    source: str
    files: tuple[LogFile, ...]
    features: tuple[Feature, ...] = ()

    @property
    def event_schema(self) -> pa.Schema:
        """Columns of the events of every file."""
        return event_schema(self.features)

    @property
    def rules(self) -> list[str]:
        """The rules by which well-formed rows are left out, in the order in which they are asked."""
        return list(dict.fromkeys(rule for log_file in self.files for rule in log_file.rules))

    @cached_property
    def names(self) -> list[str]:
        """What to call every file: its name, or where names come twice its path below the folder of all files."""
        names = [log_file.file.name for log_file in self.files]
        if len(set(names)) == len(names):
            return names
        paths = [[part for part in log_file.file.path.split("/") if part] for log_file in self.files]
        shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))
        return ["/".join(path[shared:]) for path in paths]


@dataclass(frozen=True)
class Piece:
    """A span of file number `file`; see `LogFile.spans`."""

    file: int
    start: int
    end: int | None


def cut(log: Log, number: int, chunk_bytes: int) -> Iterator[Piece]:
    """Yields the pieces of one file, in order."""
    for start, end in log.files[number].spans(chunk_bytes):
        yield Piece(number, start, end)


def read_piece(log: Log, piece: Piece, chunk_bytes: int) -> Iterator[Rows]:
    """Yields the rows of a piece in file order, about `chunk_bytes` of text at a time."""
    return log.files[piece.file].read(piece.start, piece.end, chunk_bytes)
