"""Time and recall of approximate search: `scann` compared with `exact`, in SavedModels like those of bundles.

    python developer_benchmarks/search.py                     # K = 15 equal clusters, a million items, minutes to build
    python developer_benchmarks/search.py --clusters 100 --uneven

Items are a mixture: centres inside every cluster and variations around each, both with a spectrum of 1/j. Their lengths
differ, because the product does not normalise either. Queries are items plus noise. The exact index searches in two
passes as well. Times are medians and ratios within one run, of wall clock and CPU time; on a busy machine only CPU time
is reliable.
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from serving.servable import Servable
from tfdnc.backend import tf
from tfdnc.contracts.config import MergeConfig
from tfdnc.retrieval.index import INDEXES, ClusterIndex
from tfdnc.retrieval.index.listing import expected_shares, search_list
from tfdnc.retrieval.index.users import Users
from tfdnc.retrieval.merge import Candidates, Controls, reads_partition, select_keys

_DIM, _LENGTH = 64, 500
_USERS = 160  # the first half makes requests, the second half calibrates the index
_MERGES = {"joint": -1.0, "quota": 1.0}


class SyntheticData:
    """Synthetic items and users.

    Args:
        num_items: N.
        num_clusters: K.
        uneven: True for cluster sizes of a Pareto distribution, False for equal ones.

    Attributes:
        sizes: `[K]` items of each cluster.
        offsets: `[K + 1]` item counts.
        items: `[N, D]` float32 item vectors.
        users: the users.
    """

    def __init__(self, num_items: int, num_clusters: int, uneven: bool) -> None:
        rng = np.random.default_rng(0)
        shares = rng.pareto(1.0, num_clusters) + 0.001 if uneven else np.ones(num_clusters)
        self.sizes = np.maximum(1, (num_items * shares / shares.sum()).astype(int))
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)])
        spectrum = 1 / np.arange(1, _DIM + 1)

        def draw(count: int, scale: float) -> np.ndarray:
            return rng.normal(size=[count, _DIM]) * spectrum * scale

        clusters = []
        for size in self.sizes:
            centres = draw(1, 1.6) + draw(1 + size // 500, 0.7)
            clusters.append(centres[rng.integers(0, len(centres), size)] + draw(size, 0.7))
        items = np.concatenate(clusters) * np.exp(rng.normal(0, 0.15, [self.offsets[-1], 1]))
        self.items = items.astype(np.float32)
        near = items[rng.integers(0, len(items), _USERS)]
        vectors = np.stack([near + draw(_USERS, 0.3) for _ in self.sizes], axis=1) * 1.5
        intent = rng.dirichlet(np.full(num_clusters, 0.5), size=_USERS)
        self.users = Users(
            vectors.astype(np.float32),
            np.log(intent + 1e-6).astype(np.float32),
            rng.integers(0, len(items) + 1, size=[_USERS, 50]).astype(np.int32),
            per_cluster=True,
        )

    def part(self, rows: slice) -> Users:
        """Returns some of the users."""
        vectors, log_intent, seen, per_cluster = self.users
        return Users(vectors[rows], log_intent[rows], seen[rows], per_cluster)


class SearchModule(tf.Module):
    """The search of a bundle without its tower and its vocabulary."""

    def __init__(self, items: tf.Variable, index: ClusterIndex) -> None:
        super().__init__()
        self.items, self.index = items, index

    def retrieve(
        self, vectors: tf.Tensor, log_intent: tf.Tensor, seen: tf.Tensor, alpha: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns the list of every row: of the joint merge for alpha below 0, else of quotas."""
        config, lengths = MergeConfig(), tf.repeat(_LENGTH, tf.shape(alpha)[0])

        controls = Controls(lengths, alpha)

        def keys_of(candidates: Candidates, log_partition: tf.Tensor) -> tf.Tensor:
            return select_keys(candidates, log_partition, log_intent, controls, config)

        merged = search_list(
            self.index,
            vectors,
            seen,
            tf.repeat(_LENGTH, len(self.index.sizes)),
            expected_shares(log_intent, alpha, config),
            lengths,
            _LENGTH,
            keys_of,
            per_cluster=True,
            with_partition=reads_partition(controls, config),
        )
        return {"rows": merged.rows}

    def save(self, folder: Path) -> None:
        """Writes a SavedModel whose default signature is `retrieve`."""
        specs = {
            "vectors": tf.TensorSpec([None, len(self.index.sizes), _DIM], tf.float32),
            "log_intent": tf.TensorSpec([None, len(self.index.sizes)], tf.float32),
            "seen": tf.TensorSpec([None, None], tf.int32),
            "alpha": tf.TensorSpec([None], tf.float32),
        }
        named = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()]
        retrieve = tf.function(self.retrieve, input_signature=named, autograph=False)
        options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
        tf.saved_model.save(self, str(folder), signatures={"serving_default": retrieve}, options=options)


def build(kind: str, data: SyntheticData, folder: Path) -> Servable:
    """Builds, saves and loads one index; prints its searchers."""
    started = time.perf_counter()
    items = tf.Variable(data.items)
    users = data.part(slice(_USERS // 2, None))
    index = INDEXES.resolve(kind)(items, data.offsets, name=f"benchmark-{kind}", max_k=_LENGTH, users=users)
    SearchModule(items, index).save(folder)
    kinds = ", ".join(f"{n} x {name}" for name, n in Counter(c["kind"] for c in index.settings).items())
    print(f"{kind}: {kinds}; built in {time.perf_counter() - started:.0f} s; least recall {min(index.recalls):.3f}")
    largest = max(index.settings, key=lambda cluster: cluster["items"])
    for measurement in largest.get("effort", ()):
        print(f"    {largest['items']:,} items: {measurement}")
    return Servable(kind, 1, folder)


def measure(servables: dict[str, Servable], data: SyntheticData, batch: int, alpha: float, rounds: int) -> None:
    """Runs several requests in a row on each servable in turn; prints time and recall relative to the first.

    They run in a row, because a server does not share its caches. An exact search of a million items replaces all that
    another index has in them.
    """
    starts = range(0, _USERS // 2 - batch + 1, batch)
    requests = []
    for start in starts:
        vectors, log_intent, seen, _ = data.part(slice(start, start + batch))
        alphas = np.full([batch], alpha, np.float32)
        requests.append({"vectors": vectors, "log_intent": log_intent, "seen": seen, "alpha": alphas})
    found, wall, cpu = {}, defaultdict(list), defaultdict(list)
    for _ in range(rounds):
        for name, servable in servables.items():
            for feeds in requests[:2]:  # these build executors and fill caches
                servable.run("serving_default", feeds, ["rows"])
            started = time.perf_counter(), time.process_time()
            answers = [servable.run("serving_default", feeds, ["rows"])["rows"] for feeds in requests]
            wall[name].append((time.perf_counter() - started[0]) / len(requests))
            cpu[name].append((time.process_time() - started[1]) / len(requests))
            found[name] = np.concatenate(answers)
    first = next(iter(servables))
    for name in servables:
        figures = [
            f"{label} {1e3 * statistics.median(times[name]):8.2f} ms "
            f"({statistics.median(times[name]) / statistics.median(times[first]):.3f})"
            for label, times in (("wall", wall), ("CPU", cpu))
        ]
        shared = [np.isin(best[best >= 0], rows).mean() for best, rows in zip(found[first], found[name], strict=True)]
        print(f"  {name:6} {'  '.join(figures)}  recall {np.mean(shared):.4f}", flush=True)


def main() -> None:
    """Builds both indexes and compares them at one and at 32 users, for the joint list and for quotas."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--clusters", type=int, default=15)
    parser.add_argument("--uneven", action="store_true", help="cluster sizes of a Pareto distribution")
    parser.add_argument("--indexes", nargs="+", default=["exact", "scann"], choices=list(INDEXES.names()))
    arguments = parser.parse_args()
    data = SyntheticData(arguments.items, arguments.clusters, arguments.uneven)
    print(f"{len(data.sizes)} clusters of {data.sizes.min():,} to {data.sizes.max():,} items, M = {_LENGTH}")
    with tempfile.TemporaryDirectory() as folder:
        servables = {kind: build(kind, data, Path(folder) / kind) for kind in arguments.indexes}
        for batch, rounds in ((1, 7), (32, 5)):
            for merge, alpha in _MERGES.items():
                print(f"B = {batch}, {merge}:")
                measure(servables, data, batch, alpha, rounds)
        for servable in servables.values():
            servable.close()


if __name__ == "__main__":
    main()
