"""Cost of a request: bundles with task prompts, compared with one with a single cluster, over the same items.

    python developer_benchmarks/request.py --items 1000000 --batch 1 32 --candidates 50 500

`single` is the baseline: one encode and one global search. The other bundles have the same Transformer and the same
items in K clusters. Weights are random, because the cost of a request depends on shapes; only the intent is made as
peaked as a trained one. This process answers all requests as the embedded server does, in turn. A ratio is the median
over the turns of the ratio to the time of `single` in the same turn.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from serving.servable import Servable
from tfdnc.backend import tf
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.config import ExperimentConfig, parse_config
from tfdnc.contracts.items import ItemTable
from tfdnc.export.bundle import export_bundle
from tfdnc.load_test.bundle import Size, make_items
from tfdnc.model.tower import Tower

JOINT, QUOTA = {"method": "joint"}, {"method": "quota"}
METHODS = {
    "single": ("transformer", 1, {"method": "score"}),
    "per position": ("hadamard_per_position", None, JOINT),
    "literal, joint": ("hadamard_literal", None, JOINT),
    "literal, quota": ("hadamard_literal", None, QUOTA),
    "prefix, quota": ("prefix", None, QUOTA),
}
"""Name -> encoder, number of clusters (None for that of the command line), merge."""

INTENT_SPREAD = 2.0
"""Standard deviation of the logits of the intent: at K = 15 the likeliest cluster gets about 0.45."""


def make_bundle(folder: Path, name: str, num_items: int, clusters: int, index: str, candidates: int) -> Servable:
    """Exports a bundle of `METHODS[name]` with random weights, and loads it."""
    encoder, own_clusters, merge = METHODS[name]
    items = make_items(Size(items=num_items, clusters=own_clusters or clusters))
    config = parse_config(
        {
            "name": "request",
            "model": {"encoder": encoder},
            "merge": merge,
            "export": {"index": index, "num_candidates": candidates, "max_candidates": candidates},
        }
    )
    tower = make_tower(config, items)
    vectors, _ = tower.user_vectors(tf.constant([[1, 2, 3]]))
    export_bundle(tower, items, vectors[0].numpy(), config, {}, folder)
    return Servable.load("request", 1, folder / "1")


def make_tower(config: ExperimentConfig, items: ItemTable) -> Tower:
    """Returns a tower with clustered item vectors, and logits of the intent with deviation `INTENT_SPREAD`."""
    tower = Tower.make(config.model, config.train, items.offsets, 1, items.counts)
    tower.user_vectors(tf.constant([[1]]))
    rng = np.random.default_rng(1)
    dim = config.model.dim
    centres = rng.normal(0, 0.1, [1000, dim])
    tower.item_embeddings.assign(
        centres[rng.integers(0, 1000, len(items.item_ids))] + rng.normal(0, 0.05, [len(items.item_ids), dim])
    )
    if tower.num_clusters > 1:
        histories = tf.constant(rng.integers(1, len(items.item_ids) + 1, [64, 10], np.int32))
        _, log_intent = tower.user_vectors(histories)
        kernel = tower.serving_variables[-2]  # kernel of the last layer, to which the logits are proportional
        kernel.assign(kernel * (INTENT_SPREAD / np.std(log_intent, axis=1).mean()))
    return tower


def request(
    rng: np.random.Generator, batch: int, length: int, num_items: int, candidates: int
) -> dict[str, np.ndarray]:
    """Returns inputs of `retrieve` with random histories, for the merge of the bundle."""
    return {
        contract.HISTORY: rng.integers(0, num_items, [batch, length]).astype(str).astype(object),
        contract.NUM_CANDIDATES: np.full([batch], candidates, np.int32),
        contract.ALPHA: np.full([batch], -1, np.float32),
    }


def time_requests(
    servables: dict[str, Servable], requests: list[dict[str, np.ndarray]], turns: int
) -> dict[str, np.ndarray]:
    """Returns milliseconds of a `retrieve` by method: `[turns, 2]`, wall clock and CPU time.

    In one turn all methods answer the same request.
    """
    outputs = contract.SIGNATURES["retrieve"].output_names
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in servables}
    for turn in range(-len(requests), turns):  # negative turns warm up, once with every request
        for name, servable in servables.items():
            began = time.perf_counter(), time.process_time()
            servable.run("retrieve", requests[turn % len(requests)], outputs)
            if turn >= 0:
                times[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return {name: np.array(values) * 1000 for name, values in times.items()}


def main() -> None:
    """Times every method in turn, and prints medians and ratios for every batch size and length of the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--clusters", type=int, default=15)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--length", type=int, default=50, help="items of a history")
    parser.add_argument("--candidates", type=int, nargs="+", default=[500])
    parser.add_argument("--index", default="exact", help="exact, scann or auto")
    parser.add_argument("--turns", type=int, default=300, help="of single requests; larger batches get fewer")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    arguments = parser.parse_args()
    bundle = (arguments.items, arguments.clusters, arguments.index, max(arguments.candidates))
    with tempfile.TemporaryDirectory() as folder:
        names = dict.fromkeys(["single", *arguments.methods])
        servables = {name: make_bundle(Path(folder, str(number)), name, *bundle) for number, name in enumerate(names)}
    rng = np.random.default_rng(0)
    for batch in arguments.batch:
        for candidates in arguments.candidates:
            requests = [request(rng, batch, arguments.length, arguments.items, candidates) for _ in range(10)]
            times = time_requests(servables, requests, max(arguments.turns // batch, 10))
            print(f"\nbatch {batch}, {candidates} of {arguments.items} items, {arguments.index} index")
            print_times(times)


def print_times(times: dict[str, np.ndarray]) -> None:
    """Prints a row per method; a ratio is the median over the turns."""
    print(f"{'':16}{'p50 ms':>9}{'p95 ms':>9}{'ratio':>8}{'CPU ms':>9}{'ratio':>8}", flush=True)
    for name, values in times.items():
        (clock, cpu), (ratio, cpu_ratio) = np.median(values, axis=0), np.median(values / times["single"], axis=0)
        p95 = np.percentile(values[:, 0], 95)
        print(f"{name:16}{clock:9.2f}{p95:9.2f}{ratio:8.2f}{cpu:9.2f}{cpu_ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
