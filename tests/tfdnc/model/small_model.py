"""A small model on 20 items in three clusters, and batches for it."""

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower

OFFSETS = (0, 5, 15, 20)
K, N, D = 3, 20, 16
USERS = 50
COUNTS = np.arange(N, 0, -1)
CLUSTERS = np.repeat(np.arange(K), np.diff(OFFSETS))


def make(encoder, loss="in_cluster_softmax", offsets=OFFSETS, counts=COUNTS, model=None, **train):
    """A compiled model; `model` holds further keys of its section, and other keywords are those of the training."""
    config = ModelConfig(**{"dim": D, "max_length": 10, "dropout": 0.1, "encoder": encoder} | (model or {}))
    # Fewer draws than a cluster, or the catalogue, has items: losses that can draw do.
    draws = 4 if loss.startswith("in_cluster") else 12
    settings = TrainConfig(loss=loss, precision="float32", num_negatives=draws, **train)
    made = Retriever(Tower.make(config, settings, offsets, 1, counts, num_users=USERS), settings, seed=1)
    made.compile(optimizer=keras.optimizers.Adam(0.02))
    return made


def batch_of(sequences):
    """Windows of whole sequences, padded; the negatives of a target are the next four items of its cluster."""
    length = max(len(sequence) for sequence in sequences) - 1
    batch = {name: np.zeros([len(sequences), length], np.int32) for name in ("history", "target", "target_cluster")}
    batch["user"] = np.arange(len(sequences), dtype=np.int32)
    for row, sequence in enumerate(sequences):
        batch["history"][row, : len(sequence) - 1] = sequence[:-1]
        batch["target"][row, : len(sequence) - 1] = sequence[1:]
        batch["target_cluster"][row, : len(sequence) - 1] = CLUSTERS[np.array(sequence[1:]) - 1]
    start = np.array(OFFSETS)[batch["target_cluster"]][:, :, None]
    size = np.diff(OFFSETS)[batch["target_cluster"]][:, :, None]
    target = batch["target"][:, :, None]
    batch["negatives"] = np.where(target > 0, start + (target - start + np.arange(4)) % size + 1, 0).astype(np.int32)
    return {name: tf.constant(value) for name, value in batch.items()}


def random_sequences(count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, N + 1, rng.integers(2, 11)).tolist() for _ in range(count)]


def histories(*rows):
    width = max(len(row) for row in rows)
    return tf.constant([row + [0] * (width - len(row)) for row in rows], tf.int32)


def intent_of(tower, states):
    """log p(cluster) `[P, K]` of intent states `[P, D]` of a training, by a learned intent."""
    return tf.nn.log_softmax(tower.intent(states, tower.catalogue(tower.item_vectors())))
