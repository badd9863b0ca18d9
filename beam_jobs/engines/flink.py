"""A standalone Flink cluster on this machine: a job manager and two task managers on loopback."""

import json
import urllib.request
from pathlib import Path

from beam_jobs.engines.packages import Flink
from beam_jobs.engines.processes import Processes, free_port

TASK_MANAGERS = 2

# Flink reads private fields of Java's own classes; Java 17 must be told that it may.
_OPENS = [
    f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "net", "io", "nio", "util", "time")
]

# Flink's start scripts, which the package lacks, would work these out; together they are one budget of 1 GiB.
_MEMORY = {
    "framework.heap.size": "128m",
    "framework.off-heap.size": "128m",
    "task.heap.size": "256m",
    "task.off-heap.size": "0m",
    "managed.size": "128m",
    "network.min": "64m",
    "network.max": "64m",
    "jvm-metaspace.size": "192m",
    "jvm-overhead.min": "128m",
    "jvm-overhead.max": "128m",
}


def start_cluster(processes: Processes, flink: Flink) -> list[str]:
    """Starts the cluster; returns the flags that send a job there."""
    rest, rpc = free_port(), free_port()
    configuration = processes.folder / "conf"
    _write_configuration(configuration, rest, rpc, processes.folder)
    java = ["java", *_OPENS, "-cp", f"{flink.libraries}/*"]
    arguments = ["--configDir", configuration]
    entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
    processes.start("job-manager", [*java, "-Xmx512m", entry, *arguments])
    processes.wait_until(lambda: _task_managers(rest) == 0, "a Flink job manager", 120)
    for number in range(TASK_MANAGERS):
        entry = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        processes.start(f"task-manager-{number}", [*java, "-Xmx384m", entry, *arguments])
    processes.wait_until(lambda: _task_managers(rest) == TASK_MANAGERS, f"{TASK_MANAGERS} Flink task managers", 120)
    return [
        "--runner=FlinkRunner",
        f"--flink_master=127.0.0.1:{rest}",
        f"--flink_version={flink.version}",
        f"--flink_job_server_jar={flink.job_server}",
        f"--parallelism={TASK_MANAGERS}",
        *(f"--job_server_jvm_properties={option}" for option in _OPENS),
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
        **{f"taskmanager.memory.{name}": size for name, size in _MEMORY.items()},
    }
    folder.mkdir()
    (folder / "config.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))


def _task_managers(port: int) -> int | None:
    """Returns how many task managers the job manager knows, or None before it answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/overview", timeout=5) as answer:
            return json.load(answer)["taskmanagers"]
    except OSError:
        return None
