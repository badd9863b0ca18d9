"""A log: its files, and the pieces of them that are the units of work."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from typing import Protocol

import pyarrow as pa

from beam_jobs.logs.inputs import InputFile
from beam_jobs.logs.log_rows import Rows, event_schema
from tfdnc.contracts.features import Feature


class LogFile(Protocol):
    """One file of a log, in one of the formats."""

    @property
    def file(self) -> InputFile:
        """Name, path and size."""

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of the rules by which well-formed rows are left out, in the order in which they apply."""

    def spans(self, chunk_bytes: int) -> Iterator[tuple[int, int | None]]:
        """Yields the (start, end) of spans for `read`, in order; the end None is the end of the file.

        The unit is bytes for text, about `chunk_bytes` per span, and row groups for Parquet.
        """

    def read(self, start: int, end: int | None, chunk_bytes: int) -> Iterator[Rows]:
        """Yields the rows of a span in file order, in blocks of about `chunk_bytes`."""


@dataclass(frozen=True)
class Log:
    """A log: the rows of its files, one file after the other.

    Attributes:
        source: locations in the config, for messages.
        files: at least one.
        features: inputs of the events of every file, beside their times.
        exposures: `data.exposures`, the column and the values of rows that are no events.
    """

    source: str
    files: tuple[LogFile, ...]
    features: tuple[Feature, ...] = ()
    exposures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def event_schema(self) -> pa.Schema:
        """Columns of the events of every file."""
        return event_schema(self.features)

    @property
    def rules(self) -> list[str]:
        """Names of the rules by which well-formed rows are left out, in the order in which they apply."""
        return list(dict.fromkeys(rule for log_file in self.files for rule in log_file.rules))

    @cached_property
    def names(self) -> list[str]:
        """Name of every file in figures and messages.

        If two files have one name, these are the paths below the folder that all files share.
        """
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
    """Yields the rows of a piece in file order, in blocks of about `chunk_bytes`."""
    return log.files[piece.file].read(piece.start, piece.end, chunk_bytes)
