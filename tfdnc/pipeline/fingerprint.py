"""What tells the inputs of a station from others: digests of settings and of files."""

import functools
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tfdnc.contracts.errors import UserError


@dataclass(frozen=True)
class RemoteFile:
    """An input file that is too far away to be read for its digest.

    Attributes:
        url: of the file.
        size: bytes.
        modified: seconds since 1970; with the size what tells it from a later file of this URL.
    """

    url: str
    size: int
    modified: float

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]


def digests_of(files: list[Path | RemoteFile]) -> dict[str, str]:
    """Returns the digest of every file by its name; a second file of the same name is "NAME (2)"."""
    digests: dict[str, str] = {}
    met = Counter()
    for file in files:
        met[file.name] += 1
        name = f"{file.name} ({met[file.name]})" if met[file.name] > 1 else file.name
        digests[name] = _file_digest(file)
    return digests


def _file_digest(file: Path | RemoteFile) -> str:
    if isinstance(file, RemoteFile):
        return f"{file.url}, {file.size} bytes, modified {file.modified}"
    if not file.is_file():
        raise UserError(f"Expected an input file at {file}, found none.")
    status = file.stat()
    return _content_digest(file.resolve(), status.st_size, status.st_mtime_ns, status.st_ino)


@functools.cache
def _content_digest(path: Path, size: int, modified: int, inode: int) -> str:
    """Digest of a file as it was then: a comparison asks for that of one log again for every run, at every ending."""
    del size, modified, inode  # they tell this content from an earlier one of the same path
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: dict) -> str:
    """Returns the SHA-256 of a dict that JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
