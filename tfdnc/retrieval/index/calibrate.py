"""Measures the effort that an approximate search needs, against the exact answer, when an index is built."""

import time
from collections.abc import Callable, Iterator

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.index.effort import Effort, Measurement
from tfdnc.retrieval.index.interests import best_scores

_LEAVES = (0.03, 0.06, 0.1, 0.15, 0.25, 0.5, 1.0)  # shares of the leaves to search
_RESCORED = (1, 1.5, 2, 3, 5, 8, 14, 25)  # multiples of the number of candidates
_MORE_RESCORED = (40, 60, 100, 160, 250)  # the same, where those are not enough: few candidates of a large cluster
_SEARCHED = 1 << 24  # candidates of all queries that are rescored at once, for memory
_TIMED = 8  # number of queries, timed one at a time
_ROUNDS = 5  # rounds of timing; the fastest counts, because other work on the machine only adds time
_BATCH = 16  # rows of the exact scores that are in memory at once


Fetch = Callable[[tf.Tensor, int, Effort], tuple[tf.Tensor, tf.Tensor]]
"""(queries [B, I, D], width, effort) -> rows and scores [B, W], W <= width."""


def calibrate(
    fetch: Fetch, items: tf.Tensor, queries: np.ndarray, max_k: int, leaves: int, recall: float
) -> list[Measurement]:
    """Finds the cheapest effort that reaches a recall, for several numbers of candidates.

    Args:
        fetch: the search.
        items: `[n, D]` items that it searches.
        queries: `[Q, I, D]` queries like those of requests.
        max_k: largest number of candidates of a request. The widest measurement has twice as many, for seen items.
        leaves: number of leaves of the tree; 0 without one.
        recall: the target.

    Returns:
        Measurements by ascending width. Where the target is out of reach, the measurement has the largest effort and a
        recall below the target; the caller must check that.
    """
    size = items.shape[0]
    widths = sorted({min(size, width) for width in (-(-max_k // 16), -(-max_k // 4), max_k, 2 * max_k)})
    truth = exact_rows(items, queries, widths[-1])
    watch = Stopwatch(fetch, queries)
    return [_measure(fetch, queries, truth[:, :width], size, leaves, recall, watch) for width in widths]


def exact_rows(items: tf.Tensor, queries: np.ndarray, width: int) -> np.ndarray:
    """Returns `[Q, width]` rows of the best items of every query, best first."""
    batches = (queries[start : start + _BATCH] for start in range(0, len(queries), _BATCH))
    return np.concatenate([tf.math.top_k(best_scores(batch, items), k=width).indices.numpy() for batch in batches])


def share_found(truth: np.ndarray, found: np.ndarray) -> float:
    """Returns the mean over rows of the share of `truth` `[Q, k]` that is in `found` `[Q, W]`."""
    return float(np.mean([np.isin(best, rows).mean() for best, rows in zip(truth, found, strict=True)]))


def _measure(
    fetch: Fetch, queries: np.ndarray, truth: np.ndarray, size: int, leaves: int, recall: float, watch: "Stopwatch"
) -> Measurement:
    width = truth.shape[1]
    parts = fetch, queries, truth, size, leaves, recall
    enough = list(_enough(*parts, _RESCORED)) or list(_enough(*parts, _MORE_RESCORED))
    if not enough:
        most = Effort(leaves or -1, size)
        enough = [(most, share_found(truth, _rows(fetch, queries, width, most)))]
    found = [Measurement(width, effort, reached, watch.microseconds(width, effort)) for effort, reached in enough]
    return min(found, key=lambda measurement: measurement.microseconds)


def _enough(
    fetch: Fetch,
    queries: np.ndarray,
    truth: np.ndarray,
    size: int,
    leaves: int,
    recall: float,
    multiples: tuple[float, ...],
) -> Iterator[tuple[Effort, float]]:
    """Yields efforts that reach the recall, and their recall: per number of leaves the fewest rescored candidates.

    More leaves never need more rescored candidates, so the search for the next number of leaves continues from there.
    """
    width = truth.shape[1]
    steps = sorted({min(size, max(int(multiple * width), width)) for multiple in multiples}, reverse=True)
    for searched in sorted({max(1, int(share * leaves)) for share in _LEAVES}) if leaves else [-1]:
        best: tuple[Effort, float] | None = None
        while steps:
            effort = Effort(searched, steps[0])
            found = share_found(truth, _rows(fetch, queries, width, effort))
            if found < recall:
                break
            best = effort, found
            steps.pop(0)
        if best:
            yield best


def _rows(fetch: Fetch, queries: np.ndarray, width: int, effort: Effort) -> np.ndarray:
    """Returns the `[Q, W]` rows found, -1 where there are fewer."""
    batch = max(1, _SEARCHED // int(effort.rescored))
    parts = []
    for start in range(0, len(queries), batch):
        rows, scores = fetch(tf.constant(queries[start : start + batch]), width, effort)
        parts.append(np.where(np.isnan(scores.numpy()), -1, rows.numpy()))
    return np.concatenate(parts)


class Stopwatch:
    """Times searches of one query each, in a graph, as in a request; an eager call takes several times as long.

    Args:
        fetch: the search.
        queries: `[Q, I, D]`, of which the first `_TIMED` are timed.
    """

    def __init__(self, fetch: Fetch, queries: np.ndarray) -> None:
        singles = tf.split(tf.constant(queries[:_TIMED]), len(queries[:_TIMED]))
        self._count = len(singles)
        self._ask = tf.function(
            lambda width, *effort: [fetch(query, width, Effort(*effort)) for query in singles], autograph=False
        )

    def microseconds(self, width: int, effort: Effort) -> float:
        """Returns the time of one query: mean over the queries, in the fastest of several rounds."""
        arguments = [tf.constant(number) for number in (width, *effort)]
        self._ask(*arguments)  # the first call makes the graph
        fastest = float("inf")
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            self._ask(*arguments)
            fastest = min(fastest, time.perf_counter() - started)
        return 1e6 * fastest / self._count
