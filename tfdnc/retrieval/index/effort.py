"""Effort of a search in each cluster: measured at build time, looked up for all clusters at once."""

from typing import Any, NamedTuple

import numpy as np

from tfdnc.backend import tf

_STEP = 1.05  # factor between tabulated numbers of candidates: the effort is less than 1.05 times the one needed


class Effort(NamedTuple):
    """Effort of a search; numbers, or int32 scalars in a graph."""

    leaves: int | tf.Tensor  # leaves to search; must be -1 without a tree: any other number may crash the process
    rescored: int | tf.Tensor  # candidates whose scores are computed exactly; -1 for all


class Measurement(NamedTuple):
    """The least effort that is enough for `width` candidates, as measured."""

    width: int
    effort: Effort
    recall: float  # share of the true best `width` items that were found
    microseconds: float  # time of a query that is searched alone

    def described(self) -> dict[str, Any]:
        """Returns the entry of the bundle's manifest."""
        leaves = {"leaves_to_search": self.effort.leaves} if self.effort.leaves > 0 else {}
        return {
            "candidates": self.width,
            **leaves,
            "rescored": self.effort.rescored,
            "recall": round(self.recall, 4),
            "microseconds": round(self.microseconds, 1),
        }


class Calibration(NamedTuple):
    """All measurements of one searcher."""

    measurements: list[Measurement]  # by ascending width; none for a searcher that scans all items
    size: int  # n, number of items of the cluster
    leaves: int  # number of leaves of its tree; 0 without one

    def efforts(self, widths: np.ndarray) -> np.ndarray:
        """Returns the efforts for `[T]` numbers of candidates, at most n: `[T, 2]` int32, never decreasing.

        The effort is that of the first measurement that is wide enough; beyond the last one it grows with the width.
        """
        if not self.measurements:
            return np.full([len(widths), 2], -1, np.int32)
        wide, leaves, rescored = np.array([(one.width, *one.effort) for one in self.measurements]).T
        first = np.minimum(np.searchsorted(wide, widths), len(wide) - 1)
        share = widths / wide[first]
        # Rescored candidates are proportional to the width, but at least those of the narrower measurement, because
        # small widths need a larger multiple.
        least = np.maximum(np.concatenate([[0], rescored[:-1]])[first], widths)
        rescored = np.clip(rescored[first] * share, least, self.size)
        leaves = np.minimum(leaves[first] * np.maximum(share, 1), self.leaves or -1)
        return np.stack([leaves, rescored], axis=1).astype(np.int32)


class Efforts:
    """Efforts of C searchers in one table; a look-up of 20 ops per searcher was a third of a request's ops."""

    def __init__(self, calibrations: list[Calibration]) -> None:
        sizes = np.array([calibration.size for calibration in calibrations])
        steps = np.ceil(_STEP ** np.arange(1 + np.ceil(np.log(sizes.max()) / np.log(_STEP))))
        self._widths = np.unique(steps).astype(np.int32)  # 1 .. at least the largest size
        table = [calibration.efforts(np.minimum(self._widths, calibration.size)) for calibration in calibrations]
        self._table = np.stack(table)  # [C, T, 2]

    def __call__(self, widths: tf.Tensor) -> list[Effort]:
        """Returns the effort of each searcher for `[C]` int32 numbers of candidates, from 1 to the cluster's size."""
        efforts = tf.gather(self._table, tf.searchsorted(self._widths, widths), batch_dims=1)  # [C, 2]
        columns = [tf.unstack(column, len(self._table)) for column in tf.unstack(efforts, axis=1)]
        return [Effort(*scalars) for scalars in zip(*columns, strict=True)]
