"""Cost of the intent models by the size of the catalogue: CPU time of a training step and of a request.

    OMP_NUM_THREADS=1 python -m developer_benchmarks.intents --items 3000 20000 100000 200000

K = 10 clusters of equal size, D = 64, random states and items. A step has 6,400 positions, with gradients for states,
items and weights; a request has one. Only the intent is measured: its part of a step, and what it adds to a request.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from developer_benchmarks.catalogue_sizes import one_thread
from tfdnc.backend import tf
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.model.catalogue import Catalogue
from tfdnc.model.intent import IntentKind, make_intent
from tfdnc.model.randomness import Stream

POSITIONS = 6_400
KINDS: tuple[IntentKind, ...] = ("head", "partition")


def measure(kind: IntentKind, items: int, clusters: int, rounds: int) -> tuple[float, float]:
    """Returns CPU milliseconds of a step and of a request, the medians of all rounds."""
    config, train = ModelConfig(), TrainConfig()
    rng = np.random.default_rng(1)
    offsets = tuple(np.linspace(0, items, clusters + 1).astype(int).tolist())
    vectors = tf.Variable(rng.normal(0, 0.1, [items, config.dim]).astype(np.float32))
    counts = rng.integers(1, 100, items)
    states = tf.constant(rng.normal(size=[POSITIONS, config.dim]).astype(np.float32))
    labels = tf.constant(rng.integers(0, clusters, POSITIONS).astype(np.int32))
    intent = make_intent(kind, config, train, offsets, tf.float32)

    def logits(some: tf.Tensor, stream: Stream | None) -> tf.Tensor:
        return intent(some, Catalogue(tf.convert_to_tensor(vectors), offsets, counts), stream)

    logits(states[:1], None)  # makes the weights

    @tf.function(autograph=False)
    def step(number: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(states)
            found = logits(states, Stream.at(1, number))
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, found))
        gradients = tape.gradient(loss, [states, vectors, *intent.trainable_variables])
        return [gradient for gradient in gradients if gradient is not None]  # a head has none for the items

    @tf.function(autograph=False)
    def request(some: tf.Tensor) -> tf.Tensor:
        return tf.nn.log_softmax(logits(some, None))

    number = tf.constant(1, tf.int64)
    return milliseconds(lambda: step(number), rounds), milliseconds(lambda: request(states[:1]), 10 * rounds)


def milliseconds(run: Callable[[], object], rounds: int) -> float:
    """Returns the median CPU time of a call, after one that compiles."""
    run()
    found = []
    for _ in range(rounds):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return 1000 * statistics.median(found)


def main() -> None:
    """Measures every size in turn and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[3_000, 20_000, 100_000, 200_000])
    parser.add_argument("--clusters", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    one_thread()
    print("| items | intent | CPU ms a step | CPU ms a request |\n| ---: | --- | ---: | ---: |", flush=True)
    for items in arguments.items:
        for kind in KINDS:
            step, request = measure(kind, items, arguments.clusters, arguments.rounds)
            print(f"| {items:,} | `{kind}` | {step:.1f} | {request:.2f} |", flush=True)


if __name__ == "__main__":
    main()
