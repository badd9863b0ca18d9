"""How much effort a request puts into each cluster: what was measured at build time, looked up for all at once."""

from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf

_STEP = 1.05  # from one tabulated number of candidates to the next: nobody gets 1.05 times the effort that is due


class Effort(NamedTuple):
    """What a search costs; numbers, or int32 scalars in a graph."""

    leaves: int | tf.Tensor  # to search; -1 without a tree: told another number, such a searcher may crash the process
    rescored: int | tf.Tensor  # candidates whose scores are computed exactly; -1 where all are


class Rung(NamedTuple):
    """The least effort that is enough for `width` candidates."""

    width: int
    effort: Effort
    recall: float  # share of the true best `width` items that it found
    microseconds: float  # per query, asked alone

    def described(self) -> dict:
        """For the manifest."""
        leaves = {"leaves_to_search": self.effort.leaves} if self.effort.leaves > 0 else {}
        return {
            "candidates": self.width,
            **leaves,
            "rescored": self.effort.rescored,
            "recall": round(self.recall, 4),
            "microseconds": round(self.microseconds, 1),
        }


class Ladder(NamedTuple):
    """What was measured of one searcher."""

    rungs: list[Rung]  # narrow to wide; none where every search is a scan
    size: int  # n, items of the cluster
    leaves: int  # of its tree; 0 without one

    def efforts(self, widths: np.ndarray) -> np.ndarray:
        """For `[T]` numbers of candidates, at most n: `[T, 2]` int32 rows of `Effort`, never decreasing.

        The effort is that of the first rung that is wide enough; beyond the last one it grows with the width.
        """
        if not self.rungs:
            return np.full([len(widths), 2], -1, np.int32)
        wide, leaves, rescored = np.array([(rung.width, *rung.effort) for rung in self.rungs]).T
        rung = np.minimum(np.searchsorted(wide, widths), len(wide) - 1)
        share = widths / wide[rung]
        # In proportion, but no fewer than the narrower rung needed: fewer candidates need a larger multiple.
        least = np.maximum(np.concatenate([[0], rescored[:-1]])[rung], widths)
        rescored = np.clip(rescored[rung] * share, least, self.size)
        leaves = np.minimum(leaves[rung] * np.maximum(share, 1), self.leaves or -1)
        return np.stack([leaves, rescored], axis=1).astype(np.int32)


class Efforts:
    """The ladders of C searchers as one table, because 20 ops for each of 15 were a third of a request's."""

    def __init__(self, ladders: list[Ladder]):
        sizes = np.array([ladder.size for ladder in ladders])
        steps = np.ceil(_STEP ** np.arange(1 + np.ceil(np.log(sizes.max()) / np.log(_STEP))))
        self._widths = np.unique(steps).astype(np.int32)  # 1 .. at least the largest size
        table = [ladder.efforts(np.minimum(self._widths, ladder.size)) for ladder in ladders]
        self._table = np.stack(table)  # [C, T, 2]

    def __call__(self, widths: tf.Tensor) -> list[Effort]:
        """`[C]` int32 numbers of candidates, at least 1 and at most the sizes -> what each searcher is told."""
        efforts = tf.gather(self._table, tf.searchsorted(self._widths, widths), batch_dims=1)  # [C, 2]
        columns = [tf.unstack(column, len(self._table)) for column in tf.unstack(efforts, axis=1)]
        return [Effort(*scalars) for scalars in zip(*columns, strict=True)]
