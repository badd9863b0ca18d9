"""Prepared logs whose right clusters are obvious, and the files that the cluster station writes."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfdnc.contracts import schema
from tfdnc.contracts.config import ClusterConfig

TINY = ClusterConfig(num_clusters=2, dim=8, epochs=20, sample=0, max_share=0.6)

METHODS = ("category", "random", "single", "spectral_kmeans", "word2vec_kmeans")

HELD_OUT = [1, 2]  # what every user of these logs sees last; no model may


def write_prepared(folder, sequences, num_items, titles=None, categories=None):
    """Writes prepare's output in two files; item i has the id "i<i>"; the sequences include the held-out events."""
    (folder / schema.SEQUENCES).mkdir(parents=True)
    half = len(sequences) // 2
    for shard, users in enumerate((range(half), range(half, len(sequences)))):
        rows = []
        for user in users:
            length = len(sequences[user])
            row = {"user_id": f"u{user:05d}", "items": sequences[user], "times": range(length)}
            rows.append(row | {"train_events": max(0, length - 2), "validation": length - 2, "test": length - 1})
        table = pa.Table.from_pylist(rows, schema=schema.SEQUENCE_SCHEMA)
        pq.write_table(table, folder / schema.SEQUENCES / schema.shard_name(shard, 2, "parquet"))
    events = np.bincount(np.concatenate([*sequences, [0]]).astype(int), minlength=num_items + 1)[1 : num_items + 1]
    vocabulary = {
        "sequence_index": range(1, num_items + 1),
        "item_id": [f"i{item}" for item in range(1, num_items + 1)],
        "events": events,
        "title": titles or [None] * num_items,
        "categories": categories or [None] * num_items,
        "features": [None] * num_items,
    }
    columns = [pa.array(vocabulary[field.name], field.type) for field in schema.VOCABULARY_SCHEMA]
    pq.write_table(pa.table(columns, schema=schema.VOCABULARY_SCHEMA), folder / schema.VOCABULARY)
    return folder


def two_tastes(users=200, items=20):
    """Half of the users see the even items only, the others the odd ones; low items are the more popular."""
    rng = np.random.default_rng(0)
    sequences = []
    for user in range(users):
        own = np.arange(1 + user % 2, items + 1, 2)
        weight = 1 / np.arange(1, len(own) + 1)
        sequences.append([*rng.choice(own, 8, replace=False, p=weight / weight.sum()).tolist(), *HELD_OUT])
    return sequences


def read_items(output):
    return pq.read_table(output / schema.ITEMS).to_pydict()


def read_clusters(output):
    return json.loads((output / schema.CLUSTERS).read_text())
