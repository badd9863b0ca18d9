"""Cost of a training step by the size of the catalogue: CPU time, and peak memory of the process.

    OMP_NUM_THREADS=1 python developer_benchmarks/catalogue_sizes.py --items 10000 100000 1000000

Every row is a process of its own, on one thread: K = 10 clusters of equal size, D = 64, 6,400 tokens a step, items of
random events. A step reads as many items in every catalogue, so what grows with N is the cost of items it does not
read. `--set train.optimizer=adam` measures other settings.
"""

import argparse
import multiprocessing
import resource
import statistics
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from developer_benchmarks.training_step import random_log
from tfdnc.backend import tf
from tfdnc.benchmark.worker import Timer
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.overrides import apply_overrides
from tfdnc.training.train import assemble

LOSSES = ("in_cluster_sampled_softmax", "bce")
_EVENTS = 201  # of a user: a window of 200 with a target each
_USERS = 32  # of a step, with 6,400 tokens


class Cost(NamedTuple):
    """Cost of one setting."""

    milliseconds: float  # CPU time of a step, the median of all rounds
    peak_mebibytes: float  # of the process, from its start on


def measure(loss: str, items: int, settings: list[str], steps: int, rounds: int, clusters: int = 10) -> Cost:
    """Returns the cost of a training step; to be called once in a process, because its peak is that of all calls.

    Args:
        loss: name of the loss.
        items: N.
        settings: overrides of the config, `section.key=value`.
        steps: steps of a round.
        rounds: rounds that are timed, after one that is not.
        clusters: K.
    """
    values = {
        "name": "catalogue-size",
        "cluster": {"num_clusters": clusters},
        "model": {"encoder": "hadamard_per_position", "intent": "head"},
        "train": {"loss": loss, "batch_tokens": _USERS * (_EVENTS - 1)},
    }
    config = parse_config(apply_overrides(values, settings))
    model, batches = assemble(config, *random_log(clusters, _USERS * steps, _EVENTS, items))
    milliseconds = []
    for _ in range(rounds + 1):
        timer = Timer()
        model.fit(batches.dataset(0, 1), verbose=0, callbacks=[timer])
        milliseconds.append(timer.seconds["cpu_seconds"] * 1000 / batches.steps_per_epoch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(statistics.median(milliseconds[1:]), peak)  # the first round compiles


def one_thread() -> None:
    """Limits TensorFlow in a new process."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def main() -> None:
    """Measures every size in turn and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--losses", nargs="+", default=LOSSES)
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=10, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("| items | loss | CPU ms a step | peak MiB |\n| ---: | --- | ---: | ---: |", flush=True)
    spawn = multiprocessing.get_context("spawn")
    for items in arguments.items:
        for loss in arguments.losses:
            with ProcessPoolExecutor(1, spawn, initializer=one_thread) as process:
                job = (loss, items, arguments.set, arguments.steps, arguments.rounds, arguments.clusters)
                cost = process.submit(measure, *job).result()
            print(f"| {items:,} | `{loss}` | {cost.milliseconds:,.0f} | {cost.peak_mebibytes:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
