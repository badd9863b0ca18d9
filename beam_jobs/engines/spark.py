"""A standalone Spark cluster on this machine, on loopback: a master, two workers and Beam's job server."""

from pathlib import Path

from beam_jobs.engines.java import OPENS, SHORT, job_server
from beam_jobs.engines.processes import Processes, free_port, listens

_WORKERS = 2
_LOOPBACK = "127.0.0.1"

_SETTINGS = {
    "spark.executor.memory": "768m",
    "spark.executor.extraJavaOptions": " ".join([*SHORT, *OPENS]),
    "spark.driver.host": _LOOPBACK,
    "spark.driver.bindAddress": _LOOPBACK,
    "spark.ui.enabled": "false",
}


def start_cluster(processes: Processes, jars: Path) -> list[str]:
    """Starts the cluster and the job server, which is the driver of all jobs; returns Beam's flags for them."""
    port, home = free_port(), processes.folder / "spark"
    home.mkdir()
    (home / "jars").symlink_to(jars)  # a worker starts executors with the jars of its home
    environment = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": _LOOPBACK, "SPARK_SCALA_VERSION": "2.12"}
    java = ["java", *SHORT, *OPENS, "-cp", f"{jars}/*"]
    here = ["--host", _LOOPBACK, "--webui-port", "0"]
    entry = "org.apache.spark.deploy.master.Master"
    processes.start("master", [*java, "-Xmx256m", entry, *here, "--port", str(port)], environment)
    processes.wait_until(lambda: listens(port), "a Spark master", 120)
    master = f"spark://{_LOOPBACK}:{port}"
    for number in range(_WORKERS):
        entry = "org.apache.spark.deploy.worker.Worker"
        size = ["--cores", "1", "--memory", "1g", "--work-dir", str(home / f"work-{number}")]
        processes.start(f"worker-{number}", [*java, "-Xmx256m", entry, *here, *size, master], environment)
    settings = [f"-D{name}={value}" for name, value in (_SETTINGS | {"spark.local.dir": str(home)}).items()]
    entry = "org.apache.beam.runners.spark.SparkJobServerDriver"
    command = [*java, *settings, "-Xmx768m", entry, f"--spark-master-url={master}"]
    return job_server(processes, command, environment)
