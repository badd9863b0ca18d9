"""A plain script with polars, numpy and TensorFlow in one process, as a baseline for `data_jobs.py`.

    python developer_benchmarks/data_jobs_polars.py LOG_FOLDER OUTPUT_FOLDER MIN_ITEM_EVENTS MIN_USER_EVENTS CLUSTERS

It is a simple program for one log on one machine: the filters, the order, the split, one in-cluster negative per
training position, and the records of the two jobs. It checks no input, and holds the log in memory.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

SEED = 1


def read_events(folder: Path, min_item_events: int, min_user_events: int) -> pl.DataFrame:
    """Returns user_id, video_id and time_ms of the rows that pass the filters, in order of user and time."""
    logs = [
        pl.scan_csv(path).filter(pl.col("is_click") == 1, pl.col("tab") == 1).select("user_id", "video_id", "time_ms")
        for path in sorted(folder.glob("log_standard_*.csv"))
    ]
    events = pl.concat(logs).collect()
    events = events.filter(pl.len().over("video_id") >= min_item_events)
    events = events.filter(pl.len().over("user_id") >= min_user_events)
    return events.sort("user_id", "time_ms", maintain_order=True)


def number_items(events: pl.DataFrame, clusters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clusters the items at random, and numbers them 1..N so that a cluster is one range.

    Returns:
        `[E]` item of every event, `[N + 1]` cluster of every item, `[K + 1]` first item of every cluster.
    """
    ids, index = np.unique(events["video_id"].to_numpy(), return_inverse=True)
    cluster = np.random.default_rng(SEED).permutation(len(ids)) % clusters
    order = np.argsort(cluster, kind="stable")
    number = np.empty(len(ids), np.int64)
    number[order] = np.arange(1, len(ids) + 1)
    offsets = 1 + np.searchsorted(cluster[order], np.arange(clusters + 1))
    return number[index], np.concatenate([[0], cluster[order]]), offsets


def draw(
    rng: np.random.Generator, items: np.ndarray, clusters: np.ndarray, offsets: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Returns for every item a negative from its cluster, none of them in `items`; `own` `[N + 1]` is all False."""
    own[items] = True
    first, size = offsets[clusters], np.diff(offsets)[clusters]
    drawn = first + (rng.random(len(items)) * size).astype(np.int64)
    while len(hits := np.flatnonzero(own[drawn])):
        drawn[hits] = first[hits] + (rng.random(len(hits)) * size[hits]).astype(np.int64)
    own[items] = False
    return drawn


def write_records(output: Path, items: np.ndarray, edges: np.ndarray, cluster: np.ndarray, offsets: np.ndarray) -> None:
    """Writes a train, a validation and a test record per user; user u's items are `items[edges[u]:edges[u + 1]]`."""
    import tensorflow as tf

    def example(**features: Sequence[int] | np.ndarray) -> bytes:
        lists = {
            name: tf.train.Feature(int64_list=tf.train.Int64List(value=values)) for name, values in features.items()
        }
        return tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()

    writers = [tf.io.TFRecordWriter(str(output / f"{split}.tfrecord")) for split in ("train", "validation", "test")]
    rng, own = np.random.default_rng(SEED), np.zeros(len(cluster), bool)
    for user in range(len(edges) - 1):
        history = items[edges[user] : edges[user + 1]]
        train = history[:-2]
        clusters = cluster[train]
        negatives = draw(rng, train, clusters, offsets, own)
        writers[0].write(example(user=[user], item=train, cluster=clusters, negatives=negatives))
        for writer, length in zip(writers[1:], (len(history) - 2, len(history) - 1), strict=True):
            target = history[length]
            writer.write(example(user=[user], item=history[:length], target=[target], target_cluster=[cluster[target]]))
    for writer in writers:
        writer.close()


def main(log: str, output: str, min_item_events: str, min_user_events: str, clusters: str) -> None:
    """Writes sequences.parquet and three files of records of a log; prints the numbers of kept events as JSON."""
    folder = Path(output)
    folder.mkdir(parents=True)
    began = time.process_time()
    import tensorflow  # noqa: F401 - to measure the cost of the import alone

    import_seconds = time.process_time() - began
    events = read_events(Path(log), int(min_item_events), int(min_user_events))
    users = events.group_by("user_id", maintain_order=True)
    lengths = users.len()["len"].to_numpy()
    users.agg("video_id", "time_ms").write_parquet(folder / "sequences.parquet", compression="zstd")
    items, cluster, offsets = number_items(events, int(clusters))
    write_records(folder, items, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), cluster, offsets)
    figures = {"events": len(events), "users": len(lengths), "items": len(cluster) - 1}
    print(json.dumps({**figures, "import_seconds": import_seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
