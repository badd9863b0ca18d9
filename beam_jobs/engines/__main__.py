"""`python -m beam_jobs.engines ENGINE`: starts an engine here, runs both jobs on it, and stops it again."""

import argparse
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from beam_jobs.engines import flink, spark
from beam_jobs.engines.check import check
from beam_jobs.engines.packages import UnavailableError, fetch_job_server, find_prism
from beam_jobs.engines.portable import start_job_service, start_prism, start_worker_pool
from beam_jobs.engines.processes import Processes

JOB_SERVERS = {"flink": "beam-runners-flink-1.20-job-server", "spark": "beam-runners-spark-3-job-server"}
"""Engine -> Maven's name of Beam's job server for it."""

_CLUSTERS = {"flink": flink.start_cluster, "spark": spark.start_cluster}


def start_cluster(processes: Processes, engine: str) -> list[str]:
    """Starts a cluster with the best job server available, and prints its name; returns Beam's flags for it."""
    server = fetch_job_server(engine, JOB_SERVERS[engine])
    print(f"{engine}: job server {server.name}", flush=True)
    return _CLUSTERS[engine](processes, server.jars)


ENGINES: dict[str, Callable[[Processes], list[str]]] = {
    "flink": lambda processes: start_cluster(processes, "flink"),
    "spark": lambda processes: start_cluster(processes, "spark"),
    "prism": lambda processes: start_prism(processes, find_prism()),
    "portable": start_job_service,
}
"""Engine -> function that starts it and returns Beam's flags for it."""

WORKERS: dict[str, Callable[[Processes], list[str]]] = {
    "external": start_worker_pool,
    "loopback": lambda processes: ["--environment_type=LOOPBACK"],
}
"""Workers of the jobs -> function that starts them: in a worker pool, or in the process that submits the jobs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the check; returns 0 if all bytes are the same, 1 if not, 2 if the engine is not available."""
    parser = argparse.ArgumentParser(prog="python -m beam_jobs.engines", description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--workers", choices=WORKERS, default="external", help="where the jobs' Python runs")
    parser.add_argument("--rows", type=int, default=20_000, help="of the generated log")
    parser.add_argument("--if-possible", action="store_true", help="status 0, not 2, if the engine cannot be had")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds after which everything is stopped")
    flags = parser.parse_args(argv)
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    # Treated as Ctrl-C, which stops all processes. Without the alarm a job without workers would wait without end.
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.default_int_handler)
    signal.alarm(flags.timeout)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tfdnc-engine-") as folder:
        try:
            with Processes(Path(folder) / "engine") as processes:
                runner_args = ENGINES[flags.engine](processes) + WORKERS[flags.workers](processes)
                print(f"{flags.engine} is up: {' '.join(runner_args)}", flush=True)
                outcome = check(Path(folder), flags.rows, runner_args)
        except UnavailableError as error:
            print(f"{flags.engine}: not run. {error}")
            return 0 if flags.if_possible else 2
        except KeyboardInterrupt:
            print(f"{flags.engine}: stopped after {time.monotonic() - started:.0f} s.")
            return 130
    for path in outcome.different:
        print(f"differs from the local run: {path}")
    seconds, events = time.monotonic() - started, outcome.figures[0]["events"]
    verdict = "different bytes" if outcome.different else "the same bytes as the local runner"
    print(
        f"{flags.engine}, {flags.workers} workers: {events} events, {outcome.files} files, {verdict}, {seconds:.0f} s"
    )
    return 1 if outcome.different else 0


if __name__ == "__main__":
    # Imported by its real name: a worker cannot unpickle an object of `__main__`.
    from beam_jobs.engines.__main__ import main as entry

    sys.exit(entry())
