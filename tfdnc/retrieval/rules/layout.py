"""Layout of one bit per item in words of 64: the bits of a cluster begin with a word of their own."""

import itertools
from collections.abc import Sequence

import numpy as np

WORD = 64


class Layout:
    """Positions of the bits of N items in K clusters.

    Args:
        offsets: K + 1 item counts; cluster k is rows offsets[k] .. offsets[k + 1] - 1.

    Attributes:
        offsets: `[K + 1]` int32.
        first_words: `[K + 1]` int32; the bits of cluster k are in words first_words[k] .. first_words[k + 1] - 1.
        shifts: `[K]` int32, to be added to the row of an item of cluster k for the position of its bit.
    """

    def __init__(self, offsets: Sequence[int] | np.ndarray) -> None:
        self.offsets = np.asarray(offsets, np.int32)
        words = -(-np.diff(self.offsets) // WORD)
        self.first_words = np.concatenate([[0], np.cumsum(words)]).astype(np.int32)
        self.shifts = self.first_words[:-1] * WORD - self.offsets[:-1]

    @property
    def num_words(self) -> int:
        """W."""
        return int(self.first_words[-1])

    @property
    def cluster_of_words(self) -> np.ndarray:
        """`[W]` int32."""
        return np.repeat(np.arange(len(self.shifts)), np.diff(self.first_words)).astype(np.int32)

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Returns the positions of the bits of item rows, of any shape."""
        return rows + self.shifts[np.searchsorted(self.offsets[1:], rows, side="right")]

    def pack(self, flags: np.ndarray) -> np.ndarray:
        """Returns `[..., W]` int64 words of `[..., N]` bool; bits beside the items are 0."""
        parts = []
        for start, stop in itertools.pairwise(self.offsets):
            padding = [(0, 0)] * (flags.ndim - 1) + [(0, -(stop - start) % WORD)]
            parts.append(np.packbits(np.pad(flags[..., start:stop], padding), axis=-1, bitorder="little"))
        return np.ascontiguousarray(np.concatenate(parts, axis=-1)).view("<i8")
