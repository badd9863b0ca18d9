"""Cost of the softmax inside clusters by the number of clusters: CPU time of its part of a training step.

    OMP_NUM_THREADS=1 python -m developer_benchmarks.clusters_of_step --items 2000 20000 --clusters 4 10 25 60

Clusters of equal size, D = 64, random states and items. A step has `--positions` positions, with gradients for states
and items. The last line fits cost = a + b N / K + c K to all rows: with N items K = sqrt(N b / c) costs least.
"""

import argparse

import numpy as np

from developer_benchmarks.catalogue_sizes import one_thread
from developer_benchmarks.intents import milliseconds
from tfdnc.backend import tf
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.model.catalogue import Catalogue, Targets
from tfdnc.model.losses import LOSSES

_DIM = 64


def measure(items: int, clusters: int, positions: int, rounds: int) -> float:
    """Returns CPU milliseconds of the loss and its gradients, the median of all rounds."""
    rng = np.random.default_rng(1)
    offsets = np.linspace(0, items, clusters + 1).astype(int)
    vectors = tf.Variable(rng.normal(0, 0.1, [items, _DIM]).astype(np.float32))
    states = tf.constant(rng.normal(size=[positions, _DIM]).astype(np.float32))
    rows = rng.integers(0, items, positions)
    owners = np.searchsorted(offsets, rows, side="right") - 1
    targets = Targets(tf.constant(rows + 1), tf.constant(owners), tf.zeros([positions, 0], tf.int32))
    loss, train, counts = LOSSES.resolve("in_cluster_softmax"), TrainConfig(), np.ones(items, np.int64)

    @tf.function(autograph=False)
    def step() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(states)
            catalogue = Catalogue(tf.convert_to_tensor(vectors), tuple(offsets.tolist()), counts)
            mean = tf.reduce_mean(loss(states, targets, catalogue, train, tf.float32, None))
        return tape.gradient(mean, [states, vectors])

    return milliseconds(step, rounds)


def main() -> None:
    """Measures every size in turn, and prints a table and the fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[2_000, 20_000])
    parser.add_argument("--clusters", type=int, nargs="+", default=[4, 10, 25, 60])
    parser.add_argument("--positions", type=int, default=6_400)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    one_thread()
    print("| items | K | CPU ms |\n| ---: | ---: | ---: |", flush=True)
    terms, found = [], []
    for items in arguments.items:
        for clusters in arguments.clusters:
            found.append(measure(items, clusters, arguments.positions, arguments.rounds))
            terms.append([1, items / clusters, clusters])
            print(f"| {items:,} | {clusters} | {found[-1]:.1f} |", flush=True)
    a, b, c = np.linalg.lstsq(np.array(terms), np.array(found), rcond=None)[0]
    print(f"\n{a:.1f} + {b:.4f} N / K + {c:.3f} K ms; least with K = sqrt(N / {c / b:.0f})")


if __name__ == "__main__":
    main()
