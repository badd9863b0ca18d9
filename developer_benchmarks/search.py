"""Cost and recall of an index: whole bundles with approximate search, compared with the same items searched exactly.

    python -m developer_benchmarks.search                     # K = 15 equal clusters, a million items, minutes to build
    python -m developer_benchmarks.search --clusters 100 --uneven
    OMP_NUM_THREADS=1 python -m developer_benchmarks.search --items 10000000 --clusters 100 --uneven --batches 1

Data are those of `synthetic_items.py`, requests those of the signature `search`, which encodes nothing. Every bundle is
built in a process of its own, of which CPU seconds and peak are printed. In another process it is loaded and warmed up
as by the embedded server, and asked by turns with the others. Times of requests are medians, and ratios to the first
index, of wall clock and CPU time; on a busy machine only CPU time is reliable. The vocabulary is also measured alone,
with short ids and with ids of 36 characters.
"""

import argparse
import multiprocessing
import statistics
import tempfile
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from developer_benchmarks import bundle_costs
from developer_benchmarks.bundle_costs import LENGTH, Catalogue, Figures
from tfdnc.retrieval.index import INDEXES

_MERGES = {"joint": -1.0, "quota": 1.0}


def process() -> ProcessPoolExecutor:
    """Returns a new process with one thread for TensorFlow."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, spawn, initializer=bundle_costs.one_thread)


def show(name: str, figures: Figures) -> None:
    """Prints figures."""
    cells = (f"{key} {value:,.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items())
    print(f"{name}: {'; '.join(cells)}", flush=True)


def measure_vocabulary(items: int, lengths: list[int], folder: Path) -> None:
    """Prints bytes and load time of the vocabulary alone, for ids of these lengths."""
    for length in lengths:
        own = folder / f"ids-{length}"
        own.mkdir()
        with process() as maker:
            figures = maker.submit(bundle_costs.vocabulary, items, length, own).result()
        with process() as reader:
            figures |= reader.submit(bundle_costs.load, own / "1", items).result()
        show(f"vocabulary, ids of {length} characters", figures)


def measure(
    asked: dict[str, ProcessPoolExecutor], requests: Path, users: int, batch: int, alpha: float, rounds: int
) -> None:
    """Runs several requests in a row on each index in turn; prints time and recall relative to the first.

    They run in a row, because a server does not share its caches. An exact search of a million items replaces all that
    another index has in them.
    """
    found, wall, cpu = {}, defaultdict(list), defaultdict(list)
    for _ in range(rounds):
        for name, executor in asked.items():
            times = executor.submit(bundle_costs.ask, requests, users, batch, alpha).result()
            wall[name].append(times[0])
            cpu[name].append(times[1])
            found[name] = times[2]
    first = next(iter(asked))
    for name in asked:
        figures = [
            f"{label} {statistics.median(times[name]):8.2f} ms "
            f"({statistics.median(times[name]) / statistics.median(times[first]):.3f})"
            for label, times in (("wall", wall), ("CPU", cpu))
        ]
        shared = [np.isin(best[best != b""], ids).mean() for best, ids in zip(found[first], found[name], strict=True)]
        print(f"  {name:6} {'  '.join(figures)}  recall {np.mean(shared):.4f}", flush=True)


def main() -> None:
    """Builds the bundles and compares them, for the joint list and for quotas."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--clusters", type=int, default=15)
    parser.add_argument("--uneven", action="store_true", help="cluster sizes of a Pareto distribution")
    parser.add_argument("--indexes", nargs="+", default=["exact", "scann"], choices=list(INDEXES.names()))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], help="users of a request")
    parser.add_argument("--users", type=int, default=bundle_costs.USERS // 2, help="of which each asks in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ids", type=int, nargs="*", default=[8, 36], help="characters of ids, each measured alone")
    parser.add_argument("--folder", type=Path, help="of bundles that stay; those in it are not built again")
    arguments = parser.parse_args()
    catalogue = Catalogue(arguments.items, arguments.clusters, arguments.uneven)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for name in arguments.indexes:
            if (folder / name / "1").exists():
                continue
            with process() as maker:
                show(name, maker.submit(bundle_costs.build, catalogue, name, folder / name).result())
        measure_vocabulary(arguments.items, arguments.ids, Path(temporary))
        asked = {name: process() for name in arguments.indexes}
        for name, executor in asked.items():
            show(f"{name}, loaded", executor.submit(bundle_costs.load, folder / name / "1", arguments.items).result())
        for batch in arguments.batches:
            for merge, alpha in _MERGES.items():
                print(f"B = {batch}, {merge}, M = {LENGTH}:")
                requests = folder / arguments.indexes[0] / bundle_costs.REQUESTS
                measure(asked, requests, arguments.users, batch, alpha, arguments.rounds)
        for executor in asked.values():
            executor.shutdown()


if __name__ == "__main__":
    main()
