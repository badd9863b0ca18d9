"""Downloads of public data sets: fetch, check, unpack, rename."""

import hashlib
import logging
import re
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from tfdnc.contracts.errors import UserError
from tfdnc.contracts.registry import Registry

logger = logging.getLogger(__name__)

CHUNK = 1 << 16  # bytes
TIMEOUT = 60  # seconds without an answer

Opener = Callable[[str], BinaryIO]


@dataclass(frozen=True)
class DataSet:
    """A zip archive on the web.

    Attributes:
        url: URL of the archive.
        md5_url: URL of the file in which the publisher gives the archive's MD5. It is on the same server, so it
            protects from a damaged download, not from a malicious publisher.
        folder: folder of the files inside the archive.
        files: names of the files in that folder.
    """

    url: str
    md5_url: str
    folder: str
    files: tuple[str, ...]


DATA_SETS: Registry[DataSet] = Registry("data set")

DATA_SETS["ml-1m"] = DataSet(
    url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
    md5_url="https://files.grouplens.org/datasets/movielens/ml-1m.zip.md5",
    folder="ml-1m",
    files=("ratings.dat", "movies.dat", "users.dat", "README"),
)


def fetch(name: str, output: Path, opener: Opener | None = None) -> Path:
    """Downloads a data set into the folder `output`, which is made only after all checks.

    `ml-1m` is GroupLens' own file: 1,000,209 ratings of all 3,706 items, grouped by user but *not* in order of time
    inside a user. The published SASRec, BERT4Rec and gSASRec figures are of another file: it has only the 3,416 items
    with 5 ratings or more, each user's in order of time.

    `tfdnc prepare` filters and sorts, and keeps the order of the file among equal times. More than half of the rows
    have equal times, so the test items, and with them the figures, differ a little from those of the other file. The
    licence allows research use and forbids redistribution.

    Args:
        name: entry of `DATA_SETS`.
        output: folder to make; `data.path` of a config.
        opener: URL -> binary file; `urllib` unless given.

    Returns:
        `output`.

    Raises:
        UserError: unknown name, `output` exists, no network, or a download that is damaged.
    """
    data_set = DATA_SETS.resolve(name)
    output = Path(output)
    if output.exists():
        raise UserError(f"Expected to make {output}, but it exists; remove it or choose another folder.")
    opener = opener or _open_url
    output.parent.mkdir(parents=True, exist_ok=True)
    # The temporary folder is beside `output`, so that the last step is a rename on one file system.
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
        archive = Path(temporary) / "archive.zip"
        try:
            expected = _published_md5(data_set.md5_url, opener)
            found = _download(data_set.url, archive, opener)
        except (OSError, HTTPException) as error:  # urllib's own errors are OSErrors
            raise UserError(
                f"Expected to download {data_set.url}: {error}. Without a network, bring the archive by other means, "
                f"check it against {data_set.md5_url}, and unpack it so that {data_set.files[0]} lies in {output}."
            ) from error
        if found != expected:
            raise UserError(
                f"Expected MD5 {expected} of {data_set.url} (from {data_set.md5_url}), got {found}: the download is "
                "damaged; try again."
            )
        folder = Path(temporary) / "files"
        _extract(archive, data_set, folder)
        folder.rename(output)
    logger.info("%s is in %s", name, output)
    return output


def _open_url(url: str) -> BinaryIO:
    return urllib.request.urlopen(url, timeout=TIMEOUT)


def _published_md5(url: str, opener: Opener) -> str:
    """Returns the hash in an .md5 file of either of the two usual layouts."""
    with opener(url) as response:
        text = response.read(4096).decode("ascii", errors="replace")
    match = re.search(r"\b[0-9a-fA-F]{32}\b", text)
    if match is None:
        raise UserError(f"Expected an MD5 (32 hexadecimal digits) in {url}, got {text[:80]!r}; try again later.")
    return match[0].lower()


def _download(url: str, path: Path, opener: Opener) -> str:
    """Copies a URL to a file with a progress bar; returns the MD5 of the received bytes."""
    digest = hashlib.md5(usedforsecurity=False)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with opener(url) as response, path.open("wb") as file, Progress(*columns, TimeRemainingColumn()) as progress:
        announced = _announced_bytes(response)
        task = progress.add_task(PurePosixPath(url).name, total=announced)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            progress.advance(task, len(chunk))
        received = file.tell()
    if announced is not None and received != announced:
        raise UserError(f"Expected {announced} bytes of {url}, got {received}: the connection broke off; try again.")
    return digest.hexdigest()


def _announced_bytes(response: BinaryIO) -> int | None:
    """Returns the Content-Length, if the response has one."""
    length = response.headers.get("Content-Length") if hasattr(response, "headers") else None
    return int(length) if length is not None else None


def _extract(archive: Path, data_set: DataSet, folder: Path) -> None:
    """Copies the files of the data set, and no others, out of the archive; no name in it is used as a path."""
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as content:
            for name in data_set.files:
                with content.open(f"{data_set.folder}/{name}") as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UserError(
            f"Expected a zip archive with {', '.join(data_set.files)} in {data_set.folder}/ at {data_set.url}, got "
            f"something else ({error}); has the publisher changed it?"
        ) from error
