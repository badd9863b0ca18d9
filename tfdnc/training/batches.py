"""Cuts users' sequences into windows and packs windows of similar length into batches of a bounded number of tokens.

Everything is a function of (seed, epoch), so a resumed run sees the batches it would have seen. Sorting by length fills
about 94 % of the padded positions on MovieLens-1M, against 54 % when every window is padded to the longest.
"""

from collections.abc import Iterator

import numpy as np

from tfdnc.backend import tf
from tfdnc.config import TrainConfig
from tfdnc.errors import UserError
from tfdnc.training.records import HeldOutRecords, TrainingRecords


class TrainingBatches:
    """The batches of every epoch.

    Args:
        records: the training part of every user; users with fewer than two events have no target and are left out.
        config: `batch_tokens` and `random_window`.
        max_length: L, the most positions of a window.
        seed: fixes windows and order.

    Raises:
        UserError: no user has two events.
    """

    def __init__(self, records: TrainingRecords, config: TrainConfig, max_length: int, seed: int):
        self._records = records
        self._config = config
        self._max_length = max_length
        self._seed = seed
        events = np.diff(records.splits)
        self._users = np.flatnonzero(events >= 2)
        if not len(self._users):
            raise UserError(
                "Expected users with at least two training events, found none: there is nothing to predict."
            )
        self._positions = np.minimum(events[self._users] - 1, max_length)  # positions with a target in a window
        self._cuts = _token_cuts(np.sort(self._positions)[::-1], config.batch_tokens)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches; the same in every epoch, because windows change place and not length."""
        return len(self._cuts) - 1

    def epoch(self, epoch: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the batches of one epoch as int32 arrays.

        Yields:
            `user` `[B]`, rows of the records; `history`, `target`, `target_cluster` `[B, L]` and `negatives`
            `[B, L, n]`, padded with 0 on the right; of records with weights also `weight` float32 `[B, L]` of the
            targets.
        """
        rng = np.random.default_rng([self._seed, epoch])
        starts = self._window_starts(rng)
        # Random order among equal lengths, then longest first: batches hold windows of similar length.
        order = rng.permutation(len(self._users))
        order = order[np.argsort(-self._positions[order], kind="stable")]
        for batch in rng.permutation(self.steps_per_epoch):
            chosen = order[self._cuts[batch] : self._cuts[batch + 1]]
            yield {"user": self._users[chosen].astype(np.int32)} | self._pack(starts[chosen], self._positions[chosen])

    def dataset(self, first_epoch: int, epochs: int) -> tf.data.Dataset:
        """The batches of epochs first_epoch .. epochs - 1 as one tf.data stream, packed ahead of the training step."""
        n = self._records.negatives.shape[1]
        signature = {name: tf.TensorSpec([None, None], tf.int32) for name in ("history", "target", "target_cluster")}
        signature["user"] = tf.TensorSpec([None], tf.int32)
        signature["negatives"] = tf.TensorSpec([None, None, n], tf.int32)
        if self._records.weights is not None:
            signature["weight"] = tf.TensorSpec([None, None], tf.float32)

        def batches():
            for epoch in range(first_epoch, epochs):
                yield from self.epoch(epoch)

        return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(4)

    def _window_starts(self, rng) -> np.ndarray:
        """First event of each user's window: of the last window, or with `random_window` of any."""
        first, stop = self._records.splits[self._users], self._records.splits[self._users + 1]
        last_start = stop - (self._positions + 1)
        anywhere = first + np.floor(rng.random(len(first)) * (last_start - first + 1)).astype(np.int64)
        return np.where(rng.random(len(first)) < self._config.random_window, anywhere, last_start)

    def _pack(self, starts: np.ndarray, positions: np.ndarray) -> dict[str, np.ndarray]:
        column = np.arange(positions.max())
        filled = column < positions[:, None]  # [B, L]
        source = np.where(filled, starts[:, None] + column, 0)
        target = np.where(filled, source + 1, 0)
        records = self._records
        weights = {} if records.weights is None else {"weight": np.where(filled, records.weights[target], 0)}
        return weights | {
            "history": np.where(filled, records.items[source], 0),
            "target": np.where(filled, records.items[target], 0),
            "target_cluster": np.where(filled, records.clusters[target], 0),
            "negatives": np.where(filled[:, :, None], records.negatives[target], 0),
        }


def history_batches(
    records: HeldOutRecords, max_length: int, batch_tokens: int = 50_000
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Packs held-out histories for inference, users of similar length together.

    Yields:
        users `[B]` (rows of `records`), `[B, L]` int32 last `max_length` items right-padded with 0, and `[B, S]` int32
        all items before the target, right-padded with 0.
    """
    lengths = np.diff(records.splits)
    order = np.argsort(-lengths, kind="stable")
    for start, stop in zip((cuts := _token_cuts(lengths[order], batch_tokens))[:-1], cuts[1:], strict=True):
        users = order[start:stop]
        seen = _padded(records.items, records.splits[users], lengths[users])
        recent = np.minimum(lengths[users], max_length)
        yield users, _padded(records.items, records.splits[users + 1] - recent, recent), seen


def _padded(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Rows values[start : start + length], right-padded with 0 to the longest (at least one column)."""
    column = np.arange(max(1, lengths.max()))
    filled = column < lengths[:, None]
    return np.where(filled, values[np.where(filled, starts[:, None] + column, 0)], 0)


def _token_cuts(lengths: np.ndarray, batch_tokens: int) -> np.ndarray:
    """Bounds of consecutive batches over descending `lengths`; rows x longest stays within `batch_tokens`."""
    cuts = [0]
    while cuts[-1] < len(lengths):
        rows = max(1, batch_tokens // max(1, int(lengths[cuts[-1]])))
        cuts.append(min(len(lengths), cuts[-1] + rows))
    return np.array(cuts)
