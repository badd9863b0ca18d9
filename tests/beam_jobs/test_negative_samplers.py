"""The law of the negatives: exact, never the user's own, the same in every run."""

import numpy as np
import pytest

from beam_jobs.item_table import make_item_table, read_item_table
from beam_jobs.negatives import EMPTY, EXACT, NEGATIVE_SAMPLERS, REDRAWN, user_generator
from tfdnc.config import ExamplesConfig
from tfdnc.errors import UserError
from tfdnc.schema import PAD

# Clusters {1..4}, {5..12}, {13..20}; the counts differ inside each, and items 4 and 12 were never trained on.
CLUSTER = np.repeat([0, 1, 2], [4, 8, 8])
COUNTS = np.array([5, 1, 2, 0, 9, 1, 4, 2, 2, 7, 3, 0, 1, 1, 1, 30, 2, 2, 6, 1])
TABLE = make_item_table(CLUSTER, COUNTS)


def sampler(name, **config):
    return NEGATIVE_SAMPLERS.resolve(name)(TABLE, ExamplesConfig(sampler=name, **config))


def law(name, own, target, exponent, ratio):
    """Probability `[21]` of every item index as the negative of `target`."""

    def inside(pool):
        counts = np.r_[0, COUNTS].astype(float)
        powers = np.where((counts > 0) | (exponent == 0), np.maximum(counts, 1) ** exponent, 0)
        weights = np.where(pool & ~np.isin(np.arange(21), own), powers, 0)
        weights[0] = 0
        return weights / weights.sum()

    cluster, everything = np.r_[-1, CLUSTER] == CLUSTER[target - 1], np.arange(21) > 0
    share = {"in_cluster": 1, "uniform": 0, "mixed": ratio}[name]
    return (share * inside(cluster) if share else 0) + ((1 - share) * inside(everything) if share < 1 else 0)


@pytest.mark.parametrize("name", ["in_cluster", "uniform", "mixed"])
@pytest.mark.parametrize("exponent", [0.0, 0.75, 1.0, -0.5])
@pytest.mark.parametrize(
    "own",
    [
        [6, 14],  # rejection
        [5, 6, 7, 8, 9, 13],  # more than half of a cluster: listed
        [1, 5, 5, 6, 16, 14],  # with a repetition; item 16 is most of its cluster by popularity
    ],
)
def test_draws_follow_the_law_and_are_never_the_users_own(name, exponent, own):
    n, ratio = 20_000, 0.3
    drawn, counts = sampler(name, num_negatives=n, popularity_exponent=exponent, ratio=ratio).draw(
        user_generator(1, 7), np.array(own)
    )
    assert drawn.shape == (len(own), n)
    assert not np.isin(drawn, own).any()
    assert counts[EMPTY] == 0
    for row, target in zip(drawn, own, strict=True):
        expected = law(name, own, target, exponent, ratio) * n
        observed = np.bincount(row, minlength=21)
        assert observed[expected == 0].sum() == 0
        possible = expected > 0
        chi_square = ((observed - expected)[possible] ** 2 / expected[possible]).sum()
        # Mean and variance of chi-square are its degrees of freedom and twice that; five sigma never fails by chance.
        freedom = possible.sum() - 1
        assert chi_square < freedom + 5 * np.sqrt(2 * freedom) + 5


def test_untrained_items_are_negatives_under_the_uniform_law_only():
    items = np.array([1, 5])
    assert {4, 12} <= set(sampler("uniform", num_negatives=500).draw(user_generator(0, 0), items)[0].ravel())
    popular = sampler("uniform", num_negatives=500, popularity_exponent=0.5).draw(user_generator(0, 0), items)[0]
    assert not np.isin(popular, [4, 12]).any()


@pytest.mark.parametrize("exponent", [-10, 10])
def test_the_steepest_laws_do_not_overflow(exponent):
    table = make_item_table(np.zeros(4, int), np.array([10**9, 10**9, 1, 1]))
    config = ExamplesConfig(sampler="uniform", num_negatives=1000, popularity_exponent=exponent)
    drawn, _ = NEGATIVE_SAMPLERS.resolve("uniform")(table, config).draw(user_generator(1, 1), np.array([1, 3]))
    assert set(drawn.ravel()) == {2 if exponent > 0 else 4}


@pytest.mark.parametrize(("own", "exponent"), [([1, 2, 3, 4, 5], 0.0), ([1, 2, 3, 5], 1.0)])
def test_exhausted_cluster_gives_padding_and_is_counted(own, exponent):
    # With the exponent, item 4 is left, but it has probability 0.
    drawn, counts = sampler("in_cluster", num_negatives=3, popularity_exponent=exponent).draw(
        user_generator(1, 1), np.array(own)
    )
    assert (drawn[:-1] == PAD).all()
    assert (drawn[-1] >= 6).all()
    assert counts[EMPTY] == 3 * (len(own) - 1)


def test_crowded_cluster_is_listed_and_the_others_are_not():
    drawn, counts = sampler("in_cluster", num_negatives=10).draw(user_generator(1, 1), np.array([1, 2, 3, 5]))
    assert (drawn[:3] == 4).all()
    assert counts[EXACT] == 30
    assert 0 <= counts[REDRAWN] < 20


def test_negatives_depend_on_seed_and_user_only():
    items = np.arange(1, 20, 3)
    one = sampler("mixed", num_negatives=4)
    first = one.draw(user_generator(1, 5), items)[0]
    one.draw(user_generator(1, 6), np.array([2, 4, 6]))  # somebody else in between
    np.testing.assert_array_equal(first, one.draw(user_generator(1, 5), items)[0])
    assert (first != one.draw(user_generator(2, 5), items)[0]).any()
    assert (first != one.draw(user_generator(1, 6), items)[0]).any()


def test_any_integer_is_a_seed():
    assert user_generator(-1, 2**64 - 1).random() != user_generator(1, 2**64 - 1).random()


def test_unknown_sampler_lists_the_known_ones():
    with pytest.raises(UserError, match="Unknown negative sampler 'hard'; known: in_cluster, mixed, uniform"):
        NEGATIVE_SAMPLERS.resolve("hard")


def test_item_table_becomes_offsets_and_a_map(write_items):
    table = read_item_table(write_items([0, 0, 2], counts=[3, 0, 1], order=[5, 1, 3]))
    assert table.offsets.tolist() == [1, 3, 3, 4]  # cluster 1 is empty
    assert table.cluster.tolist() == [0, 0, 0, 2]
    assert table.index_of_sequence.tolist() == [0, 2, 0, 3, 0, 1]
    assert table.counts.tolist() == [0, 3, 0, 1]


@pytest.mark.parametrize(
    ("clusters", "order", "message"),
    [([1, 0], None, "clusters from 0 on, never decreasing"), ([0, 0], [2, 2], "sequence_index >= 1 once")],
)
def test_item_table_is_checked(write_items, clusters, order, message):
    with pytest.raises(UserError, match=message):
        read_item_table(write_items(clusters, order=order))


def test_missing_and_damaged_item_tables_are_user_errors(tmp_path):
    path = tmp_path / "items.parquet"
    with pytest.raises(UserError, match=r"Expected an item table at .*items.parquet, could not read it"):
        read_item_table(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"Expected an item table at .*items.parquet, could not read it"):
        read_item_table(path)
