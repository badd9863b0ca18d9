"""Java programs of the engines: flags that all of them need, and Beam's job server, which an engine's jobs go to."""

from collections.abc import Sequence
from pathlib import Path

from beam_jobs.engines.processes import Processes, free_port, listens

# The engines read private fields of Java's own classes, which Java 17 allows only with these flags.
_PACKAGES = (
    *(f"java.{name}" for name in ("lang", "lang.invoke", "lang.reflect", "io", "net", "nio", "time")),
    *(f"java.{name}" for name in ("util", "util.concurrent", "util.concurrent.atomic")),
    *(f"sun.{name}" for name in ("nio.ch", "nio.cs", "security.action", "util.calendar")),
)
OPENS = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _PACKAGES]

# The optimizing compiler and parallel garbage collectors do not pay off for jobs as short as these.
SHORT = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]


def job_server(
    processes: Processes, command: Sequence[str | Path], environment: dict[str, str] | None = None
) -> list[str]:
    """Starts Beam's job server of an engine; returns Beam's flags for it.

    Args:
        processes: holds the server.
        command: Java with the class of the server, and the address of the engine.
        environment: variables to set.
    """
    job, artifacts = free_port(), free_port()
    ports = [f"--job-port={job}", f"--artifact-port={artifacts}", "--expansion-port=0", "--job-host=localhost"]
    folder = f"--artifacts-dir={processes.folder / 'artifacts'}"
    processes.start("job-server", [*command, *ports, folder], environment)
    processes.wait_until(lambda: listens(job), "Beam's job server", 120)
    return [
        "--runner=PortableRunner",
        f"--job_endpoint=localhost:{job}",
        # Every node of an engine numbers its workers from 1, and all share one worker pool here. An idle node would
        # stop the worker of the same number that another one uses, so idle workers are kept for an hour.
        "--environment_cache_millis=3600000",
    ]
