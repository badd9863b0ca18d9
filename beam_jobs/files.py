"""Where the jobs write and read their files: a disk, or any store that Beam's FileSystems knows by its scheme.

A path is a string, `folder/file` or `scheme://bucket/folder/file`; `pathlib` would turn the second into a local one.
Output files appear whole or not at all.
"""

import glob
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

_TEMPORARY = ".tmp-"


def join(folder: str | os.PathLike, *names: str) -> str:
    """Returns the path of something below a folder."""
    return FileSystems.join(os.fspath(folder), *names)


def absolute(path: str | os.PathLike) -> str:
    """Returns a path that means the same to a worker that runs in another folder."""
    return os.path.abspath(path) if is_local(path) else os.fspath(path)


def parent(path: str) -> str:
    """Returns the folder that a file or folder lies in."""
    return FileSystems.split(path.rstrip("/"))[0]


def is_local(path: str | os.PathLike) -> bool:
    """Returns whether the path has no scheme, and so lies on a disk of this machine."""
    return FileSystems.get_scheme(os.fspath(path)) is None


def open_file(path: str | os.PathLike) -> BinaryIO:
    """Opens a file to read its bytes as they are; raises an `OSError` if it is not there."""
    return FileSystems.open(os.fspath(path), compression_type=CompressionTypes.UNCOMPRESSED)


def make_folder(path: str | os.PathLike) -> None:
    """Makes a folder, unless it is there, where the store has such a thing."""
    path = os.fspath(path)
    if FileSystems.get_filesystem(path).has_dirs() and not exists(path):
        FileSystems.mkdirs(path)


def exists(path: str | os.PathLike) -> bool:
    """Returns whether there is a file, or on a disk a folder, of this name."""
    return FileSystems.exists(os.fspath(path))


def match(folder: str | os.PathLike, pattern: str) -> list[FileMetadata]:
    """Returns the files below a folder, whatever its name, that match a pattern; raises an `OSError` without it."""
    [found] = FileSystems.match([join(glob.escape(os.fspath(folder)), pattern)])
    return found.metadata_list


def find_files(folder: str | os.PathLike, pattern: str) -> list[str]:
    """Returns the paths below a folder that match a pattern (`*` stops at folders, `**` does not), in order."""
    folder = os.fspath(folder)
    if FileSystems.get_filesystem(folder).has_dirs() and not exists(folder):
        return []
    return sorted(metadata.path for metadata in match(folder, pattern))


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Yields a stream to write to; the file gets its name when the block ends well.

    A retried or killed worker therefore leaves either the former file, the complete new one, or a `*.tmp-*` that no
    reader looks at and `remove_unfinished` removes.
    """
    path = os.fspath(path)
    temporary = f"{path}{_TEMPORARY}{uuid.uuid4().hex}"
    try:
        with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            yield stream
        _rename(temporary, path)
    except BaseException:
        if exists(temporary):
            delete([temporary])
        raise


def _rename(temporary: str, path: str) -> None:
    try:
        FileSystems.rename([temporary], [path])
    except BeamIOError:
        if is_local(path) or not exists(path):
            raise
        # HDFS does not replace: a former attempt at this bundle has already written the same bytes.
        delete([temporary])


def delete(paths: list[str]) -> None:
    """Deletes files."""
    # On a disk Beam reads the names as patterns.
    FileSystems.delete([glob.escape(path) if is_local(path) else path for path in paths])


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Removes what killed workers left of `whole_file` below a folder."""
    if leftovers := find_files(folder, f"**{_TEMPORARY}*"):
        delete(leftovers)
