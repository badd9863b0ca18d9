"""A standalone Flink cluster on this machine, on loopback: a job manager, two task managers and Beam's job server."""

import json
import urllib.request
from pathlib import Path

from beam_jobs.engines.java import OPENS, SHORT, job_server
from beam_jobs.engines.processes import Processes, free_port

TASK_MANAGERS = 2

# Flink's start scripts, which no package contains, would derive these from one total. A shuffle that sorts on disk
# requests 512 network buffers of 32 KiB at once, and several of them may run at a time.
_MEMORY = {
    "framework.heap.size": "128m",
    "framework.off-heap.size": "128m",
    "task.heap.size": "256m",
    "task.off-heap.size": "0m",
    "managed.size": "128m",
    "network.min": "256m",
    "network.max": "256m",
    "jvm-metaspace.size": "192m",
    "jvm-overhead.min": "128m",
    "jvm-overhead.max": "128m",
}


def start_cluster(processes: Processes, jars: Path) -> list[str]:
    """Starts the cluster and the job server; returns Beam's flags for them."""
    rest, rpc = free_port(), free_port()
    configuration = processes.folder / "conf"
    _write_configuration(configuration, rest, rpc, processes.folder)
    java = ["java", *SHORT, *OPENS, "-cp", f"{jars}/*"]
    arguments: list[str | Path] = ["--configDir", configuration]
    entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
    processes.start("job-manager", [*java, "-Xmx512m", entry, *arguments])
    processes.wait_until(lambda: _task_managers(rest) == 0, "a Flink job manager", 120)
    for number in range(TASK_MANAGERS):
        entry = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        processes.start(f"task-manager-{number}", [*java, "-Xmx384m", entry, *arguments])
    processes.wait_until(lambda: _task_managers(rest) == TASK_MANAGERS, f"{TASK_MANAGERS} Flink task managers", 120)
    entry = "org.apache.beam.runners.flink.FlinkJobServerDriver"
    return [
        *job_server(processes, [*java, "-Xmx512m", entry, f"--flink-master=http://127.0.0.1:{rest}"]),
        f"--parallelism={TASK_MANAGERS}",
    ]


def _write_configuration(folder: Path, rest: int, rpc: int, scratch: Path) -> None:
    settings = {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.rpc.port": rpc,
        "jobmanager.bind-host": "127.0.0.1",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": rest,
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.cpu.cores": "1.0",
        "taskmanager.numberOfTaskSlots": 1,
        "io.tmp.dirs": scratch,
        # A job brings the same jars. If they were loaded a second time, Beam would stop its workers after every step.
        "classloader.resolve-order": "parent-first",
        **{f"taskmanager.memory.{name}": size for name, size in _MEMORY.items()},
    }
    folder.mkdir()
    (folder / "config.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))


def _task_managers(port: int) -> int | None:
    """Returns the number of task managers of the job manager, None until it answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/overview", timeout=5) as answer:
            return json.load(answer)["taskmanagers"]
    except OSError:
        return None
