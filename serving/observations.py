"""Figures of requests to a bundle and of its answers, of many at once: from arrays to counts, nothing else."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from serving.known_items import KnownItems, hashes_of


class Observation(NamedTuple):
    """Of one request and its answer what is counted, for B users and K clusters; None where there is no such array.

    Attributes:
        signature: Name of the signature.
        history: [B, L] ids, an object array of bytes; empty ones pad.
        asked: [B] results that were asked for, or the same number for all.
        minimum: [B, K or 1] least results by cluster.
        lengths: [B] results.
        quotas: [B, K] results by cluster.
    """

    signature: str
    history: np.ndarray | None
    asked: np.ndarray | int | None
    minimum: np.ndarray | None
    lengths: np.ndarray | None
    quotas: np.ndarray | None


class Histories(NamedTuple):
    """Counts over the histories of some requests.

    Attributes:
        rows: Histories.
        empty: Those without any id.
        unknown: Those that have ids, of which the version knows none.
        ids: Ids in all of them.
        unknown_ids: Ids that the version does not know.
    """

    rows: int
    empty: int
    unknown: int
    ids: int
    unknown_ids: int


class Lists(NamedTuple):
    """Counts over the lists of some answers, for B users in all and K clusters.

    Attributes:
        lengths: [B] results.
        shortfalls: [B] results that were asked for and are missing.
        entries: [K] results that came from each cluster.
        below_minimum: [K] results that are missing to reach `cluster_min`; empty if there was no minimum.
    """

    lengths: list[int]
    shortfalls: list[int]
    entries: list[int]
    below_minimum: list[int]


def read_histories(histories: Sequence[np.ndarray], known: KnownItems | None) -> Histories:
    """Counts histories, each array [B, L] those of one request; without `known`, every id counts as known.

    Raises:
        ValueError: An array has not two dimensions.
    """
    ids: list[bytes] = []
    widths: list[int] = []
    for history in histories:
        rows, columns = history.shape
        widths += [columns] * rows
        ids += history.ravel().tolist()
    hashes = hashes_of(ids)
    edges = np.cumsum([0, *widths])
    given = _sums(hashes != 0, edges)
    recognised = given if known is None else _sums(known.contain(hashes), edges)
    return Histories(
        rows=len(widths),
        empty=int(np.count_nonzero(given == 0)),
        unknown=int(np.count_nonzero((given > 0) & (recognised == 0))),
        ids=int(given.sum()),
        unknown_ids=int((given - recognised).sum()),
    )


def _sums(flags: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns how many of `flags` are set between each two neighbours of `edges`."""
    counts = np.concatenate([[0], np.cumsum(flags)])[edges]
    return counts[1:] - counts[:-1]


def read_lists(answers: Sequence[Observation]) -> Lists:
    """Counts lists and their entries.

    Raises:
        ValueError: An answer lacks outputs, or is not what a bundle answers.
    """
    asked: list[int] = []
    lengths: list[int] = []
    quotas, missing = [], []
    for answer in answers:
        if answer.asked is None or answer.lengths is None or answer.quotas is None:
            raise ValueError("Expected lengths and clusters of lists, the client left these outputs out.")
        rows = answer.lengths.tolist()
        lengths += rows
        asked += [answer.asked] * len(rows) if isinstance(answer.asked, int) else answer.asked.tolist()
        quotas.append(answer.quotas)
        if answer.minimum is not None and answer.minimum.any():
            missing.append(np.maximum(answer.minimum - answer.quotas, 0).sum(axis=0))
    by_cluster = np.concatenate(quotas)
    shortfalls = [wanted - length for wanted, length in zip(asked, lengths, strict=True)]
    if by_cluster.sum(axis=1).tolist() != lengths or min(shortfalls, default=0) < 0 or by_cluster.min(initial=0) < 0:
        raise ValueError(
            f"Expected lists that add up from clusters and are no longer than asked, got {lengths} results of {asked}, "
            f"{by_cluster.tolist()} by cluster."
        )
    below_minimum = np.sum(missing, axis=0).tolist() if missing else []
    return Lists(lengths, shortfalls, by_cluster.sum(axis=0).tolist(), below_minimum)
