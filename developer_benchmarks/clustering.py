"""Quality and cost of clusterings: a table of clusterers on one prepared log.

    tfdnc prepare configs/ml1m/dnc.yaml --set data.path=PATH
    python developer_benchmarks/clustering.py runs/ml1m-dnc/prepare --seeds 1 2 3
    python developer_benchmarks/clustering.py runs/ml1m-dnc/prepare "word2vec_kmeans max_words=2000000" random

"next" is the share of consecutive training events of a user in the same cluster, "by chance" that share for a random
order. "alike" is the mean Jaccard similarity of the categories of two items of a cluster. The largest cluster's shares
are of items and of events. All figures are means over the seeds; CPU seconds include reading and K-means.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from tfdnc.clustering import build_clusters
from tfdnc.contracts.config import ClusterConfig, parse_config
from tfdnc.contracts.items import ItemTable, read_items
from tfdnc.contracts.overrides import apply_overrides

PAIRS = 200_000  # pairs drawn for a mean similarity, whose standard error is then below .001
HEADERS = ("clusterer", "next", "by chance", "alike", "largest, items", "events", "words per item", "CPU s")


def cluster_config(row: str, num_clusters: int) -> ClusterConfig:
    """Returns the config of a row such as "word2vec_kmeans epochs=2"; it accepts clusters of any size."""
    method, *settings = row.split()
    values = {"method": method, "num_clusters": num_clusters, "max_share": 1}
    return parse_config({"name": "row", "cluster": apply_overrides(values, settings)}, source=row).cluster


def measure(prepared: Path, config: ClusterConfig, seed: int) -> dict[str, float]:
    """Returns the figures of one clustering, by header."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        figures = build_clusters(prepared, config, seed, Path(folder) / "cluster")
        seconds = time.process_time() - started
        items = read_items(Path(folder) / "cluster")
    values = (
        figures["next_in_cluster"],
        figures["next_by_chance"],
        similarity(items, seed),
        figures["largest_item_share"],
        figures["largest_event_share"],
        figures.get("trained_words", 0) / figures["items"],
        seconds,
    )
    return dict(zip(HEADERS[1:], values, strict=True))


def similarity(items: ItemTable, seed: int) -> float:
    """Returns the mean Jaccard similarity of the categories of two different items of the same cluster.

    All such pairs are equally likely. NaN where no item has categories.
    """
    if items.categories is None:
        return float("nan")
    names = {name: column for column, name in enumerate(sorted({n for values in items.categories for n in values}))}
    has = np.zeros((len(items.clusters), len(names)), dtype=bool)  # [N, G]
    for row, values in enumerate(items.categories):
        has[row, [names[name] for name in values]] = True
    rng = np.random.default_rng(seed)
    sizes = np.diff(items.offsets)[items.clusters]
    one = rng.choice(len(sizes), PAIRS, p=sizes / sizes.sum())
    other = np.array(items.offsets)[items.clusters[one]] + rng.integers(sizes[one])
    one, other = one[one != other], other[one != other]
    both, either = has[one] & has[other], has[one] | has[other]
    return float(np.mean(both.sum(axis=1) / np.maximum(either.sum(axis=1), 1)))


def main() -> None:
    """Prints the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="folder of the prepare station")
    parser.add_argument("rows", nargs="*", default=["word2vec_kmeans", "spectral_kmeans", "category", "random"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--num-clusters", type=int, default=10)
    arguments = parser.parse_args()
    print("| " + " | ".join(HEADERS) + " |\n| --- |" + " ---: |" * (len(HEADERS) - 1))
    for row in arguments.rows:
        config = cluster_config(row, arguments.num_clusters)
        runs = [measure(arguments.prepared, config, seed) for seed in arguments.seeds]
        means = {header: statistics.mean(run[header] for run in runs) for header in HEADERS[1:]}
        cells = [f"{means[header]:.3f}" for header in HEADERS[1:6]]
        words = f"{means[HEADERS[6]]:,.0f}" if means[HEADERS[6]] else ""
        print("|", " | ".join([row, *cells, words, f"{means[HEADERS[7]]:,.1f}"]), "|", flush=True)


if __name__ == "__main__":
    main()
