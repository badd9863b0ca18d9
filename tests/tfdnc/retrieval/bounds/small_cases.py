"""Small cases of bounds that some list keeps: columns of values, and bounds around the counts of a hidden list."""

from typing import NamedTuple

import numpy as np

from tfdnc.backend import tf

CHOICE_SPECS = [
    tf.TensorSpec([None, None], tf.bool),
    [tf.TensorSpec([None], tf.int32)] * 4,
    tf.TensorSpec([None], tf.int32),
    tf.TensorSpec([None], tf.int32),
]
"""Specs of a choice in a graph: the items that are there, memberships, lengths, and sums of the minima."""

ITEMS = 60
NONE = 2**31 - 1
KINDS = {
    "one value": ["single"],
    "several values": ["several"],
    "two values": ["single", "single"],
    "three values": ["single", "single", "single"],
    "one and several": ["single", "several"],
    "two and several": ["single", "single", "several"],
}
"""Columns of a case: with one value, or with several values, per item."""


class Case(NamedTuple):
    """One row."""

    length: int
    keys: np.ndarray  # [N], never increasing
    groups: list[tuple[np.ndarray, int, int]]  # items [N], minimum, maximum


def draw_case(rng, kind):
    """A case, of which one list of the full length keeps all bounds."""
    length, groups = int(rng.integers(5, 21)), []
    keys = -np.sort(-rng.normal(size=ITEMS))
    hidden = np.zeros(ITEMS, bool)
    hidden[rng.choice(ITEMS, length, replace=False)] = True
    spare = 1 if rng.random() < 0.5 else 3  # half of the cases have bounds at the counts of the hidden list
    for column in KINDS[kind]:
        for own in _single(rng) if column == "single" else _several(rng):
            count = int((own & hidden).sum())
            least = max(0, count - int(rng.integers(0, spare))) if rng.random() < 0.8 else 0
            most = count + int(rng.integers(0, spare)) if rng.random() < 0.7 else NONE
            if least or most < NONE:
                groups.append((own, least, most))
    return Case(length, keys, groups)


def _single(rng):
    size = int(rng.integers(2, 9))
    values = rng.choice(size, ITEMS, p=rng.dirichlet(np.full(size, rng.choice([0.4, 2]))))
    values[rng.random(ITEMS) < rng.choice([0, 0.3])] = -1
    return [values == value for value in range(size)]


def _several(rng):
    return [rng.random(ITEMS) < share for share in rng.choice([0.03, 0.1, 0.3, 0.6], int(rng.integers(2, 8)))]


def members_of(cases):
    """The memberships of a batch of cases, as `selection.Members`: four arrays `[P]` int32."""
    parts = [np.zeros([4, 0], int)]
    for row, case in enumerate(cases):
        for own, least, most in case.groups:
            places = np.flatnonzero(own) + row * ITEMS
            group = np.full(len(places), len(parts))
            parts.append(np.stack([places, group, np.full(len(places), least), np.full(len(places), most)]))
    joined = np.concatenate(parts, axis=1).astype(np.int32)
    joined[1] = np.unique(joined[1], return_inverse=True)[1]  # groups without items have no number
    return joined
