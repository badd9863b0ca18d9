"""Time of a refresh: new items into a synthetic run of a million items, by index, with the parts of the time.

    python developer_benchmarks/refresh.py                      # exact index
    python developer_benchmarks/refresh.py --index scann

The run has all folders that a refresh reads, as a training leaves them, with random weights and a few users. Brands and
tags of an item depend on its cluster. The version is verified as `tfdnc publish` does, by a fresh process.
"""

import argparse
import cProfile
import json
import pstats
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.item_details import find_new_details, read_details
from serving.bundles.verify import verify
from tfdnc.backend import tf
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExperimentConfig, load_config, parse_config
from tfdnc.contracts.items import read_items
from tfdnc.contracts.tensorflow_paths import tensorflow_path
from tfdnc.model.item_tower import FeaturedItems, feature_matrix
from tfdnc.model.tower import Tower
from tfdnc.operations.refresh import refresh
from tfdnc.pipeline import stations
from tfdnc.pipeline.engine import Station, run_station
from tfdnc.pipeline.manifests import MANIFEST, file_sizes

_TAGS, _BRANDS_PER_CLUSTER, _PRICES = 20, 300, 1000


@dataclass(frozen=True)
class Size:
    """Size of a synthetic run: N, K, D, its users, index, whether its model has item features, and encoder."""

    items: int = 1_000_000
    clusters: int = 15
    dim: int = 64
    users: int = 500
    index: str = "exact"
    item_features: bool = True
    encoder: str = "hadamard_per_position"


def make_run(folder: Path, size: Size, seed: int = 0) -> Path:
    """Makes a run up to the training, and `items.csv` beside it; returns the folder of the run."""
    rng = np.random.default_rng(seed)
    run, file = folder / "run", folder / "items.csv"
    folder.mkdir(parents=True, exist_ok=True)
    config = _config(size, folder)
    clusters = np.sort(np.arange(size.items) % size.clusters)
    rows = [f"i{row},{own}" for row, own in enumerate(_attributes(clusters, rng))]
    file.write_text("\n".join(["item_id,title,brand,tag,price", *rows]) + "\n")
    finish(run, stations.PREPARE, {"times": [0, 1], "split_sha256": ""})
    _write_items(run / stations.CLUSTER.folder, config, clusters, file)
    finish(run, stations.CLUSTER, {})
    _write_users(run / stations.EXAMPLES.folder / schema.VALIDATION, size, clusters, rng)
    finish(run, stations.EXAMPLES, {})
    _write_weights(run, config, size)
    finish(run, stations.TRAIN, {})
    stations.write_config(config, run)
    return run


def write_newer(file: Path, newer: Path, new: int, left: int, replaced: int, clusters: int) -> None:
    """Writes an item file with new items, without the first `left` ones, and with other prices of the next ones."""
    header, *rows = file.read_text().splitlines()
    rng = np.random.default_rng(1)
    for row in range(left, left + replaced):
        rows[row] = f"{rows[row].rpartition(',')[0]},{rng.integers(_PRICES)}"
    attributes = _attributes(rng.integers(0, clusters, new), rng)
    added = [f"new{row},{own}" for row, own in enumerate(attributes)]
    newer.write_text("\n".join([header, *rows[left:], *added]) + "\n")


def _config(size: Size, folder: Path) -> ExperimentConfig:
    items = {
        "path": str(folder / "items.csv"),
        "title": "title",
        "features": {"brand": "value", "tag": "values", "price": "number"},
    }
    return parse_config(
        {
            "name": "run",
            "data": {"path": str(folder / "log.csv"), "items": items},
            "cluster": {"num_clusters": size.clusters},
            "model": {
                **{"encoder": size.encoder, "dim": size.dim, "blocks": 1, "max_length": 50},
                "item_features": size.item_features,
            },
            "export": {"index": size.index, "num_candidates": 10, "max_candidates": min(500, size.items)},
        }
    )


def _attributes(clusters: np.ndarray, rng: np.random.Generator) -> Iterator[str]:
    """Yields title, brand, tags and price of an item of each cluster."""
    brands = clusters * _BRANDS_PER_CLUSTER + rng.integers(0, _BRANDS_PER_CLUSTER, len(clusters))
    tags = clusters[:, None] * 5 + rng.integers(0, _TAGS, [len(clusters), 2])
    prices = rng.integers(0, _PRICES, len(clusters))
    for brand, (first, second), price in zip(brands, tags, prices, strict=True):
        yield f"an item of {brand},b{brand},t{first}|t{second},{price}"


def finish(run: Path, station: Station, figures: dict) -> None:
    """Writes the manifest of a station, made of the present ones of those that it needs."""
    folder = run / station.folder
    folder.mkdir(parents=True, exist_ok=True)
    needed = {other.name: f"synthetic {other.name}" for other in station.needs}
    manifest = {
        "station": station.name,
        "fingerprint": f"synthetic {station.name}",
        "inputs": {"stations": needed, "files": []},
        "figures": figures,
        "seconds": 0,
        "files": file_sizes(folder),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _write_items(folder: Path, config: ExperimentConfig, clusters: np.ndarray, file: Path) -> None:
    folder.mkdir(parents=True)
    ids = [f"i{row}" for row in range(len(clusters))]
    details = find_new_details(config.data, str(file))
    found = read_details(details, ids)
    indices = np.arange(1, len(ids) + 1)
    columns = {
        **{"item_index": indices, "sequence_index": indices, "item_id": ids, "cluster": clusters},
        **{"cold": np.zeros(len(ids), bool), "count": 10 + np.flatnonzero(clusters >= 0)[::-1]},
        **{"title": found.titles, "categories": found.categories, "features": found.features},
    }
    pq.write_table(pa.table(columns, schema.ITEM_SCHEMA), folder / schema.ITEMS)
    names = [{"cluster": k, "name": f"cluster {k}"} for k in range(clusters[-1] + 1)]
    (folder / schema.CLUSTERS).write_text(json.dumps(names))


def _write_users(folder: Path, size: Size, clusters: np.ndarray, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / schema.shard_name(0, 1, "tfrecord"))) as writer:
        for user in range(size.users):
            history = rng.integers(1, size.items + 1, 2 + user % 40)
            target = history[:1]
            values = {"user": [user], "item": history, "target": target, "target_cluster": clusters[target - 1]}
            lists = {key: tf.train.Feature(int64_list=tf.train.Int64List(value=of)) for key, of in values.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString())


def _write_weights(run: Path, config: ExperimentConfig, size: Size) -> None:
    folder = run / stations.TRAIN.folder
    folder.mkdir()
    items = read_items(run / stations.CLUSTER.folder)
    features = feature_matrix(items.features, items.counts) if config.model.item_features else None
    tower = Tower.make(config.model, config.train, items.offsets, config.seed, items.counts, features=features)
    tower.user_vectors(tf.constant([[1, 2]]))  # makes the layers
    scale = size.dim**-0.5
    tower.item_embeddings.assign(tf.random.stateless_normal(tower.item_embeddings.shape, [1, 2], stddev=scale / 2))
    if isinstance(tower.items, FeaturedItems):
        rows = tower.items.feature_rows
        rows.assign(tf.random.stateless_normal(rows.shape, [3, 4], stddev=scale))
    tf.train.Checkpoint(tower=tower).write(tensorflow_path(folder / schema.WEIGHTS))


def main() -> None:
    """Prints the time of a refresh, and of the verification of its version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=Size.items)
    parser.add_argument("--new", type=int, default=1000)
    parser.add_argument("--index", default=Size.index, help="exact, scann or auto")
    parser.add_argument("--folder", type=Path, help="keeps the run; a run that is there is used (default: a new one)")
    parser.add_argument("--profile", action="store_true", help="print the functions that take most time")
    arguments = parser.parse_args()
    size = Size(items=arguments.items, index=arguments.index)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        run = folder / "run"
        if not run.exists():
            started = time.perf_counter()
            run_station(stations.EXPORT, load_config(make_run(folder, size) / schema.RUN_CONFIG), run)
            print(f"synthetic run of {size.items:,} items: {time.perf_counter() - started:.1f} s", flush=True)
        write_newer(folder / "items.csv", folder / "newer.csv", arguments.new, 200, 500, size.clusters)
        profile = cProfile.Profile()
        cpu = time.process_time()
        if arguments.profile:
            figures = profile.runcall(refresh, run, str(folder / "newer.csv"))
            pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
        else:
            figures = refresh(run, str(folder / "newer.csv"))
        cpu = time.process_time() - cpu
        print(figures)
        started = time.perf_counter()
        report = verify(run / stations.EXPORT.folder / str(figures["version"]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"refresh {figures['seconds']:.1f} s ({cpu:.1f} s CPU, {peak:.1f} GB), "
            f"verify {time.perf_counter() - started:.1f} s, mismatch: {report.mismatch or 'none'}"
        )


if __name__ == "__main__":
    main()
