"""Sources of the negatives of a batch: drawn during the training, or read from the records.

All sources follow the distribution of `examples.sampler` and never return a user's own training items, or with
`data.seen: allow` never the target. They differ in the repetition of the negatives of a position: never, in every R-th
epoch, or in every epoch.
"""

from typing import Protocol

import numpy as np

from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.negative_sampling import NEGATIVE_SAMPLERS, draw_negatives, user_generator
from tfdnc.contracts.registry import Registry
from tfdnc.training.records import TrainingRecords


class NegativeSource(Protocol):
    """Interface of the registered classes.

    Args:
        config: the experiment; `examples` has the distribution, n and R.
        items: the item table.
        records: the training part of every user.
    """

    def __init__(self, config: ExperimentConfig, items: ItemTable, records: TrainingRecords) -> None: ...

    @property
    def num_negatives(self) -> int:
        """Negatives per target, the n of `of_windows`."""

    def of_windows(self, epoch: int, rows: np.ndarray, first: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Returns the negatives of one batch in one epoch.

        Args:
            epoch: 0, 1, ...
            rows: `[B]` row of the records of each window.
            first: `[B]` event that is the first target of the window.
            positions: `[B]` number of targets of the window.

        Returns:
            `[B, L, n]` int32, padded with 0 on the right, and 0 where there is none to draw.
        """


NEGATIVE_SOURCES: Registry[type[NegativeSource]] = Registry("negative source")


def negative_source(config: ExperimentConfig, items: ItemTable, records: TrainingRecords) -> NegativeSource:
    """Returns the source that the config names, or `NoNegatives` where the loss reads none."""
    source = NEGATIVE_SOURCES.resolve(config.train.negatives)
    return source(config, items, records) if config.train.reads_negatives else NoNegatives()


class NoNegatives:
    """No negatives, for losses that draw or score the competing items themselves."""

    num_negatives: int = 0

    def of_windows(self, epoch: int, rows: np.ndarray, first: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """See `NegativeSource`."""
        return np.zeros((len(rows), positions.max(), 0), np.int32)


@NEGATIVE_SOURCES.register("rotating")
class RotatingNegatives:
    """Set epoch % R of the records: nearly fresh negatives, for space on disk instead of time in training."""

    def __init__(self, config: ExperimentConfig, items: ItemTable, records: TrainingRecords) -> None:
        del items
        examples, found = config.examples, records.negatives.shape[1]
        if found != examples.recorded_negatives:
            raise UserError(
                f"Expected {examples.negative_sets} sets of {examples.num_negatives} negatives per item in the "
                f"records, found {found} negatives: run the examples station again."
            )
        self.num_negatives: int = examples.num_negatives if found else 0
        self._num_sets = max(1, examples.negative_sets or 0)
        self._negatives = records.negatives

    def of_windows(self, epoch: int, rows: np.ndarray, first: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """See `NegativeSource`."""
        start = epoch % self._num_sets * self.num_negatives
        column = np.arange(positions.max())
        filled = column < positions[:, None]
        chosen = self._negatives[:, start : start + self.num_negatives]
        return np.where(filled[:, :, None], chosen[np.where(filled, first[:, None] + column, 0)], 0)


@NEGATIVE_SOURCES.register("records")
class RecordedNegatives(RotatingNegatives):
    """The first set of the records, in every epoch."""

    def of_windows(self, epoch: int, rows: np.ndarray, first: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """See `NegativeSource`."""
        return super().of_windows(0, rows, first, positions)


@NEGATIVE_SOURCES.register("online")
class OnlineNegatives:
    """Negatives drawn anew in every epoch, as a function of (seed, user, epoch), not of batches or workers."""

    def __init__(self, config: ExperimentConfig, items: ItemTable, records: TrainingRecords) -> None:
        self.num_negatives: int = config.examples.num_negatives
        self._seed, self._records, self._allows_seen = config.seed, records, config.data.allows_seen
        make_sampler = NEGATIVE_SAMPLERS.resolve(config.examples.sampler)
        self._sampler = make_sampler(1 + np.array(items.offsets), np.concatenate([[0], items.counts]), config.examples)

    def of_windows(self, epoch: int, rows: np.ndarray, first: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """See `NegativeSource`."""
        records = self._records
        negatives = np.zeros((len(rows), positions.max(), self.num_negatives), np.int32)
        for index, (row, start, count) in enumerate(zip(rows, first, positions, strict=True)):
            own = records.items[records.splits[row] : records.splits[row + 1]]
            generator = user_generator(self._seed, records.users[row], epoch)
            targets = records.items[start : start + count]
            negatives[index, :count], _ = draw_negatives(
                self._sampler, generator, targets, own, self.num_negatives, self._allows_seen
            )
        return negatives
