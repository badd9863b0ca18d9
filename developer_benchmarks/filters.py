"""Cost and recall of filters: a request with a condition, compared with the same request without one.

    python -m developer_benchmarks.filters                        # a million items, exact and ScaNN; minutes to build
    python -m developer_benchmarks.filters --items 100000 --indexes exact
    python -m developer_benchmarks.filters --items 100000 --indexes exact --bounds   # requests with bounds on values

Items pass by a value or by a range of numbers, in turn from request to request, and from row to row of a batch. The
filter is independent of the scores, as a stock is. Items and users are those of `synthetic_items.py`. Recall is the
share of the list that NumPy makes from all scores. Times are medians, and ratios within one run, by turns, of wall
clock and CPU time; on a busy machine only CPU time is reliable.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from developer_benchmarks.synthetic_items import SyntheticData
from serving.servable import Servable
from tfdnc.backend import tf
from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.config import MergeConfig
from tfdnc.retrieval.bounds.listing import list_bounded
from tfdnc.retrieval.bounds.parsed import BoundTable
from tfdnc.retrieval.bounds.pool import Query
from tfdnc.retrieval.index import INDEXES, ClusterIndex
from tfdnc.retrieval.index.listing import expected_shares, search_list
from tfdnc.retrieval.merge import Candidates, Controls, reads_partition, select_keys
from tfdnc.retrieval.rules.passing import Passing
from tfdnc.retrieval.rules.planes import Planes, build_planes
from tfdnc.retrieval.rules.rules import Rules

SHARES = (1.0, 0.5, 0.1, 0.01, 0.001)
_LENGTH, _MAX = 100, 500
_LEVELS = 1000  # distinct prices
_MERGES = {"joint": -1.0, "quota": 1.0}
BOUNDS = {
    "none": ("",),
    "10 % of the items, at least 20 results": ("tags=s0.1>=20",),
    "0.1 % of the items, at least 5 results": ("tags=s0.001>=5",),
    "at most 3 of one value, 20 of each other": ("tags=v1<=3", "tags=*<=20"),
    # The best items with the half value take the places of the others, so exchanges are needed.
    "minima that need exchanges": ("tags=s1.0<=40", "tags=s0.5>=30", "tags=s0.1>=20", "tags=s0.01>=5"),
}
"""Bounds of a request."""


class Shop:
    """Attributes of synthetic items: 40 values, of which five pass the shares above, and two numbers."""

    def __init__(self, data: SyntheticData) -> None:
        rng = np.random.default_rng(1)
        size = len(data.items)
        self.prices = rng.integers(0, _LEVELS, size)
        self.flags = {share: rng.random(size) < share for share in SHARES}
        labels = np.array([f"s{share}" for share in SHARES])
        passed = np.stack([self.flags[share] for share in SHARES], axis=1)
        others = [f"v{number}" for number in range(35)]
        drawn = rng.integers(0, 35, size)
        tags = [(*labels[row], others[one]) for row, one in zip(passed, drawn, strict=True)]
        ages = Attribute("age", "number", numbers=rng.integers(0, _LEVELS, size).astype(float))
        prices = Attribute("price", "number", numbers=self.prices.astype(float))
        self.planes: Planes = build_planes([Attribute("tags", "values", tags), prices, ages], data.offsets)

    def conditions(self, share: float, first: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns `[rows, 1]` conditions, of both kinds in turn, and the items that pass, `[rows, N]`."""
        both = ((f"tags=s{share}", self.flags[share]), (f"price<{share * _LEVELS:g}", self.prices < share * _LEVELS))
        chosen = [both[(first + row) % 2] for row in range(rows)]
        return np.array([[text] for text, _ in chosen], object), np.stack([mask for _, mask in chosen])


class FilteredModule(tf.Module):
    """The search of a bundle with and without conditions, without its tower and its vocabulary."""

    def __init__(self, items: tf.Variable, index: ClusterIndex, rules: Rules, table: BoundTable) -> None:
        super().__init__()
        self.items, self.index, self.rules, self.table = items, index, rules, table

    def plain(
        self, vectors: tf.Tensor, log_intent: tf.Tensor, seen: tf.Tensor, alpha: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns the list of every row."""
        return self._list(vectors, log_intent, seen, alpha, None)

    def filtered(
        self, vectors: tf.Tensor, log_intent: tf.Tensor, seen: tf.Tensor, alpha: tf.Tensor, where: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns the list of every row under its conditions."""
        rows = tf.shape(alpha)[0]
        passing = self.rules.passing(where, tf.zeros([rows, 0], tf.int32), tf.zeros([rows], tf.bool))
        return self._list(vectors, log_intent, seen, alpha, passing)

    def bounded(
        self, vectors: tf.Tensor, log_intent: tf.Tensor, seen: tf.Tensor, alpha: tf.Tensor, bounds: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns the list of every row under its bounds."""
        rows = tf.shape(alpha)[0]
        nothing = tf.fill([rows, 1], ""), tf.zeros([rows, 0], tf.int32), tf.zeros([rows], tf.bool)
        controls = Controls(tf.repeat(_LENGTH, rows), alpha)
        parsed = self.table.parse(bounds, controls.num_candidates, tf.fill(tf.shape(log_intent), -1))
        query = Query(vectors, seen, self.rules.passing(*nothing), log_intent, controls, parsed)
        merged = list_bounded(self.index, self.rules, MergeConfig(), query, _LENGTH, per_cluster=True)
        return {"rows": merged.rows}

    def save(self, folder: Path) -> None:
        """Writes a SavedModel with both as signatures."""
        clusters = len(self.index.sizes)
        specs = {
            "vectors": tf.TensorSpec([None, clusters, self.items.shape[1]], tf.float32, "vectors"),
            "log_intent": tf.TensorSpec([None, clusters], tf.float32, "log_intent"),
            "seen": tf.TensorSpec([None, None], tf.int32, "seen"),
            "alpha": tf.TensorSpec([None], tf.float32, "alpha"),
        }
        where, bounds = (tf.TensorSpec([None, None], tf.string, name) for name in ("where", "bounds"))
        signatures = {
            "plain": tf.function(self.plain, input_signature=list(specs.values()), autograph=False),
            "filtered": tf.function(self.filtered, input_signature=[*specs.values(), where], autograph=False),
            "bounded": tf.function(self.bounded, input_signature=[*specs.values(), bounds], autograph=False),
        }
        options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
        tf.saved_model.save(self, str(folder), signatures=signatures, options=options)

    def _list(
        self, vectors: tf.Tensor, log_intent: tf.Tensor, seen: tf.Tensor, alpha: tf.Tensor, passing: Passing | None
    ) -> dict[str, tf.Tensor]:
        config, lengths = MergeConfig(), tf.repeat(_LENGTH, tf.shape(alpha)[0])
        controls = Controls(lengths, alpha)
        available = tf.constant(self.index.sizes) if passing is None else tf.reduce_max(passing.counts(), axis=0)

        def keys_of(candidates: Candidates, log_partition: tf.Tensor) -> tf.Tensor:
            return select_keys(candidates, log_partition, log_intent, controls, config)

        merged = search_list(
            self.index,
            vectors,
            seen,
            tf.maximum(tf.minimum(available, _LENGTH), 1),
            expected_shares(log_intent, alpha, config),
            lengths,
            _LENGTH,
            keys_of,
            per_cluster=True,
            with_partition=reads_partition(controls, config),
            passing=passing,
        )
        return {"rows": merged.rows}


def oracle(data: SyntheticData, user: int, mask: np.ndarray, alpha: float) -> np.ndarray:
    """Returns the rows of the list that NumPy makes from all scores of a user."""
    vectors, log_intent, seen, _ = data.users
    keys = np.full(len(data.items), -np.inf)
    free = mask.copy()
    free[seen[user][seen[user] > 0] - 1] = False
    for cluster, (start, stop) in enumerate(zip(data.offsets[:-1], data.offsets[1:], strict=True)):
        scores = (data.items[start:stop] @ vectors[user, cluster]).astype(np.float64)
        rows = np.flatnonzero(free[start:stop])
        if alpha < 0:
            keys[start + rows] = log_intent[user, cluster] + scores[rows] - np.log(np.exp(scores).sum())
        else:
            order = rows[np.argsort(-scores[rows], kind="stable")][:_LENGTH]
            keys[start + order] = alpha * log_intent[user, cluster] - np.log(np.arange(len(order)) + 0.5)
    best = np.argsort(-keys, kind="stable")[:_LENGTH]
    return best[keys[best] > -np.inf]


def measure(servable: Servable, data: SyntheticData, shop: Shop, batch: int, alpha: float, rounds: int) -> None:
    """Prints time relative to the request without a filter, and recall, for every share of items that pass."""
    count = max(16, batch)
    wall: dict[float, list[float]] = defaultdict(list)
    cpu: dict[float, list[float]] = defaultdict(list)
    hits: dict[float, list[float]] = defaultdict(list)
    for round_number in range(rounds):
        for share in (0.0, *SHARES):  # 0: no filter
            spent = [0.0, 0.0]
            for start in range(-batch, count - batch + 1, batch):  # the first request is not counted
                users = slice(max(start, 0), max(start, 0) + batch)
                vectors, log_intent, seen, _ = data.part(users)
                feeds = {"vectors": vectors, "log_intent": log_intent, "seen": seen}
                feeds["alpha"] = np.full([batch], alpha, np.float32)
                masks = None
                if share:
                    feeds["where"], masks = shop.conditions(share, users.start, batch)
                began = time.perf_counter(), time.process_time()
                found = servable.run("filtered" if share else "plain", feeds, ["rows"])["rows"]
                if start >= 0:
                    spent[0] += time.perf_counter() - began[0]
                    spent[1] += time.process_time() - began[1]
                if round_number or masks is None or start < 0:
                    continue
                for row in range(min(batch, 16)):
                    best = oracle(data, users.start + row, masks[row], alpha)
                    hits[share].append(float(np.isin(best, found[row]).mean()))
            wall[share].append(spent[0] / (count // batch))
            cpu[share].append(spent[1] / (count // batch))
    plain = [1e3 * statistics.median(times[0.0]) for times in (wall, cpu)]
    print(f"    without a filter: wall {plain[0]:.2f} ms, CPU {plain[1]:.2f} ms")
    for share in SHARES:
        ratios = [
            statistics.median(one / other for one, other in zip(times[share], times[0.0], strict=True))
            for times in (wall, cpu)
        ]
        shown = f"wall {ratios[0]:5.2f}x  CPU {ratios[1]:5.2f}x  recall {np.mean(hits[share]):.4f}"
        print(f"    {share:6.1%} pass: {shown}", flush=True)


def measure_bounds(servable: Servable, data: SyntheticData, batch: int, alpha: float, rounds: int) -> None:
    """Prints CPU time relative to the request without rules, for every kind of bounds."""
    count = max(16, batch)
    cpu: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, bounds in {"": (), **BOUNDS}.items():  # "": no signature with rules
            for start in range(-batch, count - batch + 1, batch):  # the first request is not counted
                vectors, log_intent, seen, _ = data.part(slice(max(start, 0), max(start, 0) + batch))
                feeds = {"vectors": vectors, "log_intent": log_intent, "seen": seen}
                feeds["alpha"] = np.full([batch], alpha, np.float32)
                if bounds:
                    feeds["bounds"] = np.array([bounds] * batch, object)
                if start == 0:
                    began = time.process_time()
                servable.run("bounded" if bounds else "plain", feeds, ["rows"])
            cpu[name].append((time.process_time() - began) / (count // batch))
    print(f"    without rules: CPU {1e3 * statistics.median(cpu['']):.2f} ms")
    for name in BOUNDS:
        ratio = statistics.median(one / other for one, other in zip(cpu[name], cpu[""], strict=True))
        print(f"    {name}: CPU {ratio:5.2f}x", flush=True)


def main() -> None:
    """Builds the indexes and measures each at one and at 32 users, for the joint list and for quotas."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--clusters", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--indexes", nargs="+", default=["exact", "scann"], choices=list(INDEXES.names()))
    parser.add_argument("--bounds", action="store_true", help="measure bounds on values instead of filters")
    parser.add_argument("--merges", nargs="+", default=list(_MERGES), choices=_MERGES)
    arguments = parser.parse_args()
    data = SyntheticData(arguments.items, arguments.clusters, uneven=False)
    shop = Shop(data)
    print(f"{len(data.items):,} items, M = {_LENGTH}; attributes take {shop.planes.bytes_per_item:.2f} bytes per item")
    names = [f"c{number}" for number in range(arguments.clusters)]
    for kind in arguments.indexes:
        with tempfile.TemporaryDirectory() as folder:
            items = tf.Variable(data.items)
            users = data.part(slice(80, None))
            index = INDEXES.resolve(kind)(items, data.offsets, name=f"filters-{kind}", max_k=_MAX, users=users)
            index.accept_filters()
            rules = Rules(shop.planes, names, Path(folder))
            FilteredModule(items, index, rules, BoundTable(rules.table, shop.planes)).save(Path(folder) / "model")
            servable = Servable(kind, 1, Path(folder) / "model")
            for batch in (1, 32):
                for merge in arguments.merges:
                    print(f"  {kind}, B = {batch}, {merge}:")
                    if arguments.bounds:
                        measure_bounds(servable, data, batch, _MERGES[merge], arguments.rounds)
                    else:
                        measure(servable, data, shop, batch, _MERGES[merge], arguments.rounds)
            servable.close()


if __name__ == "__main__":
    main()
