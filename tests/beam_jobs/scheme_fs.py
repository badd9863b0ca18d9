"""An object store for tests: `bucket://name/key` is one flat file in a folder, seen only when it is closed.

Importing this module makes its scheme known to Beam.
"""

import io
from pathlib import Path
from urllib.parse import quote, unquote

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

SCHEME = "bucket"


class BucketFileSystem(FileSystem):
    """Store with the fewest abilities that Beam's interface allows: no folders, appending or replacing by a rename.

    Attributes:
        root: folder that holds the objects; set by the test.
    """

    root: Path | None = None

    @classmethod
    def scheme(cls):
        return SCHEME

    def _object(self, path: str) -> Path:
        assert path.startswith(f"{SCHEME}://"), path
        return self.root / quote(path, safe="")

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *(path.strip("/") for path in paths)])

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path):
        raise BeamIOError("a bucket has no folders")

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        for file in self.root.iterdir():
            if (path := unquote(file.name)).startswith(dir_or_prefix):
                yield self.metadata(path)

    def create(self, path, mime_type="application/octet-stream", compression_type=None):
        return _Upload(self._object(path))

    def open(self, path, mime_type="application/octet-stream", compression_type=None):
        return self._object(path).open("rb")

    def copy(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names):
        for source, destination in zip(source_file_names, destination_file_names, strict=True):
            if self.exists(destination):
                raise BeamIOError(f"{destination} exists")
            self._object(source).rename(self._object(destination))

    def exists(self, path):
        return self._object(path).is_file()

    def size(self, path):
        return self.metadata(path).size_in_bytes

    def last_updated(self, path):
        return self.metadata(path).last_updated_in_seconds

    def checksum(self, path):
        return str(self.size(path))

    def metadata(self, path):
        status = self._object(path).stat()
        return FileMetadata(path, status.st_size, status.st_mtime)

    def delete(self, paths):
        for path in paths:
            self._object(path).unlink()


class _Upload(io.BytesIO):
    """Becomes an object when it is closed."""

    def __init__(self, place: Path):
        super().__init__()
        self._place = place

    def close(self):
        if not self.closed:
            self._place.write_bytes(self.getvalue())
        super().close()
