"""Speed of the training input, from TFRecords on disk to batches: the first epoch, which reads, and the later ones.

    python developer_benchmarks/training_input.py FOLDER     # with the ratings.dat of MovieLens-1M

The records are those of the examples job, in random clusters, which cost as much as others. Every shard is linked
several times, because otherwise the start of TensorFlow would be most of the first epoch. No model is trained: the
benchmark only iterates over the dataset of `model.fit`.
"""

import argparse
import itertools
import os
import tempfile
import time
from pathlib import Path

from beam_jobs.examples import build_examples
from beam_jobs.sequences import prepare
from tfdnc.backend import tf
from tfdnc.clustering import build_clusters
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExperimentConfig, parse_config
from tfdnc.contracts.items import read_items
from tfdnc.training.batches import TrainingBatches
from tfdnc.training.negative_sources import NEGATIVE_SOURCES
from tfdnc.training.records import read_training

CASES = [
    ("records", {"num_negatives": 1}),
    ("records", {"num_negatives": 10}),
    ("rotating", {"num_negatives": 1}),
    ("online", {"num_negatives": 1}),
    ("online", {"num_negatives": 10}),
]
LATER = 10
"""Number of epochs after the first one, in one stream, as in a training."""


def make_config(log: Path, negatives: str, examples: dict[str, int]) -> ExperimentConfig:
    """Returns the default experiment on MovieLens-1M, with one source of negatives."""
    return parse_config(
        {
            "name": "training-input",
            "data": {"format": "movielens", "path": str(log)},
            "cluster": {"method": "random"},
            "examples": examples,
            "train": {"loss": "bce", "negatives": negatives},
        }
    )


def measure(config: ExperimentConfig, clusters: Path, records: Path) -> list[tuple[float, float]]:
    """Returns windows per second and per CPU second: of the first epoch, reading included, and of the later ones."""
    items, rates = read_items(clusters), []
    wall, cpu = time.perf_counter(), time.process_time()
    training = read_training(records)
    negatives = NEGATIVE_SOURCES.resolve(config.train.negatives)(config, items, training)
    batches = TrainingBatches(training, negatives, config.train, config.model.max_length, config.seed)
    for first_epoch, epochs in ((0, 1), (1, 1 + LATER)):
        windows = sum(len(batch["user"]) for batch in batches.dataset(first_epoch, epochs))
        wall_end, cpu_end = time.perf_counter(), time.process_time()
        rates.append((windows / (wall_end - wall), windows / (cpu_end - cpu)))
        wall, cpu = wall_end, cpu_end
    return rates


def link(folder: Path, copies: int) -> None:
    """Links each shard of a folder `copies` times, under new names."""
    if copies == 1:
        return
    shards = sorted(folder.iterdir())
    numbered = itertools.product(range(copies), shards)
    for number, (_, shard) in enumerate(numbered):
        os.link(shard, folder / schema.shard_name(number, copies * len(shards), "tfrecord"))
    for shard in shards:
        shard.unlink()


def main() -> None:
    """Makes the records of every case and prints its rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path, help="folder with ratings.dat")
    parser.add_argument("--copies", type=int, default=5, help="how often every record is read")
    arguments = parser.parse_args()
    log = arguments.log
    print(f"{'':28}{'first epoch, with reading':>30}{'later epochs':>30}     MB")
    print(f"{'negatives':10}{'n':>4}{'sets':>6}{'':8}" + f"{'windows/s':>15}{'per CPU s':>15}" * 2)
    list(tf.data.Dataset.range(1))  # starts TensorFlow
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch, name) for name in ("prepare", "cluster")}
        for folder in folders.values():
            folder.mkdir()
        config = make_config(log, *CASES[0])
        prepare(config.data, folders["prepare"])
        build_clusters(folders["prepare"], config.cluster, config.seed, folders["cluster"])
        for number, (negatives, examples) in enumerate(CASES):
            config, output = make_config(log, negatives, examples), Path(scratch, str(number))
            output.mkdir()
            sequences = folders["prepare"] / schema.SEQUENCES
            build_examples(sequences, folders["cluster"] / schema.ITEMS, config.examples, config.seed, output)
            records = output / schema.TRAIN
            link(records, arguments.copies)
            rates = measure(config, folders["cluster"], records)
            size = sum(file.stat().st_size for file in records.iterdir()) / 1e6
            label = f"{negatives:10}{config.examples.num_negatives:4}{config.examples.negative_sets:6}{'':8}"
            print(label + "".join(f"{rate:15,.0f}" for pair in rates for rate in pair) + f"{size:7.1f}", flush=True)
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
