"""Beam's own portable engines, one process each, and a worker pool that every engine can use."""

import os
import sys
import sysconfig
from pathlib import Path

from beam_jobs.engines.processes import Processes, free_port, listens

# The job service sets the same constant as `beam_jobs.pipeline.run`, for the reason given there.
_JOB_SERVICE = """
import runpy
from apache_beam.runners.portability.fn_api_runner import worker_handlers
worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0
runpy.run_module("apache_beam.runners.portability.local_job_service_main", run_name="__main__", alter_sys=True)
"""


def start_worker_pool(processes: Processes) -> list[str]:
    """Starts a pool of workers in another folder, which import installed modules only.

    Returns:
        Beam's flags for the pool.
    """
    port = free_port()
    # The pool starts the first `python` of the PATH; another one would fail without a message.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    processes.start("workers", command, {"PATH": path, "PYTHONPATH": ""})
    processes.wait_until(lambda: listens(port), "a worker pool")
    return ["--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"]


def start_job_service(processes: Processes) -> list[str]:
    """Starts Beam's own portable job service, which runs jobs as an engine does; returns Beam's flags for it."""
    port_file = processes.folder / "port"
    processes.start("job-service", [sys.executable, "-c", _JOB_SERVICE, f"--port_file={port_file}"])
    processes.wait_until(port_file.exists, "a job service")
    return ["--runner=PortableRunner", f"--job_endpoint=localhost:{port_file.read_text()}"]


def start_prism(processes: Processes, program: Path) -> list[str]:
    """Starts Prism, which is stricter than the job service; returns Beam's flags for it."""
    port = free_port()
    processes.start("prism", [program, f"--job_port={port}", "--serve_http=false", "--log_level=warn"])
    processes.wait_until(lambda: listens(port), "Prism")
    return ["--runner=PortableRunner", f"--job_endpoint=localhost:{port}"]
