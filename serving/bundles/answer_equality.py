"""Equality of two answers to one request: numbers within a tolerance, lists of items except for ties."""

import dataclasses
from collections import Counter
from typing import NamedTuple

import numpy as np
from tensorflow_serving.apis import predict_pb2

from serving import tensors
from tfdnc.contracts import bundle

TOLERANCE = 1e-4
"""Largest difference of equal numbers, absolute or relative to the recorded one. The order of additions on another
processor changes a float32 score by about 1e-6 of its size; another model changes it by far more."""

_LISTS = set(bundle.SIGNATURES["search"].output_names)
_BY_ITEM = {bundle.ITEM_IDS, bundle.CLUSTER_IDS, bundle.QUOTAS}  # outputs that depend on the order of ties

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Comparison of an answer with the recorded one.

    Attributes:
        fault: Description of the first fault, "" for an answer that passes.
        identical: True if the answer passes and its lists hold the same items at the same ranks.
        difference: Largest absolute difference of two numbers.
        listed: Number of items in the recorded lists.
        found: Number of these items in the lists of the answer.
    """

    fault: str
    identical: bool = False
    difference: float = 0.0
    listed: int = 0
    found: int = 0

    @property
    def overlap(self) -> float:
        """Share of the recorded items that the answer holds; 1 without lists."""
        return self.found / self.listed if self.listed else 1.0


def compare(
    recorded: predict_pb2.PredictResponse, answer: predict_pb2.PredictResponse, approximate: bool = False
) -> Comparison:
    """Compares an answer with the recorded one.

    Args:
        recorded: The answer at export.
        answer: The answer now.
        approximate: True for lists of an approximate index. Then items and scores may differ, and the caller judges
            the overlap.
    """
    old, new = _arrays(recorded), _arrays(answer)
    if _kinds(old) != _kinds(new):
        return Comparison(f"its outputs are {_kinds(new)}, recorded were {_kinds(old)}")
    with_lists = set(old) >= _LISTS
    skipped = (_LISTS if approximate else _BY_ITEM) if with_lists else set()
    compared = {name: (old[name], new[name]) for name in old if name not in skipped}
    faults = [f"{name} differs by up to {_gap(*pair):.3g}" for name, pair in compared.items() if not _agree(*pair)]
    pairs = [(_items(old, row), _items(new, row)) for row in range(len(old[bundle.ITEM_IDS]))] if with_lists else []
    same_items = all(np.array_equal(old[name], new[name]) for name in _BY_ITEM) if with_lists else True
    if not same_items and not approximate:
        faults += [f"row {row}: {fault}" for row, pair in enumerate(pairs) if (fault := _list_fault(*pair))]
    return Comparison(
        fault=faults[0] if faults else "",
        identical=same_items and not faults,
        difference=max([0.0, *(_gap(*pair) for pair in compared.values())]),
        listed=sum(len(was) for was, _ in pairs),
        found=sum(len(was.keys() & now.keys()) for was, now in pairs),
    )


def _arrays(response: predict_pb2.PredictResponse) -> Arrays:
    return {name: tensors.decode(response.outputs[name]) for name in sorted(response.outputs)}


def _kinds(arrays: Arrays) -> str:
    return ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in arrays.items())


def _agree(old: np.ndarray, new: np.ndarray) -> bool:
    if old.dtype.kind != "f":
        return np.array_equal(old, new)
    return np.allclose(new, old, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def _gap(old: np.ndarray, new: np.ndarray) -> float:
    """Largest absolute difference; 1 for text that differs."""
    if old.dtype.kind not in "fiu":
        return float(not np.array_equal(old, new))
    gaps = np.abs(new.astype(np.float64) - old.astype(np.float64))
    return float(np.max(gaps[old != new], initial=0.0))  # equal infinities have no difference


class _Item(NamedTuple):
    """Position of an item in a list."""

    cluster: int
    rank: int  # among the items of its cluster, 0 is best
    score: float
    on_edge: bool  # last of its cluster, or tied with the last of the list, so that a tie may leave it out


def _items(arrays: Arrays, row: int) -> dict[bytes, _Item]:
    count = int(arrays[bundle.NUM_RESULTS][row])
    ids, clusters, scores = (
        arrays[name][row, :count].tolist() for name in (bundle.ITEM_IDS, bundle.CLUSTER_IDS, bundle.SCORES)
    )
    sizes = Counter(clusters)
    seen: Counter[int] = Counter()
    items = {}
    for item_id, cluster, score in zip(ids, clusters, scores, strict=True):
        seen[cluster] += 1
        on_edge = seen[cluster] == sizes[cluster] or _tie(score, scores[-1])
        items[item_id] = _Item(cluster, seen[cluster] - 1, score, on_edge)
    return items


def _list_fault(old: dict[bytes, _Item], new: dict[bytes, _Item]) -> str:
    """Returns a description of the first difference that no tie explains, or "".

    Tied items may swap ranks. A merge by quota scores an item by its rank alone, so its scores do not show ties.
    Therefore neighbours inside a cluster may swap ranks too.
    """
    for item_id, was in old.items():
        now = new.get(item_id)
        if now is None and not was.on_edge:
            return f"item {_text(item_id)} is missing"
        if now is not None and now.cluster != was.cluster:
            return f"item {_text(item_id)} came from cluster {now.cluster}, recorded was {was.cluster}"
        if now is not None and abs(now.rank - was.rank) > 1 and not _tie(now.score, was.score):
            return f"item {_text(item_id)} is at rank {now.rank} of its cluster, recorded was {was.rank}"
    strangers = [item_id for item_id, now in new.items() if item_id not in old and not now.on_edge]
    return f"item {_text(strangers[0])} is new" if strangers else ""


def _tie(one: float, other: float) -> bool:
    return bool(np.isclose(one, other, rtol=TOLERANCE, atol=TOLERANCE))


def _text(item_id: bytes) -> str:
    return repr(item_id.decode(errors="replace"))
