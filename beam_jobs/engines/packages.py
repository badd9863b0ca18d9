"""Programs of the engines: found on this machine, or fetched once through Maven."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tfdnc.contracts.errors import UserError

_TIMEOUT = 300  # seconds that a download may take


class UnavailableError(UserError):
    """An engine that is not available on this machine."""


@dataclass(frozen=True)
class JobServer:
    """Beam's job server, which translates jobs for an engine, with the engine itself.

    Attributes:
        name: name to print.
        jars: folder of all jars. A job server contains the engine, because it can also run a job in its own process.
    """

    name: str
    jars: Path


def cache_folder() -> Path:
    """Returns the folder that keeps packages between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfdnc" / "engines"


def fetch_job_server(engine: str, artifact: str) -> JobServer:
    """Returns the job server of the installed Beam, else one assembled from the parts in `ENGINE_parts.xml`.

    Args:
        engine: flink or spark.
        artifact: Maven's name of the job server.

    Raises:
        UnavailableError: neither is available, or there is no Java; the message names what is missing.
    """
    if not shutil.which("java"):
        raise UnavailableError(f"Expected java in the PATH to run {engine}, found none; install Java 11 or 17.")
    coordinates = f"org.apache.beam:{artifact}:{version('apache-beam')}"
    listed = Path(__file__).with_name(f"{engine}_parts.xml")
    pinned = hashlib.sha256(listed.read_bytes()).hexdigest()[:8]
    try:
        return JobServer(coordinates, _fetch(coordinates, ["dependency:copy", f"-Dartifact={coordinates}"]))
    except UnavailableError:
        # Older versions of Beam's and the engine's jars: Beam's portability protocol allows a mix of versions.
        parts: list[str | Path] = ["--file", listed, "dependency:copy-dependencies", "-DincludeScope=runtime"]
        name = f"{engine}-job-server-parts-{pinned}"
        return JobServer(f"assembled from {listed.name}", _fetch(name, parts))


def _fetch(name: str, goal: list[str | Path]) -> Path:
    """Returns the folder of the cache with the output of a Maven goal, which is run if it has none."""
    folder = cache_folder() / name.replace(":", "-")
    if folder.is_dir():
        return folder
    if not shutil.which("mvn"):
        raise UnavailableError(f"Expected mvn in the PATH to fetch {name}, found none; install Maven.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        jars = Path(temporary) / "jars"
        # Maven and no download of our own: it uses the user's mirrors and proxies, and verifies checksums.
        command = ["mvn", "--batch-mode", "--quiet", "--strict-checksums", *goal, f"-DoutputDirectory={jars}"]
        try:
            done = subprocess.run(
                command, cwd=temporary, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_TIMEOUT
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(
                f"Expected {name} from Maven within {_TIMEOUT} seconds, waited in vain; try again, it goes on."
            ) from error
        if done.returncode:
            reason = done.stdout.partition("[ERROR] ")[2].partition("\n")[0]
            raise UnavailableError(f"Expected {name} from Maven, could not get it: {reason}")
        return jars.rename(folder)


def find_prism() -> Path:
    """Returns `prism`, Beam's runner in one Go program; raises `UnavailableError` if the PATH has none."""
    if found := shutil.which("prism"):
        return Path(found)
    package = "github.com/apache/beam/sdks/v2/go/cmd/prism"
    raise UnavailableError(f"Expected prism in the PATH, found none; `go install {package}@v{version('apache-beam')}`.")
