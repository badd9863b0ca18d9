"""What approximate search saves, and what it loses: `scann` beside `exact`, in bundles like those a server loads.

    python benchmarks/search.py                           # K = 15 equal clusters, a million items: minutes to build
    python benchmarks/search.py --clusters 100 --uneven

Items are a mixture: tastes inside every cluster, variations around each, both with a spectrum of 1/j, and lengths that
differ, as nothing is normalised. Queries are items plus noise. Exact search is searched in two passes as well. Times
are medians and ratios within one run, of wall clock and of CPU seconds; on a busy machine only the latter mean
something.
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
from tfdnc.retrieval.index import INDEXES
from tfdnc.retrieval.index.listing import expected_shares, search_list
from tfdnc.retrieval.index.users import Users
from tfdnc.retrieval.merge import Wishes, reads_partition, select_keys

_DIM, _LENGTH = 64, 500
_USERS = 160  # the first half is asked, the second half calibrates
_MERGES = {"joint": -1.0, "quota": 1.0}


class World:
    """Synthetic items and users."""

    def __init__(self, num_items: int, num_clusters: int, uneven: bool):
        rng = np.random.default_rng(0)
        shares = rng.pareto(1.0, num_clusters) + 0.001 if uneven else np.ones(num_clusters)
        self.sizes = np.maximum(1, (num_items * shares / shares.sum()).astype(int))
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)])
        spectrum = 1 / np.arange(1, _DIM + 1)

        def draw(count, scale):
            return rng.normal(size=[count, _DIM]) * spectrum * scale

        clusters = []
        for size in self.sizes:
            tastes = draw(1, 1.6) + draw(1 + size // 500, 0.7)
            clusters.append(tastes[rng.integers(0, len(tastes), size)] + draw(size, 0.7))
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
        """Some of the users."""
        vectors, log_intent, seen, per_cluster = self.users
        return Users(vectors[rows], log_intent[rows], seen[rows], per_cluster)


class SearchModule(tf.Module):
    """The search of a bundle without its tower and its vocabulary."""

    def __init__(self, items, index):
        super().__init__()
        self.items, self.index = items, index

    def retrieve(self, vectors, log_intent, seen, alpha):
        """The list of every row: joint below alpha 0, else of quotas."""
        config, lengths = MergeConfig(), tf.repeat(_LENGTH, tf.shape(alpha)[0])

        wishes = Wishes(lengths, alpha)

        def keys_of(candidates, log_partition):
            return select_keys(candidates, log_partition, log_intent, wishes, config)

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
            with_partition=reads_partition(wishes, config),
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


def build(kind: str, world: World, folder: Path) -> Servable:
    """Builds, saves and loads one index; prints what it is."""
    started = time.perf_counter()
    items = tf.Variable(world.items)
    users = world.part(slice(_USERS // 2, None))
    index = INDEXES.resolve(kind)(items, world.offsets, name=f"benchmark-{kind}", max_k=_LENGTH, users=users)
    SearchModule(items, index).save(folder)
    kinds = ", ".join(f"{n} x {name}" for name, n in Counter(c["kind"] for c in index.settings).items())
    print(f"{kind}: {kinds}; built in {time.perf_counter() - started:.0f} s; least recall {min(index.recalls):.3f}")
    largest = max(index.settings, key=lambda cluster: cluster["items"])
    for rung in largest.get("effort", ()):
        print(f"    {largest['items']:,} items: {rung}")
    return Servable(kind, 1, folder)


def measure(servables: dict[str, Servable], world: World, batch: int, alpha: float, rounds: int) -> None:
    """Asks every servable some times in a row, by turns; prints time and recall of each against the first.

    In a row, because a server has its caches to itself: after an exact search of a million items, nothing is left in
    them of what another one would read.
    """
    starts = range(0, _USERS // 2 - batch + 1, batch)
    requests = []
    for start in starts:
        vectors, log_intent, seen, _ = world.part(slice(start, start + batch))
        alphas = np.full([batch], alpha, np.float32)
        requests.append({"vectors": vectors, "log_intent": log_intent, "seen": seen, "alpha": alphas})
    found, wall, cpu = {}, defaultdict(list), defaultdict(list)
    for _ in range(rounds):
        for name, servable in servables.items():
            for feeds in requests[:2]:  # builds executors, fills caches
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
    parser.add_argument("--indexes", nargs="+", default=["exact", "scann"], choices=INDEXES.names())
    arguments = parser.parse_args()
    world = World(arguments.items, arguments.clusters, arguments.uneven)
    print(f"{len(world.sizes)} clusters of {world.sizes.min():,} to {world.sizes.max():,} items, M = {_LENGTH}")
    with tempfile.TemporaryDirectory() as folder:
        servables = {kind: build(kind, world, Path(folder) / kind) for kind in arguments.indexes}
        for batch, rounds in ((1, 7), (32, 5)):
            for merge, alpha in _MERGES.items():
                print(f"B = {batch}, {merge}:")
                measure(servables, world, batch, alpha, rounds)
        for servable in servables.values():
            servable.close()


if __name__ == "__main__":
    main()
