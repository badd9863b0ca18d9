"""Input files, wherever Beam's FileSystems reach: found by name or glob, measured and opened."""

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems

from beam_jobs.files import absolute, is_local, match, open_file
from tfdnc.errors import UserError


@dataclass(frozen=True)
class InputFile:
    """A file that exists.

    Attributes:
        path: absolute, because workers have other working folders; or a URL.
        size: bytes, as they are stored.
        modified: seconds since 1970; 0 where the file system does not say.
    """

    path: str
    size: int
    modified: float

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def local(self) -> bool:
        """Whether it is a file of this machine, or of a folder that is mounted here."""
        return is_local(self.path)

    @property
    def compressed(self) -> bool:
        """Whether the file is gzipped, and so readable from its beginning only."""
        return self.path.endswith(".gz")


def find_files(locations: Sequence[str], key: str) -> list[InputFile]:
    """Returns the files that paths, globs and URLs name, in order of name and then of path, each of them once.

    A name that exists is no glob, whatever its characters. The order does not depend on that of `locations`, nor on
    where a folder lies: the files are the same log wherever they are copied to.

    Args:
        locations: what the config names.
        key: of the config, for messages.

    Raises:
        UserError: a location names no file, or is not reached.
    """
    found = {file.path: file for location in locations for file in _match(location, key)}
    return sorted(found.values(), key=lambda file: (file.name, file.path))


def find_beside(folder: str, pattern: str) -> list[InputFile]:
    """Returns the files of a folder whose name matches `pattern`, perhaps none, as `find_files` orders them."""
    with _reaching(folder):
        found = match(absolute(folder), pattern)
    return sorted(map(_input_file, found), key=lambda file: file.name)


def _match(location: str, key: str) -> list[InputFile]:
    path = absolute(location)
    if os.path.isdir(path):
        raise UserError(
            f"Expected files at {location}, found a folder; set {key} to its files, as in {location}/*.csv."
        )
    with _reaching(location):
        files = FileSystems.get_filesystem(path)
        found = [files.metadata(path)] if files.exists(path) else files.match([path])[0].metadata_list
    if not found:
        raise UserError(f"Expected a file at {location}, found no file there; set {key}.")
    return list(map(_input_file, found))


def _input_file(metadata: FileMetadata) -> InputFile:
    return InputFile(metadata.path, metadata.size_in_bytes, metadata.last_updated_in_seconds)


@contextmanager
def _reaching(location: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: no file system has this scheme
        raise UserError(f"Expected to find {location}, could not look there: {error}.") from error


@contextmanager
def open_bytes(file: InputFile) -> Iterator[BinaryIO]:
    """Opens the bytes of a file, decompressed if its name says that it is gzipped.

    Raises:
        UserError: while the block reads, the file is not to be had or its compression is damaged.
    """
    try:
        # Not decompressed by Beam, which takes a truncated gzip file for a whole one.
        with open_file(file.path) as stored:
            if not file.compressed:
                yield stored
                return
            with gzip.GzipFile(fileobj=stored) as stream:
                yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"Expected a whole gzip file at {file.path}, could not decompress it: {error}.") from error
