"""How much effort an approximate search needs: measured against the exact answer when an index is built."""

import time
from collections.abc import Callable, Iterator

import numpy as np

from tfdnc.backend import tf
from tfdnc.retrieval.index.effort import Effort, Rung
from tfdnc.retrieval.index.interests import best_scores

_LEAVES = (0.03, 0.06, 0.1, 0.15, 0.25, 0.5, 1.0)  # shares of the leaves
_RESCORED = (1, 1.5, 2, 3, 5, 8, 14, 25)  # multiples of the candidates asked for
_TIMED = 8  # queries, one at a time; the fastest of several rounds, because other work only ever adds
_ROUNDS = 5
_BATCH = 16  # rows of the exact scores that are in memory at once


Fetch = Callable[[tf.Tensor, int, Effort], tuple[tf.Tensor, tf.Tensor]]
"""(queries [B, I, D], width, effort) -> rows and scores [B, W], W <= width."""


def calibrate(
    fetch: Fetch, items: tf.Tensor, queries: np.ndarray, max_k: int, leaves: int, recall: float
) -> list[Rung]:
    """Finds the cheapest effort that reaches a recall, for several numbers of candidates.

    Args:
        fetch: the search.
        items: `[n, D]` what it searches.
        queries: `[Q, I, D]` like those to come.
        max_k: most candidates that will be asked for. The widest rung is twice that: seen items come on top.
        leaves: of the tree; 0 without one.
        recall: the target.

    Returns:
        Rungs, narrow to wide. One that cannot reach the target, which is for the caller to notice, makes every effort.
    """
    size = items.shape[0]
    widths = sorted({min(size, width) for width in (-(-max_k // 16), -(-max_k // 4), max_k, 2 * max_k)})
    truth = exact_rows(items, queries, widths[-1])
    watch = Stopwatch(fetch, queries)
    return [_rung(fetch, queries, truth[:, :width], size, leaves, recall, watch) for width in widths]


def exact_rows(items: tf.Tensor, queries: np.ndarray, width: int) -> np.ndarray:
    """`[Q, width]` rows of the best items of every query, best first."""
    batches = (queries[start : start + _BATCH] for start in range(0, len(queries), _BATCH))
    return np.concatenate([tf.math.top_k(best_scores(batch, items), k=width).indices.numpy() for batch in batches])


def share_found(truth: np.ndarray, found: np.ndarray) -> float:
    """Mean over rows of the share of `truth` `[Q, k]` that is in `found` `[Q, W]`."""
    return float(np.mean([np.isin(best, rows).mean() for best, rows in zip(truth, found, strict=True)]))


def _rung(fetch, queries, truth, size, leaves, recall, watch):
    width = truth.shape[1]
    enough = list(_enough(fetch, queries, truth, size, leaves, recall))
    if not enough:
        most = Effort(leaves or -1, size)
        enough = [(most, share_found(truth, _rows(fetch, queries, width, most)))]
    rungs = [Rung(width, effort, found, watch.microseconds(width, effort)) for effort, found in enough]
    return min(rungs, key=lambda rung: rung.microseconds)


def _enough(fetch, queries, truth, size, leaves, recall) -> Iterator[tuple[Effort, float]]:
    """Efforts that reach the recall, with what they reach: per number of leaves the fewest rescored candidates.

    More leaves never need more rescored candidates, so one walk down a staircase sees them all.
    """
    width = truth.shape[1]
    steps = sorted({min(size, max(int(multiple * width), width)) for multiple in _RESCORED}, reverse=True)
    for searched in sorted({max(1, int(share * leaves)) for share in _LEAVES}) if leaves else [-1]:
        best = None
        while steps:
            effort = Effort(searched, steps[0])
            found = share_found(truth, _rows(fetch, queries, width, effort))
            if found < recall:
                break
            best = effort, found
            steps.pop(0)
        if best:
            yield best


def _rows(fetch, queries, width, effort):
    """`[Q, W]` rows found, -1 where there are fewer."""
    rows, scores = fetch(tf.constant(queries), width, effort)
    return np.where(np.isnan(scores.numpy()), -1, rows.numpy())


class Stopwatch:
    """Times searches of one query each, in a graph as requests are: an eager call costs several times what it does."""

    def __init__(self, fetch: Fetch, queries: np.ndarray):
        """Searches by `fetch` for some of `queries` `[Q, I, D]`."""
        singles = tf.split(tf.constant(queries[:_TIMED]), len(queries[:_TIMED]))
        self._count = len(singles)
        self._ask = tf.function(
            lambda width, *effort: [fetch(query, width, Effort(*effort)) for query in singles], autograph=False
        )

    def microseconds(self, width: int, effort: Effort) -> float:
        """Time of one query: mean over some, fastest of several rounds."""
        arguments = [tf.constant(number) for number in (width, *effort)]
        self._ask(*arguments)  # the first call makes the graph
        fastest = float("inf")
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            self._ask(*arguments)
            fastest = min(fastest, time.perf_counter() - started)
        return 1e6 * fastest / self._count
