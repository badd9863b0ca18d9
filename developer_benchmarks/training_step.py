"""Cost of a training step of the product, compared with the same mathematics written by hand.

    python developer_benchmarks/training_step.py

`sasrec_loss` and `divide_and_conquer_loss` use plain variables and plain TensorFlow: no Keras layer, no registry, no
metric. From the same weights they give the losses of the product's methods of those names, step by step; a test checks
that. So the difference in time is the cost of the product's structure. Times are CPU times on one thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.benchmark.worker import Timer
from tfdnc.contracts.config import ExperimentConfig, parse_config
from tfdnc.contracts.items import ItemTable
from tfdnc.model.precision import resolve_precision
from tfdnc.model.randomness import Stream, substream
from tfdnc.model.retriever import Retriever
from tfdnc.training.batches import TrainingBatches
from tfdnc.training.learning_rate import WarmupCosine
from tfdnc.training.records import TrainingRecords
from tfdnc.training.train import assemble

METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "sasrec": {
        "cluster": {"num_clusters": 1},
        "model": {"encoder": "transformer"},
        "train": {"loss": "bce"},
    },
    "dnc": {
        "cluster": {"num_clusters": 10},
        "model": {"encoder": "hadamard_per_position", "intent": "head"},
        "train": {"loss": "in_cluster_softmax"},
    },
}


class Linear(NamedTuple):
    """x W + b."""

    kernel: tf.Variable
    bias: tf.Variable


class Norm(NamedTuple):
    """Layer normalisation."""

    scale: tf.Variable
    shift: tf.Variable


class Block(NamedTuple):
    """Pre-norm Transformer block with one head."""

    attention_norm: Norm
    qkv: Linear
    out: Linear
    feed_forward_norm: Norm
    inner: Linear
    outer: Linear


class Weights(NamedTuple):
    """All variables of a model."""

    positions: tf.Variable  # [L, D]
    tasks: tf.Variable | None  # [K + 1, D], the last row is the prompt for the intent
    blocks: list[Block]
    norm: Norm
    intent_inner: Linear
    intent_outer: Linear
    items: tf.Variable  # [N, D]


class Settings(NamedTuple):
    """Constants of a model."""

    offsets: tuple[int, ...]  # cluster k is item rows offsets[k] .. offsets[k + 1] - 1
    dropout: float
    dtype: tf.DType  # of the matrix products


Loss = Callable[[Weights, Settings, dict[str, tf.Tensor], Stream | None], tf.Tensor]


def sasrec_loss(w: Weights, s: Settings, batch: dict[str, tf.Tensor], stream: Stream | None) -> tf.Tensor:
    """Returns the mean over positions of softplus(-r+) + softplus(r-), r = state . item, with one uniform negative."""
    has_target = batch["target"] > 0
    x = dropout(embed(w, batch["history"]) + w.positions[: tf.shape(has_target)[1]], s, substream(stream, "inputs"))
    for i, block in enumerate(w.blocks):
        q, k, v = heads(block, s, x)
        x = feed_forward(block, s, x, causal_attention(q, k, v), substream(stream, "block", i, "prefix"))
    states = tf.boolean_mask(normalise(w.norm, x), has_target)  # [P, D]
    items = tf.convert_to_tensor(w.items)
    positive = tf.gather(items, tf.boolean_mask(batch["target"], has_target) - 1)
    negative = tf.gather(items, tf.boolean_mask(batch["negatives"][:, :, 0], has_target) - 1)
    losses = tf.nn.softplus(-tf.reduce_sum(states * positive, 1)) + tf.nn.softplus(tf.reduce_sum(states * negative, 1))
    return tf.reduce_mean(losses)


def divide_and_conquer_loss(w: Weights, s: Settings, batch: dict[str, tf.Tensor], stream: Stream | None) -> tf.Tensor:
    """Returns the mean cross entropy inside the target's cluster, plus that of the cluster itself.

    Position j of the prefix is multiplied by the task row of its target's cluster. Query j is multiplied by the
    "no task" row, and reads the prefix below j and itself.
    """
    assert w.tasks is not None  # the weights of this method have task rows
    has_target, clusters = batch["target"] > 0, batch["target_cluster"]
    length = tf.shape(clusters)[1]
    tokens, positions = embed(w, batch["history"]), w.positions[:length]
    x = dropout(tokens * tf.gather(w.tasks, clusters) + positions, s, substream(stream, "prefix", "inputs"))
    y = dropout(tokens * w.tasks[-1] + positions, s, substream(stream, "queries", "inputs"))
    for i, block in enumerate(w.blocks):
        q, k, v = heads(block, s, x)
        x = feed_forward(block, s, x, causal_attention(q, k, v), substream(stream, "block", i, "prefix"))
        read = query_attention(*heads(block, s, y), k, v)
        y = feed_forward(block, s, y, read, substream(stream, "block", i, "queries"))

    states = tf.boolean_mask(normalise(w.norm, x), has_target)
    rows, labels = tf.boolean_mask(batch["target"], has_target) - 1, tf.boolean_mask(clusters, has_target)
    num_clusters, losses = len(s.offsets) - 1, []
    states_of, rows_of = (tf.dynamic_partition(values, labels, num_clusters) for values in (states, rows))
    items = tf.split(w.items, np.diff(s.offsets))
    for k in range(num_clusters):
        logits = tf.matmul(tf.cast(states_of[k], s.dtype), tf.cast(items[k], s.dtype), transpose_b=True)
        losses.append(cross_entropy(rows_of[k] - s.offsets[k], tf.cast(logits, tf.float32)))
    intent_states = tf.boolean_mask(normalise(w.norm, y), has_target)
    hidden = tf.nn.relu(tf.matmul(intent_states, w.intent_inner.kernel) + w.intent_inner.bias)
    intent = tf.matmul(hidden, w.intent_outer.kernel) + w.intent_outer.bias
    return tf.reduce_mean(tf.concat(losses, 0)) + tf.reduce_mean(cross_entropy(labels, intent))


def embed(w: Weights, history: tf.Tensor) -> tf.Tensor:
    """Returns the item vectors `[B, L, D]` of histories `[B, L]`, scaled by sqrt(D)."""
    return tf.gather(tf.convert_to_tensor(w.items), tf.maximum(history - 1, 0)) * w.items.shape[1] ** 0.5


def heads(block: Block, s: Settings, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns queries, scaled by D^-1/2, keys and values: `[B, L, D]` each."""
    q, k, v = tf.split(tf.cast(linear(block.qkv, s, normalise(block.attention_norm, x)), s.dtype), 3, axis=2)
    return q * tf.cast(x.shape[2] ** -0.5, s.dtype), k, v


def causal_attention(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """Returns the attention of each position j to the positions 0 .. j."""
    positions = tf.range(tf.shape(q)[1])
    logits = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32)
    logits += tf.where(positions[:, None] >= positions, 0.0, -1e9)
    return tf.matmul(tf.cast(tf.nn.softmax(logits), v.dtype), v)


def query_attention(q: tf.Tensor, own_k: tf.Tensor, own_v: tf.Tensor, k: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
    """Returns the attention of each query j to the prefix below j and to itself: one softmax, computed in two parts."""
    positions = tf.range(tf.shape(q)[1])
    logits = tf.cast(tf.matmul(q, k, transpose_b=True), tf.float32)
    logits += tf.where(positions[:, None] > positions, 0.0, -1e9)
    own = tf.cast(tf.reduce_sum(q * own_k, 2, keepdims=True), tf.float32)
    share = tf.sigmoid(own - tf.reduce_logsumexp(logits, 2, keepdims=True))
    others = tf.cast(tf.matmul(tf.cast(tf.nn.softmax(logits), v.dtype), v), tf.float32)
    return (1 - share) * others + share * tf.cast(own_v, tf.float32)


def feed_forward(block: Block, s: Settings, x: tf.Tensor, attended: tf.Tensor, stream: Stream | None) -> tf.Tensor:
    """Applies the part of a block after attention, with both residuals."""
    x = x + dropout(linear(block.out, s, attended), s, substream(stream, "attention"))
    hidden = tf.nn.relu(linear(block.inner, s, normalise(block.feed_forward_norm, x)))
    return x + dropout(linear(block.outer, s, hidden), s, substream(stream, "feed_forward"))


def linear(layer: Linear, s: Settings, x: tf.Tensor) -> tf.Tensor:
    """Returns x W + b by one product over all positions."""
    flat = tf.reshape(x, [-1, x.shape[2]])
    product = tf.cast(tf.matmul(tf.cast(flat, s.dtype), tf.cast(layer.kernel, s.dtype)), tf.float32) + layer.bias
    return tf.reshape(product, [tf.shape(x)[0], tf.shape(x)[1], layer.bias.shape[0]])


def normalise(layer: Norm, x: tf.Tensor) -> tf.Tensor:
    """Applies layer normalisation in float32."""
    centred = x - tf.reduce_mean(x, 2, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), 2, keepdims=True)
    return centred * (tf.math.rsqrt(variance + 1e-6) * layer.scale) + layer.shift


def dropout(x: tf.Tensor, s: Settings, stream: Stream | None) -> tf.Tensor:
    """Drops elements at random, each by one random byte; drops none without a stream."""
    if stream is None:
        return x
    threshold, size = round(s.dropout * 256), tf.size(x)
    words = tf.random.stateless_uniform([(size + 3) // 4], stream.seed, None, None, tf.int32)
    kept = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size] >= tf.constant(threshold, tf.uint8)
    return x * tf.reshape(tf.cast(kept, tf.float32) * (256 / (256 - threshold)), tf.shape(x))


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns -log softmax(logits)[label]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


class HandWritten:
    """A loss with its weights, copied from a model of the product, and Adam (Kingma & Ba 2015).

    Args:
        model: the product's model.
        config: its experiment.
        batches: its batches, which determine the learning rate's schedule.

    Attributes:
        step: batch -> loss, after one training step.
    """

    def __init__(self, model: Retriever, config: ExperimentConfig, batches: TrainingBatches) -> None:
        self._weights = copy_weights(model)
        self._settings = Settings(model.tower.offsets, config.model.dropout, resolve_precision(config.train.precision))
        self._loss: Loss = sasrec_loss if self._weights.tasks is None else divide_and_conquer_loss
        self._seed, self._train = config.seed, config.train
        steps = config.train.epochs * batches.steps_per_epoch
        self._rate = WarmupCosine(
            config.train.learning_rate, config.train.warmup_steps, steps, config.train.final_learning_rate
        )
        self._trained = [variable for variable in tf.nest.flatten(self._weights) if variable is not None]
        self._moments = [(tf.Variable(v * 0), tf.Variable(v * 0)) for v in self._trained]
        self._step = tf.Variable(0, dtype=tf.int64)
        self.step: Callable[[dict[str, tf.Tensor]], tf.Tensor] = tf.function(self._one_step, reduce_retracing=True)

    def _one_step(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        stream = substream(Stream.at(self._seed, self._step), "encoder")
        with tf.GradientTape() as tape:
            loss = self._loss(self._weights, self._settings, batch, stream)
        gradients = tape.gradient(loss, self._trained)
        rate, t = self._rate(self._step), tf.cast(self._step + 1, tf.float32)
        beta_1, beta_2 = 0.9, self._train.beta_2
        rate *= tf.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        for variable, gradient, (mean, square) in zip(self._trained, gradients, self._moments, strict=True):
            if gradient is None:  # the intent head is not used with one cluster
                continue
            gradient = tf.convert_to_tensor(gradient)
            mean.assign_add((gradient - mean) * (1 - beta_1))
            square.assign_add((tf.square(gradient) - square) * (1 - beta_2))
            variable.assign_sub(rate * mean / (tf.sqrt(square) + 1e-7))
        self._step.assign_add(1)
        return loss


def copy_weights(model: Retriever) -> Weights:
    """Returns copies of the model's weights; the product has them in the order of construction."""
    values = iter([tf.Variable(variable) for variable in model.tower.serving_variables])

    def norm() -> Norm:
        return Norm(next(values), next(values))

    def linear() -> Linear:
        return Linear(next(values), next(values))

    items, positions = next(values), next(values)
    tasks = next(values) if model.tower.vectors_per_cluster else None
    blocks = [Block(norm(), linear(), linear(), norm(), linear(), linear()) for _ in range(2)]
    return Weights(positions, tasks, blocks, norm(), linear(), linear(), items)


def make_method(
    name: str, users: int, events: int, items: int, precision: str = "auto"
) -> tuple[ExperimentConfig, Retriever, TrainingBatches]:
    """Returns the product's model of a method, and batches of random items: the cost of a step depends on shapes."""
    settings = METHODS[name]
    model = {**settings["model"], "distance_bias": False, "feed_forward": "relu"}  # as in the step by hand
    train = {**settings["train"], "precision": precision}
    config = parse_config({"name": name, **settings, "model": model, "train": train})
    return config, *assemble(config, *random_log(config.cluster.num_clusters, users, events, items))


def random_log(clusters: int, users: int, events: int, items: int) -> tuple[ItemTable, TrainingRecords]:
    """Returns random items in clusters of equal size, and as many random events of every user."""
    rng = np.random.default_rng(1)
    offsets = np.linspace(0, items, clusters + 1).astype(int)
    cluster_of = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)).astype(np.int32)
    history, negatives = rng.integers(1, items + 1, (2, users * events), np.int32)
    splits, numbers = np.arange(users + 1) * events, np.arange(users, dtype=np.int32)
    records = TrainingRecords(history, cluster_of[history - 1], negatives[:, None], splits, numbers)
    ids = [str(item) for item in range(1, items + 1)]
    return ItemTable(ids, np.ones(items), cluster_of, tuple(offsets), np.arange(1, items + 1), ids, ids), records


def main() -> None:
    """Times both in blocks, in turn, and prints medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="steps of a block")
    parser.add_argument("--rounds", type=int, default=9, help="blocks of each")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print(f"{'':10}{'ours':>12}{'by hand':>12}{'ratio':>8}   lowest - highest of {arguments.rounds} rounds")
    for name in METHODS:
        ours, by_hand = time_method(name, arguments.steps, arguments.rounds)
        ratios = [one / other for one, other in zip(ours, by_hand, strict=True)]
        columns = (
            f"{statistics.median(ours):9.1f} ms{statistics.median(by_hand):9.1f} ms{statistics.median(ratios):8.2f}"
        )
        print(f"{name:10}{columns}   {min(ratios):.2f} - {max(ratios):.2f}")


def time_method(name: str, steps: int, rounds: int) -> tuple[list[float], list[float]]:
    """Returns CPU milliseconds of a step per round: of `model.fit`, and of the step by hand on the same batches."""
    config, model, batches = make_method(name, users=32 * steps, events=201, items=3416)
    by_hand = HandWritten(model, config, batches)
    ours, hand = [], []
    for _ in range(rounds + 1):
        timer = Timer()
        model.fit(batches.dataset(0, 1), verbose=0, callbacks=[timer])
        ours.append(timer.seconds["cpu_seconds"] * 1000 / steps)
        stream = iter(batches.dataset(0, 1))  # made before the clock starts, as in `fit`
        began = time.process_time()
        for batch in stream:
            by_hand.step(batch)
        hand.append((time.process_time() - began) * 1000 / steps)
    return ours[1:], hand[1:]  # the first round compiles


if __name__ == "__main__":
    main()
