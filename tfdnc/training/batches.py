"""Cuts users' sequences into windows and packs windows of similar length into batches of a bounded number of tokens.

Everything is a function of (seed, epoch), so a resumed run trains on the same batches as an uninterrupted one. Sorting
by length fills about 94 % of the padded positions on MovieLens-1M; with all windows padded to the longest it is 54 %.
"""

import functools
import heapq
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.training.negative_sources import NegativeSource
from tfdnc.training.records import HeldOutRecords, TrainingRecords
from tfdnc.training.workers import ALONE, WorkerIndex

Batch = dict[str, np.ndarray]

AUTO_STEPS = 100
"""An epoch has at least so many steps under `batch_tokens: auto`, within `AUTO_TOKENS`."""

AUTO_TOKENS = (400, 6_400)
"""The fewest and the most padded positions per step under `batch_tokens: auto`."""


class _Plan(NamedTuple):
    """Windows of an epoch, and their order."""

    starts: np.ndarray  # [windows] first event
    order: np.ndarray  # [windows] rows of the windows, the longest first
    batches: np.ndarray  # [steps] order of the batches


class HistoryBatch(NamedTuple):
    """Held-out histories of similar length, to encode."""

    users: np.ndarray  # [B] rows of the records
    history: np.ndarray  # [B, L] int32 last items, right-padded with 0
    features: dict[str, np.ndarray]  # [B, L] of every input that the records have, likewise; [B, L, W] of exposures
    # [B, S] int32 items that lists leave out: all before the target, or none where these are allowed; padded with 0
    seen: np.ndarray

    @property
    def inputs(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Arguments of `Retriever.user_vectors`."""
        return self.history, self.features


class TrainingBatches:
    """Batches of every epoch.

    Args:
        records: the training part of every user; users with fewer than two events, or with no target that counts, are
            left out.
        negatives: source of negatives for these records.
        config: `batch_tokens` and `random_window`.
        max_length: L, the most positions of a window.
        seed: fixes windows and order.
        worker: index among several workers; each draws other windows.

    Raises:
        UserError: no user has two events.
    """

    def __init__(
        self,
        records: TrainingRecords,
        negatives: NegativeSource,
        config: TrainConfig,
        max_length: int,
        seed: int,
        worker: WorkerIndex = ALONE,
    ) -> None:
        self._records = records
        self._negatives = negatives
        self._config = config
        self._seed = seed
        self._worker = worker
        events = np.diff(records.splits)
        first_targets = np.zeros(len(events), np.int64) if records.first_targets is None else records.first_targets
        self._rows = np.flatnonzero((events >= 2) & (first_targets < events))
        if not len(self._rows):
            since = "" if records.first_targets is None else ", one of them since data.train_from"
            raise UserError(
                f"Expected users with at least two training events{since}, found none: there is nothing to predict."
            )
        self._positions = np.minimum(events[self._rows] - 1, max_length)  # positions with a target in a window
        self._least_starts = np.maximum(first_targets[self._rows] - self._positions, 0)  # with a target that counts
        tokens = fit_batch_tokens(self._positions) if config.batch_tokens == "auto" else config.batch_tokens
        self._cuts = _token_cuts(np.sort(self._positions)[::-1], tokens)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches; the same in every epoch, because windows change their start and not their length."""
        return len(self._cuts) - 1

    def spread_over(self, steps: int) -> None:
        """Cuts the same windows into more batches: all workers take as many steps as the one with most batches.

        Raises:
            UserError: there are fewer windows than steps.
        """
        if steps > len(self._rows):
            raise UserError(
                f"Expected at least {steps} users with two training events in the shards of every worker, found "
                f"{len(self._rows)} in those of worker {self._worker.index}: start fewer workers."
            )
        self._cuts = _more_cuts(self._cuts, steps)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yields the batches of one epoch, items and clusters as int32 arrays.

        Yields:
            `user` `[B]`, numbers of users; `history`, `target`, `target_cluster` `[B, L]` and `negatives`
            `[B, L, n]`, padded with 0 on the right; and `[B, L]` of every input of the records by its key, such as
            `elapsed` int64, the time from each history item to its target, or `weight` float32 of the targets;
            `[B, L, W]` of exposures.
        """
        plan = self._plan(epoch)
        for step in range(self.steps_per_epoch):
            yield self._pack(epoch, plan, step)

    def dataset(self, first_epoch: int, epochs: int) -> tf.data.Dataset:
        """Returns the batches of epochs first_epoch .. epochs - 1 as one dataset, packed ahead of the training step.

        The dataset maps numbers of steps to batches. A generator would change threads three times per batch, which
        costs CPU time (.44 ms against .36 ms per batch on MovieLens-1M), and waiting time on a busy machine.
        """
        steps, plan_of = self.steps_per_epoch, functools.lru_cache(maxsize=1)(self._plan)
        positions = {name: tf.TensorSpec([None, None], tf.int32) for name in ("history", "target", "target_cluster")}
        negatives = tf.TensorSpec([None, None, self._negatives.num_negatives], tf.int32)
        signature = {"user": tf.TensorSpec([None], tf.int32), **positions, "negatives": negatives}
        signature |= {
            key: tf.TensorSpec([None, None, *of.shape[1:]], of.dtype) for key, of in self._records.features.items()
        }

        def pack(number: np.ndarray) -> list[np.ndarray]:
            epoch, step = divmod(int(number), steps)
            batch = self._pack(epoch, plan_of(epoch), step)
            return [batch[name] for name in signature]

        def batch_of(number: tf.Tensor) -> dict[str, tf.Tensor]:
            values = tf.numpy_function(pack, [number], [spec.dtype for spec in signature.values()])
            return {
                name: tf.ensure_shape(value, spec.shape)
                for (name, spec), value in zip(signature.items(), values, strict=True)
            }

        return tf.data.Dataset.range(first_epoch * steps, epochs * steps).map(batch_of).prefetch(4)

    def _plan(self, epoch: int) -> _Plan:
        # NumPy pads the seed with zeros, so worker 0 draws the same numbers as a single process.
        rng = np.random.default_rng([self._seed, epoch, self._worker.index])
        starts = self._window_starts(rng)
        # Random order among equal lengths, then longest first: batches hold windows of similar length.
        order = rng.permutation(len(self._rows))
        order = order[np.argsort(-self._positions[order], kind="stable")]
        return _Plan(starts, order, rng.permutation(self.steps_per_epoch))

    def _window_starts(self, rng: np.random.Generator) -> np.ndarray:
        """First event of each user's window: the last one, or with share `random_window` any window with a target."""
        first, stop = self._records.splits[self._rows], self._records.splits[self._rows + 1]
        last_start, first = stop - (self._positions + 1), first + self._least_starts
        anywhere = first + np.floor(rng.random(len(first)) * (last_start - first + 1)).astype(np.int64)
        return np.where(rng.random(len(first)) < self._config.random_window, anywhere, last_start)

    def _pack(self, epoch: int, plan: _Plan, step: int) -> Batch:
        batch = plan.batches[step]
        chosen = plan.order[self._cuts[batch] : self._cuts[batch + 1]]
        rows, starts, positions = self._rows[chosen], plan.starts[chosen], self._positions[chosen]
        column = np.arange(positions.max())
        filled = column < positions[:, None]  # [B, L]
        source = np.where(filled, starts[:, None] + column, 0)
        target = np.where(filled, source + 1, 0)
        records = self._records
        # No position reads the padding of a row, but times are summed along the row: pad with 0, not with "unknown".
        inputs = {key: _filled(values[source], filled) for key, values in records.features.items()}
        return inputs | {
            "user": records.users[rows],
            "history": np.where(filled, records.items[source], 0),
            "target": np.where(filled, records.items[target], 0),
            "target_cluster": np.where(filled, records.clusters[target], 0),
            "negatives": self._negatives.of_windows(epoch, rows, starts + 1, positions),
        }


def history_batches(
    records: HeldOutRecords,
    max_length: int,
    batch_tokens: int = 50_000,
    allows_seen: bool = False,
    most_users: int | None = None,
) -> Iterator[HistoryBatch]:
    """Yields batches of held-out histories of similar length: the last `max_length` items of users.

    Args:
        records: of U users.
        max_length: L.
        batch_tokens: most padded positions of a batch.
        allows_seen: whether lists may hold items of the history.
        most_users: most users of a batch; None for no limit but that of its padded positions.
    """
    lengths = np.diff(records.splits)
    order = np.argsort(-lengths, kind="stable")
    for start, stop in itertools.pairwise(_token_cuts(lengths[order], batch_tokens, most_users)):
        users = order[start:stop]
        seen = _padded(records.items, records.splits[users], np.zeros_like(users) if allows_seen else lengths[users])
        recent = np.minimum(lengths[users], max_length)
        first = records.splits[users + 1] - recent
        features = {key: _padded(values, first, recent) for key, values in records.features.items()}
        yield HistoryBatch(users, _padded(records.items, first, recent), features, seen)


def fit_batch_tokens(positions: np.ndarray) -> int:
    """Returns the padded positions per step for windows of so many positions `[W]`.

    A log with few events needs small steps, or training ends before the model has learned. On MovieLens-1M cut down to
    nine events a user, 48 epochs of 7 steps reach R@50 .384, of 100 steps .457.
    """
    least, most = AUTO_TOKENS
    return min(max(int(positions.sum()) // AUTO_STEPS, least), most)


def _padded(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The rows values[start : start + length], right-padded with 0 to the longest (at least one column)."""
    column = np.arange(max(1, lengths.max()))
    filled = column < lengths[:, None]
    return _filled(values[np.where(filled, starts[:, None] + column, 0)], filled)


def _filled(values: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """The values `[B, L]`, or `[B, L, W]`, where the mask `[B, L]` is true, else 0."""
    return np.where(filled if values.ndim == 2 else filled[..., None], values, values.dtype.type(0))


def _token_cuts(lengths: np.ndarray, batch_tokens: int, most_rows: int | None = None) -> np.ndarray:
    """Bounds of consecutive batches over descending `lengths`; rows x longest stays within `batch_tokens`."""
    cuts, most_rows = [0], most_rows or len(lengths)
    while cuts[-1] < len(lengths):
        rows = max(1, batch_tokens // max(1, int(lengths[cuts[-1]])))
        cuts.append(min(len(lengths), cuts[-1] + min(rows, most_rows)))
    return np.array(cuts)


def _more_cuts(cuts: np.ndarray, batches: int) -> np.ndarray:
    """Halves the batch with the most rows until there are enough batches."""
    largest = [(start - stop, start, stop) for start, stop in itertools.pairwise(cuts.tolist())]
    heapq.heapify(largest)
    while len(largest) < batches:
        _, start, stop = heapq.heappop(largest)
        middle = (start + stop) // 2
        heapq.heappush(largest, (start - middle, start, middle))
        heapq.heappush(largest, (middle - stop, middle, stop))
    return np.array([0, *sorted(stop for _, _, stop in largest)])
