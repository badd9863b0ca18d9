"""Files of the jobs, on a disk or in a store that Beam's FileSystems supports, chosen by the scheme of the path.

A path is a string, `folder/file` or `scheme://bucket/folder/file`, because `pathlib` would change the second. Output
files are written completely or not at all.
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


def join(folder: str | os.PathLike[str], *names: str) -> str:
    """Returns the path of a file or folder below a folder."""
    return FileSystems.join(os.fspath(folder), *names)


def absolute(path: str | os.PathLike[str]) -> str:
    """Returns the absolute path, which is valid for workers in other working folders; URLs stay unchanged."""
    return os.path.abspath(path) if is_local(path) else os.fspath(path)


def parent(path: str) -> str:
    """Returns the folder that holds a file or folder."""
    return FileSystems.split(path.rstrip("/"))[0]


def is_local(path: str | os.PathLike[str]) -> bool:
    """Returns whether the path has no scheme, and is therefore on a disk of this machine."""
    return FileSystems.get_scheme(os.fspath(path)) is None


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a file to read its bytes without decompression; raises an `OSError` if it does not exist."""
    return FileSystems.open(os.fspath(path), compression_type=CompressionTypes.UNCOMPRESSED)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Makes a folder unless it exists; does nothing in a store without folders."""
    path = os.fspath(path)
    if FileSystems.get_filesystem(path).has_dirs() and not exists(path):
        FileSystems.mkdirs(path)


def exists(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file, or on a disk a folder, of this name exists."""
    return FileSystems.exists(os.fspath(path))


def match(folder: str | os.PathLike[str], pattern: str) -> list[FileMetadata]:
    """Returns the files below a folder that match a pattern; raises an `OSError` if the folder does not exist."""
    [found] = FileSystems.match([join(glob.escape(os.fspath(folder)), pattern)])
    return found.metadata_list


def find_files(folder: str | os.PathLike[str], pattern: str) -> list[str]:
    """Returns the paths below a folder that match a pattern (`*` stops at folders, `**` does not), in order."""
    folder = os.fspath(folder)
    if FileSystems.get_filesystem(folder).has_dirs() and not exists(folder):
        return []
    return sorted(metadata.path for metadata in match(folder, pattern))


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yields a stream to write to; the file gets its name when the block ends without an error.

    So a retried or killed worker leaves the former file or the complete new one. It may also leave a file `*.tmp-*`,
    which readers ignore and `remove_unfinished` removes.
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
        # HDFS does not replace a file. An earlier attempt of this bundle has already written the same bytes.
        delete([temporary])


def delete(paths: list[str]) -> None:
    """Deletes files."""
    # On a disk Beam reads the names as patterns.
    FileSystems.delete([glob.escape(path) if is_local(path) else path for path in paths])


def remove_unfinished(folder: str | os.PathLike[str]) -> None:
    """Removes the unfinished files that killed workers left below a folder, see `whole_file`."""
    if leftovers := find_files(folder, f"**{_TEMPORARY}*"):
        delete(leftovers)
