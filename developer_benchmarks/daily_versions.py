"""A server in use for many days: a refreshed version is published every day while four clients ask, and none may fail.

    python -m developer_benchmarks.daily_versions RUN --items ITEM_FILE --days 20

Every day some items leave the item file and those of the day before return. `tfdnc refresh` makes a version, `tfdnc
publish --keep 2` verifies it and waits until the server has it. Both are processes of their own, as in a cron job.
RUN is copied first. A line per day has the seconds of each command, its requests and the server's memory.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tfdnc.backend  # noqa: F401  sets Keras 2 before TensorFlow is imported
from tfdnc.contracts.bundle import MODEL_NAME
from tfdnc.load_test.figures import milliseconds
from tfdnc.load_test.interfaces import over_grpc
from tfdnc.load_test.load import Processes, count_errors
from tfdnc.load_test.server import ServerProcess
from tfdnc.load_test.subjects import recorded

_CLIENTS = 4
_WARM_UP_SECONDS = 5.0


def command(*arguments: str | Path) -> float:
    """Runs a command of `tfdnc` and returns its seconds; raises CalledProcessError if it fails."""
    began = time.monotonic()
    words = [sys.executable, "-m", "tfdnc.cli.main", *map(str, arguments)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def failed(samples: Sequence[dict]) -> str:
    """Returns the failed requests in words, with the errors."""
    errors = count_errors(samples)
    return f"{sum(errors.values())} failed" + (f" ({errors})" if errors else "")


def write_day(items: Path, day: int, share: float, output: Path) -> None:
    """Writes the item file of a day, without a share of its rows, which differ from day to day."""
    rows = items.read_bytes().splitlines(keepends=True)
    kept = np.random.default_rng(day).random(len(rows)) >= share
    kept[0] = True  # the titles of columns, where the file has them
    output.write_bytes(b"".join(row for row, stays in zip(rows, kept, strict=True) if stays))


def measure(run: Path, items: Path, days: int, share: float, folder: Path) -> None:
    """Prints a line per day, and the sums at the end."""
    copy, daily = shutil.copytree(run, folder / run.name), folder / items.name
    subject = recorded(copy / "bundle")
    with (
        ServerProcess(subject.version) as server,
        over_grpc(server.target, subject.requests, MODEL_NAME, _CLIENTS) as load,
    ):
        load.measure(_CLIENTS, _WARM_UP_SECONDS)
        memory, samples = [server.memory()], []
        print(f"before: {memory[0]:.0f} MB", flush=True)
        for day in range(1, days + 1):
            write_day(items, day, share, daily)
            samples.append(_day(copy, daily, server, load, day))
            server.wait_until_served(day + 1)  # without the version before, whose memory the next line would count
            memory.append(server.memory())
            print(f"memory {memory[-1]:.0f} MB, {memory[-1] / memory[0]:.3f} of that before", flush=True)
    requests = sum(sample["requests"] for sample in samples)
    slowest = max(milliseconds(sample, 100) for sample in samples)
    print(f"{days} days, {requests:,} requests, {failed(samples)}, slowest {slowest:.0f} ms")


def _day(run: Path, items: Path, server: ServerProcess, load: Processes, day: int) -> dict:
    load.begin(_CLIENTS)
    refreshed = command("refresh", run, "--items", items, "--keep", "1")
    published = command(
        "publish", run / "bundle", server.base_path, "--keep", "2", "--server", server.target, "--reason", f"day {day}"
    )
    sample = load.end()
    rate = sample["requests"] / sample["seconds"]
    print(f"day {day}: refresh {refreshed:.1f} s, publish {published:.1f} s, {rate:.0f} requests a second, ", end="")
    print(f"p99 {milliseconds(sample, 99):.1f} ms, {failed([sample])}, ", end="")
    return sample


def main() -> None:
    """Runs the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run with a bundle")
    parser.add_argument("--items", type=Path, required=True, metavar="ITEM_FILE", help="its item file, as text")
    parser.add_argument("--days", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.02, help="share of items that leave on a day")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments.run, arguments.items, arguments.days, arguments.share, Path(folder))


if __name__ == "__main__":
    main()
