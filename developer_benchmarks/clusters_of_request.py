"""Parts of a request by the number of clusters: encode, search and merge apart, over the same items.

    OMP_NUM_THREADS=1 python -m developer_benchmarks.clusters_of_request --clusters 10 50 200

One user with a history of 50 items asks for 500 of 100,000 items by the joint merge. Weights are random, because cost
depends on shapes; only the intent is made as peaked as a trained one. Each part is a graph of its own with the outputs
of the part before it as its inputs. All sizes answer in turn; a figure is the median over the turns.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np

from developer_benchmarks.request import make_tower
from tfdnc.backend import tf
from tfdnc.contracts.config import ExperimentConfig, MergeConfig, parse_config
from tfdnc.load_test.bundle import Size, make_items
from tfdnc.retrieval.index import ExactIndex
from tfdnc.retrieval.index.listing import expected_shares, search_list
from tfdnc.retrieval.merge import Candidates, Controls, merge, select_keys

JOINT = MergeConfig()
PARTS = ("encode", "search", "merge", "search and merge")


def parts_of(config: ExperimentConfig, items: int, clusters: int, length: int, wanted: int) -> dict[str, Callable]:
    """Returns a function without arguments for each of `PARTS`."""
    table = make_items(Size(items=items, clusters=clusters))
    tower = make_tower(config, table)
    index = ExactIndex(tower.item_embeddings, table.offsets)
    rng = np.random.default_rng(0)
    history = tf.constant(rng.integers(1, items + 1, [1, length], np.int32))
    controls = Controls(tf.constant([wanted]), tf.constant([-1.0]))
    per_cluster = tower.vectors_per_cluster

    @tf.function
    def encode(history: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tower.user_vectors(history)

    @tf.function
    def search(vectors: tf.Tensor, k: tf.Tensor) -> tuple[Candidates, tf.Tensor]:
        return index.search(vectors, history, k, per_cluster=per_cluster)

    @tf.function
    def merged(candidates: Candidates, partition: tf.Tensor, log_intent: tf.Tensor) -> tf.Tensor:
        keys = select_keys(candidates, partition, log_intent, controls, JOINT)
        return merge(candidates, keys, controls.num_candidates, wanted, clusters).rows

    @tf.function
    def both(vectors: tf.Tensor, log_intent: tf.Tensor) -> tf.Tensor:
        shares = expected_shares(log_intent, controls.alpha, JOINT)
        most = tf.minimum(wanted, tf.constant(index.sizes))
        return search_list(
            index,
            vectors,
            history,
            most,
            shares,
            controls.num_candidates,
            wanted,
            lambda candidates, partition: select_keys(candidates, partition, log_intent, controls, JOINT),
            per_cluster=per_cluster,
        ).rows

    vectors, log_intent = encode(history)
    # The widths of the first search of `search_list`.
    shares = expected_shares(log_intent, controls.alpha, JOINT)[0].numpy()
    k = tf.constant(np.minimum((3 * shares * wanted).astype(np.int32) + 32, index.sizes))
    candidates, partition = search(vectors, k)
    return {
        "encode": lambda: encode(history),
        "search": lambda: search(vectors, k),
        "merge": lambda: merged(candidates, partition, log_intent),
        "search and merge": lambda: both(vectors, log_intent),
    }


def time_parts(subjects: dict[int, dict[str, Callable]], turns: int) -> dict[int, dict[str, float]]:
    """Returns the median CPU milliseconds of every part by number of clusters."""
    found: dict[int, dict[str, list[float]]] = {size: {part: [] for part in PARTS} for size in subjects}
    for turn in range(-3, turns):  # negative turns warm up
        for size, parts in subjects.items():
            for part, run in parts.items():
                began = time.process_time()
                run()
                if turn >= 0:
                    found[size][part].append(1000 * (time.process_time() - began))
    return {size: {part: float(np.median(times)) for part, times in parts.items()} for size, parts in found.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Times all sizes and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--clusters", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--length", type=int, default=50, help="items of the history")
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--encoder", default="hadamard_per_position")
    parser.add_argument("--turns", type=int, default=100)
    flags = parser.parse_args(argv)
    config = parse_config({"name": "clusters", "model": {"encoder": flags.encoder, "max_length": flags.length}})
    subjects = {
        size: parts_of(config, flags.items, size, flags.length, flags.candidates) for size in sorted(flags.clusters)
    }
    times = time_parts(subjects, flags.turns)
    print("| K | " + " | ".join(f"{part}, CPU ms" for part in PARTS) + " | all | to the first | sqrt of K's ratio |")
    print("| ---: |" + " ---: |" * (len(PARTS) + 3))
    least = min(times)
    whole = {size: row["encode"] + row["search and merge"] for size, row in times.items()}
    for size, row in times.items():
        cells = [f"{row[part]:.2f}" for part in PARTS]
        ratios = [f"{whole[size]:.2f}", f"{whole[size] / whole[least]:.2f}", f"{(size / least) ** 0.5:.2f}"]
        print(f"| {size} | " + " | ".join([*cells, *ratios]) + " |")


if __name__ == "__main__":
    main()
