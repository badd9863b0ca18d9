"""Cost of the evaluate station by the number of items and users: CPU time, wall time and peak memory of the process.

    OMP_NUM_THREADS=1 python -m developer_benchmarks.evaluation --items 20000 --users 2000

The whole report with the default settings: all merges, all figures, both splits. The tower has random weights, and item
vectors with groups; every item has two of 40 categories. Histories have 5 to 200 events of three clusters each, 40 in
the mean or as `--events` says: the shorter they are, the more users fit into a batch. CPU time is that of all threads.
"""

import argparse
import json
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.config import ExperimentConfig, ModelConfig, TrainConfig
from tfdnc.contracts.items import ItemTable
from tfdnc.evaluation.report import evaluate
from tfdnc.load_test.bundle import Size, make_items, make_tower
from tfdnc.training.records import HeldOutRecords

_SHORTEST, _LONGEST = 5, 200
_CATEGORIES = 40


def with_categories(items: ItemTable, rng: np.random.Generator) -> ItemTable:
    """Returns the items with two random categories each."""
    drawn = rng.integers(0, _CATEGORIES, [len(items.item_ids), 2])
    return replace(items, categories=[[f"category {number}" for number in set(row)] for row in drawn.tolist()])


def make_records(items: ItemTable, users: int, events: int, rng: np.random.Generator) -> HeldOutRecords:
    """Returns histories of three clusters each, and a target of one of these clusters for every user."""
    lengths = np.clip(rng.exponential(events, users).astype(np.int64), _SHORTEST, _LONGEST)
    splits = np.concatenate([[0], np.cumsum(lengths)])
    starts, sizes = np.array(items.offsets[:-1]), np.diff(items.offsets)
    favourites = rng.integers(0, items.num_clusters, [users, 3])

    def draw(owners: np.ndarray) -> np.ndarray:
        clusters = favourites[owners, rng.integers(0, 3, len(owners))]
        return (starts[clusters] + (rng.random(len(owners)) * sizes[clusters]).astype(np.int64) + 1).astype(np.int32)

    targets = draw(np.arange(users))
    return HeldOutRecords(draw(np.repeat(np.arange(users), lengths)), splits, targets, items.clusters[targets - 1])


def main() -> None:
    """Evaluates a synthetic tower once, and prints a row of the table in docs/scaling.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=40, help="of a history, in the mean before it is cut to 5..200")
    parser.add_argument("--clusters", type=int, default=15)
    parser.add_argument("--encoder", default=Size.encoder)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", type=Path, help="file for the report, to compare two versions of the code")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    rng = np.random.default_rng(0)
    items = with_categories(make_items(Size(items=arguments.items, clusters=arguments.clusters)), rng)
    config = ExperimentConfig(
        name="synthetic", model=ModelConfig(encoder=arguments.encoder), train=TrainConfig(precision="float32")
    )
    tower = make_tower(config, items, rng, seed=0)
    test, validation = (make_records(items, arguments.users, arguments.events, rng) for _ in range(2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter(), time.process_time()
    report = evaluate(config, tower, items, test, validation)
    wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if arguments.report:
        arguments.report.write_text(json.dumps(report, indent=1))
    sizes = f"{arguments.items:,} | {arguments.users:,} | {arguments.events}"
    print("| items | users | events | CPU s | wall s | MiB before | peak MiB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    print(f"| {sizes} | {cpu:,.0f} | {wall:,.0f} | {before:,.0f} | {peak:,.0f} |")


if __name__ == "__main__":
    main()
