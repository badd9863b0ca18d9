"""Input files, wherever Beam's FileSystems reach: found by name or glob, measured and opened."""

import glob
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems

from beam_jobs.files import absolute, is_local, match, open_file
from beam_jobs.logs.compressed import open_bzip2, open_xz
from tfdnc.contracts.errors import UserError

_COMPRESSED: dict[str, tuple[str, Callable[[BinaryIO], BinaryIO]]] = {
    ".gz": ("gzip", lambda stored: gzip.GzipFile(fileobj=stored)),
    ".bz2": ("bzip2", open_bzip2),
    ".xz": ("xz", open_xz),
}
_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError)  # OSError: bz2 has no error of its own
_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar", ".zst", ".lz4")  # not read
_HIDDEN = ("_", ".")  # begin the names of files that are no data, to Hadoop and Spark: _SUCCESS, .part-0.csv.crc


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
        """True for a compressed file, which is readable from its beginning only."""
        return self.path.endswith(tuple(_COMPRESSED))


def find_files(locations: Sequence[str], key: str, ending: str = "csv") -> list[InputFile]:
    """Returns the files that paths, globs and URLs name, in order of name and then of path, each of them once.

    A name that exists is no glob, whatever its characters. Files and folders that a glob meets are left out if their
    names begin with `_` or `.`, as Hadoop's readers do, unless a part of the glob begins so. The order does not depend
    on that of `locations`, nor on where a folder lies: the files are the same log wherever they are copied to.

    Args:
        locations: what the config names.
        key: of the config, for messages.
        ending: of the names that such files have, for messages.

    Raises:
        UserError: a location names no file, or is not reached, or an archive is among the files.
    """
    found = {file.path: file for location in locations for file in _match(location, key, ending)}
    return sorted(found.values(), key=lambda file: (file.name, file.path))


def find_beside(folder: str, pattern: str) -> list[InputFile]:
    """Returns the files of a folder whose name matches `pattern`, perhaps none, as `find_files` orders them."""
    with _reaching(folder):
        found = match(absolute(folder), pattern)
    return sorted(map(_input_file, found), key=lambda file: file.name)


def _match(location: str, key: str, ending: str) -> list[InputFile]:
    path = absolute(location)
    if os.path.isdir(path):
        raise UserError(
            f"Expected files at {location}, found a folder; set {key} to its files, as in "
            f"{location.rstrip('/')}/*.{ending}."
        )
    with _reaching(location):
        files = FileSystems.get_filesystem(path)
        exists = files.exists(path)
        found = [files.metadata(path)] if exists else files.match([path])[0].metadata_list
    if not found:
        raise UserError(f"Expected a file at {location}, found no file there; set {key}.")
    shown = found if exists else [metadata for metadata in found if not _is_hidden(metadata.path, path)]
    if not shown:
        raise UserError(
            f"Expected a file at {location}, found only files whose names, or those of their folders, begin with _ or "
            f"., such as {found[0].path}; name them in {key} if they are meant."
        )
    for metadata in shown:
        if metadata.path.endswith(_PACKED):
            raise UserError(
                f"Expected files that are plain or compressed as {', '.join(_COMPRESSED)}, found {metadata.path}; "
                f"unpack it, and set {key} to what it holds."
            )
    return list(map(_input_file, shown))


def _is_hidden(path: str, pattern: str) -> bool:
    """Returns whether a file that a glob has met, or a folder on the way to it, has a name that is not of data."""
    parts = pattern.split("/")
    first = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    if any(part.startswith(_HIDDEN) for part in parts[first:]):
        return False
    return any(part.startswith(_HIDDEN) for part in path.split("/")[first:])


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
    """Opens the bytes of a file, decompressed if its name says that it is compressed.

    Raises:
        UserError: while the block reads, the file is not to be had or its compression is damaged.
    """
    # Not decompressed by Beam, which takes a truncated gzip file for a whole one.
    with open_file(file.path) as stored:
        if not file.compressed:
            yield stored
            return
        kind, decompress = _COMPRESSED[os.path.splitext(file.path)[1]]
        try:
            with decompress(stored) as stream:
                yield stream
        except _DAMAGE as error:
            if type(error) is OSError and error.args != ("Invalid data stream",):
                raise
            raise UserError(
                f"Expected a whole {kind} file at {file.path}, could not decompress it: {error}."
            ) from error


def is_empty(file: InputFile) -> bool:
    """Returns whether a file holds nothing at all; raises as `open_bytes` does."""
    if not file.size or not file.compressed:
        return not file.size
    with open_bytes(file) as stream:
        return not stream.read(1)
