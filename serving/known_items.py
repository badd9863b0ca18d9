"""The item ids that a version knows, as sorted hashes: 8 bytes per item, for counting unknown ids."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfdnc.contracts import bundle as contract

_CHUNK = 1 << 20


class KnownItems:
    """Set of ids, of which an unknown one is taken for known with a chance of N / 2^64.

    Python's own hash is used: it is fast, and random in every process, so that no sender can choose ids that collide.
    The empty id, which pads, has the hash 0.

    Args:
        hashes: [N] hashes of the ids, in any order.
    """

    def __init__(self, hashes: npt.NDArray[np.int64]) -> None:
        self._hashes = np.sort(hashes)

    @classmethod
    def read(cls, version: Path) -> "KnownItems | None":
        """Reads the ids of a version, in chunks; returns None if it has no file of them.

        Raises:
            OSError: The file cannot be read.
        """
        file = version / contract.ITEM_IDS_ASSET
        if not file.is_file():
            return None
        parts = []
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                ids = (chunk + stream.readline()).splitlines()
                parts.append(hashes_of(ids))
        return cls(np.concatenate(parts)) if parts else None

    def contain(self, hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Returns for each hash, in an array of any shape, whether it is the one of an id."""
        return self._hashes.take(self._hashes.searchsorted(hashes), mode="clip") == hashes


def hashes_of(ids: list[bytes]) -> npt.NDArray[np.int64]:
    """Returns the hashes of ids, 0 for the empty one."""
    return np.fromiter(map(hash, ids), np.int64, len(ids))
