"""Cost of the data jobs on a large log, compared with a plain polars script that does the same work.

    python developer_benchmarks/data_jobs.py --scale 1

Generates a log in the shape of KuaiRand-27K, and another one with twice the rows. On each it runs the script
(`data_jobs_polars.py`), then `beam_jobs.sequences` and, with random clusters, `beam_jobs.examples`, each in a process
of its own. Script and jobs must keep the same events. CPU seconds are those of the process and its descendants. Memory
is the largest sum of their proportional set sizes (shared pages are counted once), measured every 0.2 s.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tfdnc.contracts import schema

GENERATOR, SCRIPT = (str(Path(__file__).with_name(name)) for name in ("kuairand_log.py", "data_jobs_polars.py"))
MIN_ITEM_EVENTS, MIN_USER_EVENTS = 70, 10  # as in the paper
CLUSTERS = 15
_POLL_SECONDS = 0.2  # not shorter, because summing the pages of a large process takes CPU time
_GIB = 1 << 30


class Cost(NamedTuple):
    """Cost of a process and its descendants."""

    cpu: float  # seconds
    wall: float  # seconds
    peak: float  # GiB

    def then(self, other: "Cost") -> "Cost":
        """Returns the cost of both, one after the other."""
        return Cost(self.cpu + other.cpu, self.wall + other.wall, max(self.peak, other.peak))


def measure(command: Sequence[object]) -> tuple[Cost, str]:
    """Runs a command; returns its cost and its output."""
    began, peak = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as logged:
        process = subprocess.Popen([sys.executable, *map(str, command)], stdout=printed, stderr=logged)
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = max(peak, sum(map(_proportional_bytes, _family(process.pid))))
            time.sleep(_POLL_SECONDS)
        wall = time.monotonic() - began
        _, status, usage = ended
        process.returncode = os.waitstatus_to_exitcode(status)  # `wait4` above has taken the status from Popen
        logged.seek(0)
        if process.returncode:
            raise RuntimeError(f"{process.args!r} ended with status {process.returncode}:\n{logged.read()}")
        printed.seek(0)
        return Cost(usage.ru_utime + usage.ru_stime, wall, peak / _GIB), printed.read()


def _family(pid: int) -> list[int]:
    """Returns the ids of a process and its descendants that still run."""
    try:
        children = [int(child) for path in Path(f"/proc/{pid}/task").iterdir() for child in _words(path / "children")]
    except FileNotFoundError:
        return []
    return [pid, *(member for child in children for member in _family(child))]


def _words(path: Path) -> list[str]:
    return path.read_text().split()


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # the process has ended
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def run_jobs(log: Path, folder: Path, num_shards: int, flags: list[str]) -> dict[str, Cost]:
    """Runs both jobs; returns their costs by name."""
    config, prepared, clustered = folder / "config.yaml", folder / "prepare", folder / "cluster"
    data = {
        "format": "kuairand",
        "path": str(log),
        "kuairand": {"tab": 1},
        "min_item_events": MIN_ITEM_EVENTS,
        "min_user_events": MIN_USER_EVENTS,
        "num_shards": num_shards,
    }
    config.write_text(yaml.safe_dump({"name": "benchmark", "data": data}))
    prepare, _ = measure(["-m", "beam_jobs.sequences", "--config", config, "--output", prepared, *flags])
    cluster_at_random(prepared, clustered)
    inputs = ["--sequences", prepared / schema.SEQUENCES, "--items", clustered / schema.ITEMS]
    examples, _ = measure(
        ["-m", "beam_jobs.examples", "--config", config, *inputs, "--output", folder / "examples", *flags]
    )
    return {"prepare": prepare, "examples": examples}


def cluster_at_random(prepared: Path, output: Path) -> None:
    """Writes the item table in a process of its own, whose memory is not measured."""
    code = (
        "import sys; from pathlib import Path; from tfdnc.clustering import build_clusters; "
        "from tfdnc.contracts.config import ClusterConfig; "
        "build_clusters(Path(sys.argv[1]), ClusterConfig(method='random', num_clusters=int(sys.argv[3])), 1, "
        "Path(sys.argv[2]))"
    )
    output.mkdir()
    subprocess.run([sys.executable, "-c", code, prepared, output, str(CLUSTERS)], check=True)


def refuse_other_events(prepared: Path, plain: Path) -> None:
    """Raises a `RuntimeError` unless jobs and script have kept the same events of the same users in the same order."""
    ids = pq.read_table(prepared / schema.VOCABULARY)["item_id"].cast(pa.int64()).to_numpy()
    users, lengths, items, times = _flat(pq.read_table(prepared / schema.SEQUENCES), ("user_id", "items", "times"))
    ours = (users, lengths, ids[items - 1], times)
    theirs = _flat(pq.read_table(plain), ("user_id", "video_id", "time_ms"))
    for name, one, other in zip(("users", "lengths", "items", "times"), ours, theirs, strict=True):
        if not np.array_equal(one, other):
            raise RuntimeError(f"Expected the same {name} from the jobs and the script, found others in {prepared}.")


def _flat(table: pa.Table, names: tuple[str, str, str]) -> tuple[np.ndarray, ...]:
    """Returns users in order, the lengths of their sequences, and all items and times one after the other."""
    users = table[names[0]].cast(pa.int64()).to_numpy()
    table = table.take(pa.array(np.argsort(users)))
    items, times = (table[name].combine_chunks() for name in names[1:])
    return np.sort(users), items.value_lengths().to_numpy(), items.flatten().to_numpy(), times.flatten().to_numpy()


def show(name: str, cost: Cost) -> None:
    """Prints one row of the table."""
    print(f"{name:24} {cost.cpu:8.1f} {cost.wall:8.1f} {cost.peak:8.2f}", flush=True)


def compare(log: Path, folder: Path, num_shards: int, flags: list[str]) -> None:
    """Runs the script and the jobs on one log, and prints their costs."""
    plain, printed = measure([SCRIPT, log, folder / "plain", MIN_ITEM_EVENTS, MIN_USER_EVENTS, CLUSTERS])
    figures = json.loads(printed)
    size = sum(path.stat().st_size for path in log.iterdir()) / 1e6
    kept = f"{figures['events']:,} events of {figures['users']:,} users on {figures['items']:,} items"
    print(f"\n{size:,.0f} MB of log, {kept} kept, load average {os.getloadavg()[0]:.1f}")
    print(f"{'':24} {'CPU s':>8} {'wall s':>8} {'peak GiB':>8}")
    show("polars script", plain)
    print(f"{'  import tensorflow':24} {figures['import_seconds']:8.1f}")
    jobs = run_jobs(log, folder, num_shards, flags)
    for name, cost in jobs.items():
        show(name, cost)
    both = jobs["prepare"].then(jobs["examples"])
    show("both jobs", both)
    print(f"{'both jobs / script':24} {both.cpu / plain.cpu:8.2f} {both.wall / plain.wall:8.2f}")
    refuse_other_events(folder / "prepare", folder / "plain" / "sequences.parquet")


def main() -> None:
    """Compares the jobs and the script on logs of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of rows, users and videos; 1 is 24 million rows")
    parser.add_argument("--rows", type=float, nargs="+", default=[1, 2], help="of the rows alone, one log for each")
    parser.add_argument(
        "--num-shards", type=int, default=64, help="files of sequences; a file's users are sorted at once"
    )
    parser.add_argument("--logs", type=Path, help="folder to keep generated logs in; they are found there again")
    flags, runner_args = parser.parse_known_args()  # the rest is for Beam
    with tempfile.TemporaryDirectory() as scratch:
        for rows in flags.rows:
            log = (flags.logs or Path(scratch)) / f"scale-{flags.scale:g}-rows-{rows:g}"
            if not log.exists():
                unfinished = log.with_name(f"{log.name}.unfinished")
                arguments = [GENERATOR, unfinished, "--scale", flags.scale, "--rows", rows]
                subprocess.run([sys.executable, *map(str, arguments)], check=True)
                unfinished.rename(log)
            folder = Path(scratch) / f"rows-{rows:g}"
            folder.mkdir()
            compare(log, folder, flags.num_shards, runner_args)


if __name__ == "__main__":
    main()
