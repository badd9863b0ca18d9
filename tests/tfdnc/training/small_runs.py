"""Trainings on a few items, which take a second: their items, records and configs, and their end by force."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.items import ItemTable
from tfdnc.training.checkpoint import read_checkpoint
from tfdnc.training.records import TrainingRecords
from tfdnc.training.train import train


def make_items(item_ids, clusters, num_clusters=2):
    """Items in order of their clusters, one training event each."""
    clusters = np.array(clusters, np.int32)
    offsets = tuple(int(n) for n in np.searchsorted(clusters, np.arange(num_clusters + 1)))
    numbers, names = np.arange(1, len(item_ids) + 1), [f"cluster {k}" for k in range(num_clusters)]
    return ItemTable(list(item_ids), np.ones(len(item_ids)), clusters, offsets, numbers, list(item_ids), names)


IDS = [f"item {i}" for i in range(12)]
OLD, NEW = make_items(IDS[:10], [0] * 5 + [1] * 5), make_items(IDS[:5] + IDS[10:11] + IDS[5:10], [0] * 6 + [1] * 5)


def make_records(items, users=12):
    """Every user has 6 events on random items."""
    events = np.random.default_rng(0).integers(0, len(items.item_ids), users * 6)
    negatives = np.zeros([len(events), 0], np.int32)
    splits, numbers = np.arange(users + 1) * 6, np.arange(users, dtype=np.int32)
    return TrainingRecords((events + 1).astype(np.int32), items.clusters[events], negatives, splits, numbers)


def make_config(initial=None, encoder="hadamard_per_position", dim=4, model=None, **train):
    settings = {"precision": "float32", "epochs": 2, "batch_tokens": 30, "validate_every": 1, "warmup_steps": 2}
    settings |= {"initial": None if initial is None else str(initial), **train}
    tower = {"dim": dim, "max_length": 5, "blocks": 1, "encoder": encoder} | (model or {})
    return parse_config({"name": "x", "model": tower, "train": settings})


def norm(tower):
    return {"norm": float(tf.norm(tower.item_embeddings))}


def fit(run, items, config, validate=norm):
    folder = run / "train"
    folder.mkdir(parents=True, exist_ok=True)
    train(config, items, make_records(items), validate, "norm", folder)
    return read_checkpoint(folder)


class Killed(BaseException):
    """Ends a training the hard way."""


def killed_in_the_second_epoch(run, items, config):
    """A training that ends by force after one whole epoch."""
    calls = []

    def die(tower):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return norm(tower)

    with pytest.raises(Killed):
        fit(run, items, config, die)
