"""Bytes that two workers exchange in a training step, and their losses beside those of one process.

    python -m developer_benchmarks.worker_traffic --items 100000 1000000

Two workers train on this machine, each on random events of 16 users, 200 tokens each, in a step. Bytes are those that
the kernel counts as acknowledged on the TCP connections of both processes (`tcpi_bytes_acked` of TCP_INFO). So other
programs on the machine have no share in them. One process also trains on batches that join those of both workers, with
a loss that draws no items: workers draw other ones than one process.
"""

import argparse
import functools
import itertools
import json
import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from developer_benchmarks.training_step import random_log
from tfdnc.backend import keras, tf
from tfdnc.contracts.config import ExperimentConfig, parse_config
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.overrides import apply_overrides
from tfdnc.training.batches import Batch, TrainingBatches
from tfdnc.training.negative_sources import negative_source
from tfdnc.training.records import TrainingRecords
from tfdnc.training.team import Team
from tfdnc.training.train import assemble
from tfdnc.training.workers import WorkerIndex, this_worker

_EVENTS = 201  # of a user: a window of 200 with a target each
_USERS = 16  # of a step of one worker
_WORKERS = 2
_CLUSTERS = 10
_WARM_UP = 2  # steps before bytes are counted: connections start, variables get their first values
_BYTES_ACKED = 120  # offset of tcpi_bytes_acked in the struct of Linux

_SIGNATURE = {
    "user": tf.TensorSpec([None], tf.int32),
    **{name: tf.TensorSpec([None, None], tf.int32) for name in ("history", "target", "target_cluster")},
    "negatives": tf.TensorSpec([None, None, None], tf.int32),
}


class Traffic(keras.callbacks.Callback):
    """Losses of every step, and the bytes that this process has sent after it."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.sent: list[int] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Reads both; `logs` has the mean over the steps so far."""
        assert logs is not None
        self.losses.append(float(logs["loss"]))
        self.sent.append(bytes_sent())


def bytes_sent() -> int:
    """Returns the bytes that other ends of this process's TCP connections have received from it."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as one:
                if one.family in (socket.AF_INET, socket.AF_INET6) and one.type == socket.SOCK_STREAM:
                    info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    total += struct.unpack_from("<Q", info, _BYTES_ACKED)[0]
        except OSError:  # closed since the folder was listed
            continue
    return total


def make_config(settings: list[str]) -> ExperimentConfig:
    """Returns the experiment, without dropout: workers would draw other masks than one process."""
    values = {
        "name": "worker-traffic",
        "cluster": {"num_clusters": _CLUSTERS},
        "model": {"encoder": "hadamard_per_position", "intent": "head", "dropout": 0},
        "train": {"batch_tokens": _USERS * (_EVENTS - 1), "precision": "float32", "warmup_steps": 0},
    }
    return parse_config(apply_overrides(values, settings))


def random_records(users: int, items: int, skewed: bool) -> tuple[ItemTable, TrainingRecords]:
    """Returns random events on items of equal probability, or of a probability that falls as 1 / number of the item."""
    table, records = random_log(_CLUSTERS, users, _EVENTS, items)
    if skewed:
        drawn = np.floor(items ** np.random.default_rng(2).random(len(records.items))).astype(np.int32)
        records = records._replace(items=drawn, clusters=table.clusters[drawn - 1])
    return table, records


def share_of(records: TrainingRecords, worker: int) -> TrainingRecords:
    """Returns the records of every second user; users keep their numbers, on which their negatives depend."""
    users = np.arange(worker, len(records.users), _WORKERS)
    events = (users[:, None] * _EVENTS + np.arange(_EVENTS)).ravel()
    parts = records.items[events], records.clusters[events], records.negatives[events]
    return TrainingRecords(*parts, np.arange(len(users) + 1) * _EVENTS, records.users[users])


def train(items: int, steps: int, skewed: bool, settings: list[str]) -> dict[str, list[float]]:
    """Trains as the worker that TF_CONFIG names, or alone on the batches of all; returns losses and bytes by step."""
    team, config, traffic = Team(this_worker()), make_config(settings), Traffic()
    table, records = random_records(_WORKERS * _USERS * steps, items, skewed)
    if team.worker.count > 1:
        model, batches = assemble(config, table, share_of(records, team.worker.index), team)
        dataset = team.strategy.distribute_datasets_from_function(lambda _: batches.dataset(0, 1))
    else:
        model, _ = assemble(config, table, records, team)
        dataset = tf.data.Dataset.from_generator(
            functools.partial(joined_batches, config, table, records), output_signature=_SIGNATURE
        )
    model.fit(dataset, steps_per_epoch=steps, verbose=0, callbacks=[traffic])
    return {"losses": traffic.losses, "sent": traffic.sent}


def joined_batches(config: ExperimentConfig, table: ItemTable, records: TrainingRecords) -> Iterator[Batch]:
    """Yields one epoch of batches that hold those of all workers; all windows have the same length."""
    epochs = []
    for worker in range(_WORKERS):
        own = share_of(records, worker)
        negatives = negative_source(config, table, own)
        sizes = config.train, config.model.max_length, config.seed
        epochs.append(TrainingBatches(own, negatives, *sizes, WorkerIndex(worker, _WORKERS)).epoch(0))
    for parts in zip(*epochs, strict=True):
        yield {name: np.concatenate([part[name] for part in parts]) for name in _SIGNATURE}


def run(processes: int, job: dict[str, Any]) -> list[dict[str, list[float]]]:
    """Returns what `train` returns, from so many processes that train together."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(processes)]
    hosts = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    started = []
    for index in range(processes):
        team = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {"TF_CONFIG": json.dumps(team)}
        command = [sys.executable, "-m", "developer_benchmarks.worker_traffic", "--job", json.dumps(job)]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    results = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError(f"Expected every worker to end well, got {[process.returncode for process in started]}.")
    return [json.loads(result.splitlines()[-1]) for result in results]


def main() -> None:
    """Measures every size with every optimiser and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--losses", nargs="+", default=["bce", "in_cluster_sampled_softmax"])
    parser.add_argument("--optimizers", nargs="+", default=["rowwise_adam", "adam"])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--skewed", action="store_true", help="popular items, not equally likely ones")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--job", type=json.loads, help="for the processes that it starts")
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(train(**arguments.job)))
        return
    print("| items | loss | optimizer | MB a step and worker | largest difference of the loss |")
    print("| ---: | --- | --- | ---: | ---: |", flush=True)
    for items, loss, optimizer in itertools.product(arguments.items, arguments.losses, arguments.optimizers):
        settings = [f"train.loss={loss}", f"train.optimizer={optimizer}", *arguments.set]
        job = {"items": items, "steps": arguments.steps, "skewed": arguments.skewed, "settings": settings}
        workers = run(_WORKERS, job)
        sent = [(worker["sent"][-1] - worker["sent"][_WARM_UP - 1]) / 1e6 for worker in workers]
        megabytes, difference = np.mean(sent) / (arguments.steps - _WARM_UP), ""
        if make_config(settings).train.reads_negatives:
            [alone] = run(1, job)
            difference = f"{np.max(np.abs(np.array(workers[0]['losses']) / alone['losses'] - 1)):.1e}"
        print(f"| {items:,} | `{loss}` | `{optimizer}` | {megabytes:.2f} | {difference} |", flush=True)


if __name__ == "__main__":
    main()
