"""What an engine needs beside Python: found on this machine, or fetched once from public package registries."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tfdnc.errors import UserError

# Flink's minor version must be one that Beam's runner is built for; PyPI publishes the hash.
FLINK = "1.20.1"
_FLINK_PACKAGE = "apache-flink-libraries"
_FLINK_SHA256 = "be28293619b1d7b04c970b947133ae8d0ca86681f23694be063b3659ea69bb79"

_PATIENCE = 600  # seconds for a download


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
        raise UnavailableError("Expected java in the PATH to run Flink, found none; install Java 11 or 17.")
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
            f"Expected mvn in the PATH to fetch {jar.name}, found none; install Maven, or the jar in {cache}."
        )
    coordinates = f"org.apache.beam:{artifact}:{beam_version}"
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        # Maven itself, for its settings name the mirrors and proxies of this place, and it compares checksums.
        command = ["mvn", "--batch-mode", "--quiet", "--update-snapshots", "--strict-checksums", "dependency:copy"]
        said = _run([*command, f"-Dartifact={coordinates}", f"-DoutputDirectory={folder}"], folder)
        if not (Path(folder) / jar.name).is_file():
            reason = said.partition("[ERROR] ")[2].partition("\n")[0]
            raise UnavailableError(f"Expected {coordinates} from Maven, could not get it: {reason}")
        return (Path(folder) / jar.name).rename(jar)


def fetch_flink_libraries(cache: Path) -> Path:
    """Returns the folder of Flink's jars; they are those of its Python package, whose source archive holds them."""
    libraries = cache / f"flink-{FLINK}"
    if libraries.is_dir():
        return libraries
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text(f"{_FLINK_PACKAGE}=={FLINK} --hash=sha256:{_FLINK_SHA256}\n")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary=:all:",
            "--require-hashes",
        ]
        said = _run([*command, "--dest", folder, "--requirement", wanted], folder)
        archive = Path(folder) / f"{_FLINK_PACKAGE}-{FLINK}.tar.gz"
        if not archive.is_file():
            raise UnavailableError(f"Expected {_FLINK_PACKAGE} {FLINK} from pip, could not get it: {said.strip()}")
        unpacked = Path(folder) / "jars"
        with tarfile.open(archive) as packed:
            for member in packed:
                if "/deps/lib/" in member.name and member.isfile():
                    packed.extract(member.replace(name=Path(member.name).name), unpacked, filter="data")
        return unpacked.rename(libraries)


def _run(command: list, folder: str) -> str:
    """Runs a command for at most ten minutes; returns all that it said."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"Expected {command[0]} to end within {_PATIENCE} seconds, it did not.") from error
    return done.stdout


def find_prism() -> Path:
    """Returns `prism`, Beam's runner in one Go program; raises `UnavailableError` if the PATH has none."""
    if found := shutil.which("prism"):
        return Path(found)
    package = "github.com/apache/beam/sdks/v2/go/cmd/prism"
    raise UnavailableError(f"Expected prism in the PATH, found none; `go install {package}@v{version('apache-beam')}`.")
