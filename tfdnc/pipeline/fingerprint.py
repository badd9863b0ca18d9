"""Fingerprints of a station's inputs: digests of settings and of files."""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdnc.contracts.errors import UserError


@dataclass(frozen=True)
class RemoteFile:
    """An input file in a remote store, which is not read for its digest.

    Attributes:
        url: URL of the file.
        size: bytes.
        modified: seconds since 1970; another value or size means another file under this URL.
    """

    url: str
    size: int
    modified: float

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]


def digests_of(files: Sequence[Path | RemoteFile]) -> dict[str, str]:
    """Returns the digest of every file by its name; a second file of the same name is "NAME (2)"."""
    digests: dict[str, str] = {}
    met: Counter[str] = Counter()
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
    """Returns the digest of a file, cached, because a comparison needs that of the same log for every run."""
    del size, modified, inode  # keys of the cache: they change with the content
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: dict[str, Any]) -> str:
    """Returns the SHA-256 of a JSON-serialisable dict; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
