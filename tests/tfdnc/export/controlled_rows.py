"""Random rows of controls for a small bundle, their request, and the keys of the items in NumPy."""

import itertools

import numpy as np

from serving.messages import history_array
from tests.tfdnc.export.bundle_cases import film
from tfdnc.contracts import bundle as contract

SIZES = (1, 5, 14, 40)
K, N = len(SIZES), sum(SIZES)
CLUSTERS = np.repeat(np.arange(K), SIZES)
MERGES = ("bundle", "quota", "joint", "weights")


def draw_rows(rng):
    """A row for every combination of a merge, something excluded or not, a minimum or not and a maximum or not."""
    for merge, *which in itertools.product(MERGES, *[(False, True)] * 3):
        excludes, has_minimum, has_maximum = which
        minimum = rng.integers(0, 4, K) if has_minimum else np.zeros(K, int)
        upper = minimum + rng.integers(0, 6, K) + (np.arange(K) == 3)  # a row of zeros means no bound
        weights = rng.choice([0.0, 0.9, 2.3, 3.1], K) + (np.arange(K) == 2) * 4.7  # without ties of quotients
        yield {
            "history": film(*rng.integers(0, N, rng.integers(0, 9))),
            "exclude": film(*rng.integers(0, N, 12)) if excludes else [],
            "length": int(rng.integers(12, 25)),
            "alpha": float(rng.choice([0.0, 1.0, 3.0])) if merge == "quota" else -1.0,
            "joint": float(rng.choice([0.0, 0.5, 1.0])) if merge == "joint" else -1.0,
            "weights": weights if merge == "weights" else np.zeros(K),
            "minimum": minimum,
            "maximum": np.where(rng.random(K) < 0.3, -1, upper) if has_maximum else np.zeros(K, int),
            "seen": str(rng.choice(["", "exclude", "allow"])),
        }


def request_of(rows):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        contract.HISTORY: history_array(columns["history"]),
        contract.NUM_CANDIDATES: np.int32(columns["length"]),
        contract.ALPHA: np.float32(columns["alpha"]),
        contract.EXCLUDE: history_array(columns["exclude"]),
        contract.CLUSTER_QUOTAS: np.float32(columns["weights"]),
        contract.CLUSTER_MIN: np.int32(columns["minimum"]),
        contract.CLUSTER_MAX: np.int32(columns["maximum"]),
        contract.JOINT_ALPHA: np.float32(columns["joint"]),
        contract.SEEN: np.array(columns["seen"], object),
    }


def keys_of(scores, intent, ranks, row, merge, clusters=CLUSTERS):
    """The key of every item `[N]`, by the words of docs/serving.md."""
    log_intent = np.log(intent)[clusters]
    partition = np.log([np.exp(scores[k == clusters]).sum() for k in range(K)])[clusters]
    by_rank = -np.log(ranks + 0.5)
    if row["weights"].any():
        with np.errstate(divide="ignore"):
            return np.maximum(np.log(row["weights"]), -1e4)[clusters] + by_rank
    if row["alpha"] >= 0 or (row["joint"] < 0 and merge.method == "quota"):
        return (row["alpha"] if row["alpha"] >= 0 else merge.alpha) * log_intent + by_rank
    if row["joint"] >= 0 or merge.method == "joint":
        return (row["joint"] if row["joint"] >= 0 else merge.alpha) * log_intent + scores - partition
    return scores
