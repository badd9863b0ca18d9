"""The choice of a list under bounds: random bounds against an oracle that asks one item after the other."""

import numpy as np
import pytest

from tests.tfdnc.retrieval.bounds.bound_oracle import choose
from tests.tfdnc.retrieval.bounds.small_cases import CHOICE_SPECS
from tfdnc.backend import tf
from tfdnc.retrieval.bounds.selection import Members, choose_minima, fill

ITEMS, BATCH = 40, 50
NONE = 2**31 - 1


@tf.function(autograph=False, input_signature=CHOICE_SPECS)
def chosen(available, members, lengths, promised):
    members = Members(*members)
    taken = choose_minima(available, members, lengths, promised).both
    return taken | fill(available, members, lengths, taken)


def draw(rng):
    """A row: its length, its groups as (items, minimum, maximum), and the items that are there."""
    groups = []
    for _ in range(rng.integers(0, 7)):
        least = int(rng.choice([0, 0, 1, 3, 8]))
        most = NONE if rng.random() < 0.4 else least + int(rng.integers(0, 5))
        groups.append((rng.random(ITEMS) < rng.choice([0.05, 0.3, 0.6]), least, most))
    return int(rng.integers(1, 20)), groups, rng.random(ITEMS) < rng.choice([0.3, 1.0])


def check(batches):
    lacking = 0
    for seed in range(batches):
        rng = np.random.default_rng(seed)
        rows = [draw(rng) for _ in range(BATCH)]
        members = []
        for row, (_, groups, there) in enumerate(rows):
            for own, least, most in groups:
                group = len(members)
                places = np.flatnonzero(own & there) + row * ITEMS
                members.append(
                    np.stack([places, np.full(len(places), group), *(np.full(len(places), n) for n in (least, most))])
                )
        joined = np.concatenate([np.zeros([4, 0], int), *members], axis=1).astype(np.int32)
        # Groups without items have no number.
        joined[1] = np.unique(joined[1], return_inverse=True)[1]
        lengths = [length for length, _, _ in rows]
        promised = [sum(least for _, least, _ in groups) for _, groups, _ in rows]
        answer = chosen(
            tf.constant([there for _, _, there in rows]), [tf.constant(part) for part in joined],
            tf.constant(lengths), tf.constant(promised),
        )  # fmt: skip
        for row, (length, groups, there) in enumerate(rows):
            of_items = {
                item: {g: (least, most) for g, (own, least, most) in enumerate(groups) if own[item]}
                for item in np.flatnonzero(there)
            }
            expected = choose(np.flatnonzero(there), of_items, promised[row], length)
            assert np.flatnonzero(answer[row]).tolist() == expected, (seed, row)
            lacking += promised[row] > length
    assert lacking > batches  # of which some have more minima than places


def test_the_choice_is_that_of_the_oracle():
    check(40)


@pytest.mark.slow
def test_ten_thousand_choices_are_those_of_the_oracle():
    check(200)
