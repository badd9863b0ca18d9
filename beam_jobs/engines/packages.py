"""What an engine needs beside Python: found on this machine, or fetched once from public package registries."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tfdnc.errors import UserError

# Flink's minor version must be one that Beam's runner is built for; PyPI publishes the hash.
FLINK = "1.20.1"
_FLINK_SHA256 = "be28293619b1d7b04c970b947133ae8d0ca86681f23694be063b3659ea69bb79"


class UnavailableError(UserError):
    """An engine cannot be had here."""


@dataclass(frozen=True)
class Flink:
    """Flink's files.

    Attributes:
        version: major and minor number.
        libraries: folder of the jars of a cluster.
        job_server: Beam's jar that turns a job into one for Flink.
    """

    version: str
    libraries: Path
    job_server: Path


def cache_folder() -> Path:
    """Returns where packages are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfdnc" / "engines"


def fetch_flink() -> Flink:
    """Returns Flink's files, fetched if they are not in the cache; raises `UnavailableError` with what is missing."""
    if not shutil.which("java"):
        raise UnavailableError("Expected java (17) in the PATH to run Flink, found none; install a Java runtime.")
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    minor = FLINK.rpartition(".")[0]
    # The job server first: it is the rarer good, and the cluster without it is 231 MB for nothing.
    return Flink(minor, job_server=_fetch_job_server(cache, minor), libraries=fetch_flink_libraries(cache))


def _fetch_job_server(cache: Path, flink_version: str) -> Path:
    artifact, beam_version = f"beam-runners-flink-{flink_version}-job-server", version("apache-beam")
    jar = cache / f"{artifact}-{beam_version}.jar"
    if jar.is_file():
        return jar
    if not shutil.which("mvn"):
        raise UnavailableError(
            f"Expected mvn in the PATH to fetch {jar.name}, found none; install Maven or put it in {cache}."
        )
    coordinates = f"org.apache.beam:{artifact}:{beam_version}"
    # Maven itself, for its settings name the mirrors and proxies of this place, and it compares checksums.
    command = [
        "mvn",
        "--batch-mode",
        "--quiet",
        "-Dstyle.color=never",
        "--update-snapshots",
        "--strict-checksums",
        "dependency:copy",
    ]
    fetched = subprocess.run(
        [*command, f"-Dartifact={coordinates}", f"-DoutputDirectory={cache}"], cwd=cache, capture_output=True, text=True
    )
    if not jar.is_file():
        reason = next((line for line in fetched.stdout.splitlines() if "ERROR" in line), "it said nothing").strip()
        raise UnavailableError(f"Expected {coordinates} from Maven, could not get it: {reason}")
    return jar


def fetch_flink_libraries(cache: Path) -> Path:
    """Returns the folder of Flink's jars; they are those of its Python package, whose source archive holds them."""
    folder = cache / f"flink-{FLINK}"
    if folder.is_dir():
        return folder
    name = "apache-flink-libraries"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
    fetched = subprocess.run([*command, f"--dest={cache}", f"{name}=={FLINK}"], capture_output=True, text=True)
    archive = cache / f"{name}-{FLINK}.tar.gz"
    if not archive.is_file():
        raise UnavailableError(f"Expected {name} {FLINK} from pip, could not get it: {fetched.stderr.strip()}")
    _refuse_other(archive, _FLINK_SHA256)
    unfinished = cache / f"flink-{FLINK}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    with tarfile.open(archive) as packed:
        for member in packed:
            if "/deps/lib/" in member.name and member.isfile():
                member.name = Path(member.name).name
                packed.extract(member, unfinished, filter="data")
    unfinished.rename(folder)
    archive.unlink()
    return folder


def find_prism() -> Path:
    """Returns `prism`, Beam's runner in one Go program; raises `UnavailableError` if the PATH has none."""
    if found := shutil.which("prism"):
        return Path(found)
    package = "github.com/apache/beam/sdks/v2/go/cmd/prism"
    raise UnavailableError(f"Expected prism in the PATH, found none; `go install {package}@v{version('apache-beam')}`.")


def _refuse_other(path: Path, sha256: str) -> None:
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        path.unlink()
        raise UnavailableError(
            f"Expected {path.name} with SHA-256 {sha256}, found {found}; it was deleted, fetch it again."
        )
