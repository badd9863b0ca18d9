"""Several workers train one model: each on its shards, all together what one process would train on their batches."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts import schema
from tfdnc.contracts.config import load_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import read_items
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower
from tfdnc.training.batches import TrainingBatches
from tfdnc.training.checkpoint import load_trained, row_tables
from tfdnc.training.learning_rate import WarmupCosine
from tfdnc.training.negative_sources import NEGATIVE_SOURCES
from tfdnc.training.optimizers import OPTIMIZERS
from tfdnc.training.records import read_training
from tfdnc.training.workers import ALONE, WorkerIndex, this_worker

CONFIG = Path(__file__).parents[2] / "data" / "small.yaml"
SETTINGS = [
    "cluster.method=random",
    "model.dropout=0",  # the one thing that workers do not draw as a single process does
    "train.epochs=3",
    "train.batch_tokens=900",
    "train.precision=float32",
    "train.loss=bce",
]


def tfdnc(*arguments, worker=None, ports=(), settings=()):
    """Starts a command, as one of several workers or alone."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    if worker is not None:
        hosts = [f"127.0.0.1:{port}" for port in ports]
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": worker}}
        )
    overrides = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    command = [sys.executable, "-m", "tfdnc.cli.main", *map(str, arguments), *overrides]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def start_workers(runs, settings=()):
    """Two `tfdnc train` on one run."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return [tfdnc("train", CONFIG, "--runs", runs, worker=one, ports=ports, settings=settings) for one in (0, 1)]


def ended(process):
    output, _ = process.communicate(timeout=400)
    return process.returncode, output


@pytest.fixture
def runs(tmp_path):
    assert ended(tfdnc("examples", CONFIG, "--runs", tmp_path))[0] == 0
    return tmp_path


def double_batches(config, items, run):
    """The training of one process whose every batch is that of both workers: model, and losses of every epoch."""
    workers = []
    for worker in (WorkerIndex(0, 2), WorkerIndex(1, 2)):
        records = read_training(run / "examples" / schema.TRAIN, worker)
        negatives = NEGATIVE_SOURCES.resolve(config.train.negatives)(config, items, records)
        batches = TrainingBatches(records, negatives, config.train, config.model.max_length, config.seed, worker)
        workers.append(batches)
    steps = max(batches.steps_per_epoch for batches in workers)
    for batches in workers:
        batches.spread_over(steps)

    def joined():
        for epoch in range(config.train.epochs):
            for pair in zip(*(batches.epoch(epoch) for batches in workers), strict=True):
                yield {name: join(*(batch[name] for batch in pair)) for name in pair[0]}

    signature = {name: tf.TensorSpec([None] * value.ndim, tf.int32) for name, value in next(joined()).items()}
    signature["negatives"] = tf.TensorSpec([None, None, config.examples.num_negatives], tf.int32)
    tower = Tower.make(config.model, config.train, items.offsets, config.seed, items.counts)
    train, method = config.train, OPTIMIZERS.resolve(config.train.optimizer)(tower.num_items)
    model = Retriever(tower, train, config.seed, method.by_row)
    schedule = WarmupCosine(train.learning_rate, train.warmup_steps, train.epochs * steps, train.final_learning_rate)
    model.compile(optimizer=method.make(schedule, train, row_tables(tower)))
    dataset = tf.data.Dataset.from_generator(joined, output_signature=signature)
    return model, model.fit(dataset, epochs=train.epochs, steps_per_epoch=steps, verbose=0).history


def join(one, other):
    """Rows of both, padded with 0 to the longer ones."""
    if one.ndim > 1:
        longest = max(one.shape[1], other.shape[1])
        one, other = (np.pad(v, [(0, 0), (0, longest - v.shape[1]), *[(0, 0)] * (v.ndim - 2)]) for v in (one, other))
    return np.concatenate([one, other])


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("rowwise_adam", marks=pytest.mark.slow)])
def test_two_workers_train_what_one_process_trains_on_double_batches(runs, optimizer):
    settings = [f"train.optimizer={optimizer}"]
    workers = start_workers(runs, settings)
    (status, screen), (other_status, other_screen) = map(ended, workers)
    assert (status, other_status) == (0, 0), screen + other_screen
    assert "best epoch" in screen
    assert "trained with the others" in other_screen

    run, config = runs / "small", load_config(CONFIG, SETTINGS + settings)
    items = read_items(run / "cluster")
    expected, losses = double_batches(config, items, run)
    history = json.loads((run / "train" / schema.HISTORY_FILE).read_text())
    for name in ("retrieval_loss", "intent_loss", "loss"):
        np.testing.assert_allclose([epoch[name] for epoch in history], losses[name], rtol=1e-4)
    assert losses["retrieval_loss"][-1] < losses["retrieval_loss"][0]

    # The chief alone wrote the station, whole, and nothing else is left.
    folders = {path.name for path in run.iterdir()}
    assert {"train"} <= folders <= {"generate", "prepare", "cluster", "examples", "train", "config.yaml", ".lock"}
    assert {path.name.split(".")[0] for path in (run / "train").iterdir()} == {
        "weights", "history", "tensorboard", "manifest"
    }  # fmt: skip
    assert len({path.name.split(".")[-3] for path in (run / "train").rglob("events.out.tfevents.*")}) == 1  # process
    trained = load_trained(config, items, run / "train")
    for one, other in zip(trained.serving_variables, expected.tower.serving_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-4)

    # What stands is not trained again.
    status, screen = ended(tfdnc("train", CONFIG, "--runs", runs, worker=1, ports=[1, 2], settings=settings))
    assert (status, "the chief's training stands" in screen) == (0, True)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # six trainings
def test_a_killed_worker_ends_all_and_all_continue_to_the_same_bits(runs, tmp_path_factory):
    other_runs = tmp_path_factory.mktemp("other")
    assert ended(tfdnc("examples", CONFIG, "--runs", other_runs))[0] == 0
    assert [ended(worker)[0] for worker in start_workers(runs)] == [0, 0]

    chief, worker = start_workers(other_runs)
    log = other_runs / "small" / ".train.unfinished" / schema.EPOCH_LOG
    while chief.poll() is None and not (log.is_file() and log.read_text()):
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    assert ended(worker)[0] == -signal.SIGKILL
    status, screen = ended(chief)
    assert status == 2
    assert "start all workers again" in screen
    assert [ended(one)[0] for one in start_workers(other_runs)] == [0, 0]

    config = load_config(CONFIG, SETTINGS)
    trained = [
        load_trained(config, read_items(folder / "small" / "cluster"), folder / "small" / "train").serving_variables
        for folder in (runs, other_runs)
    ]
    for one, other in zip(*trained, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize(
    ("cluster", "task", "worker"),
    [
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 1}, WorkerIndex(1, 2)),
        ({"worker": ["a:1"]}, {"type": "worker", "index": 0}, ALONE),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, {"type": "worker", "index": 1}, WorkerIndex(2, 3)),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, {"type": "chief", "index": 0}, WorkerIndex(0, 3)),
    ],
)
def test_the_chief_comes_first(monkeypatch, cluster, task, worker):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    assert this_worker() == worker
    assert worker.is_chief == (worker.index == 0)


def test_without_tf_config_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert this_worker() == ALONE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expected TF_CONFIG such as"),
        ('{"cluster": {"worker": ["a:1"]}}', "Expected TF_CONFIG such as"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "this process among them"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}', "chief and worker"),
    ],
)
def test_another_tf_config_is_refused(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=message):
        this_worker()


def test_several_workers_only_train(monkeypatch, tmp_path):
    done = ended(tfdnc("prepare", CONFIG, "--runs", tmp_path, worker=1, ports=[1, 2]))
    assert (done[0], "Expected several workers for train only, not prepare" in done[1]) == (2, True)
    assert not any(tmp_path.iterdir())
