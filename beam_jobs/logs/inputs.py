"""Input files in any of Beam's FileSystems: found by name or glob, measured and opened."""

import glob
import gzip
import io
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


def _open_gzip(stored: BinaryIO) -> BinaryIO:
    return io.BufferedReader(gzip.GzipFile(fileobj=stored))


_COMPRESSED: dict[str, tuple[str, Callable[[BinaryIO], BinaryIO]]] = {
    ".gz": ("gzip", _open_gzip),
    ".bz2": ("bzip2", open_bzip2),
    ".xz": ("xz", open_xz),
}
_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError)  # OSError: bz2 has no error of its own
_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar", ".zst", ".lz4")  # not read
_HIDDEN = ("_", ".")  # first letter of files without data, as in Hadoop and Spark: _SUCCESS, .part-0.csv.crc


@dataclass(frozen=True)
class InputFile:
    """A file that exists.

    Attributes:
        path: absolute, because workers have other working folders; or a URL.
        size: bytes of the stored, perhaps compressed, file.
        modified: seconds since 1970; 0 if the file system does not report it.
    """

    path: str
    size: int
    modified: float

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def local(self) -> bool:
        """True for a file of this machine, or of a folder that is mounted here."""
        return is_local(self.path)

    @property
    def compressed(self) -> bool:
        """True for a compressed file, which is readable from its beginning only."""
        return self.path.endswith(tuple(_COMPRESSED))


def find_files(locations: Sequence[str], key: str, ending: str = "csv") -> list[InputFile]:
    """Returns the files of paths, globs and URLs, in order of name and then of path, each of them once.

    The name of an existing file is never read as a glob. As in Hadoop's readers, a glob leaves out files and folders
    whose names begin with `_` or `.`, unless a part of the glob begins so. The order does not depend on that of
    `locations`, nor on the folder: a copy of the files is the same log.

    Args:
        locations: paths, globs and URLs of the config.
        key: key of the config, for messages.
        ending: usual suffix of such files, for messages.

    Raises:
        UserError: a location names no file, or cannot be read, or an archive is among the files.
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
    """Returns whether a file that a glob found, or a folder of its path, has the name of a file without data."""
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
    """Opens the bytes of a file, decompressed if its name has the suffix of a compression.

    Raises:
        UserError: the compressed file turns out to be damaged while the block reads it.
    """
    # Beam does not decompress here, because it takes a truncated gzip file for a whole one.
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
    """Returns whether a file has no content; raises the errors of `open_bytes`."""
    if not file.size or not file.compressed:
        return not file.size
    with open_bytes(file) as stream:
        return not stream.read(1)
