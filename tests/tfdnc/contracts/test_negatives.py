"""Distribution of the negatives: exact, never the user's own, the same in every run and for every caller."""

import numpy as np
import pytest
from scipy.stats import chisquare

from tfdnc.contracts.config import ExamplesConfig, parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.negative_sampling import EMPTY, EXACT, NEGATIVE_SAMPLERS, REDRAWN, draw_negatives, user_generator
from tfdnc.contracts.schema import PAD
from tfdnc.pipeline import stations
from tfdnc.training.batches import TrainingBatches
from tfdnc.training.negative_sources import NEGATIVE_SOURCES, negative_source
from tfdnc.training.records import TrainingRecords

# Clusters {1..4}, {5..12}, {13..20}; the counts differ inside each, and items 4 and 12 were never trained on.
CLUSTER = np.repeat([0, 1, 2], [4, 8, 8])
COUNTS = np.array([5, 1, 2, 0, 9, 1, 4, 2, 2, 7, 3, 0, 1, 1, 1, 30, 2, 2, 6, 1])
OFFSETS = np.array([1, 5, 13, 21])
LEAST_P = 1e-6  # least p of a chi-square: seeds are fixed, and a wrong distribution has far less
OWN_ITEMS = [
    [6, 14],  # rejection
    [5, 6, 7, 8, 9, 13],  # more than half of a cluster: listed
    [1, 5, 5, 6, 16, 14],  # with a repetition; item 16 is most of its cluster by popularity
]


def sampler(name, **config):
    counts = np.concatenate([[0], COUNTS])
    return NEGATIVE_SAMPLERS.resolve(name)(OFFSETS, counts, ExamplesConfig(**{**config, "sampler": name}))


def draw(one, generator, items, n):
    return one.draw(generator, np.array(items), np.array(items), n)


def distribution(name, own, target, exponent, ratio):
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


def p_value(observed, probability):
    """p of the chi-square test of counts `[21]` against a distribution; 0 if an impossible item was drawn."""
    possible = probability > 0
    if observed[~possible].any():
        return 0.0
    return chisquare(observed[possible], probability[possible] * observed.sum()).pvalue


@pytest.mark.parametrize("name", ["in_cluster", "uniform", "mixed"])
@pytest.mark.parametrize("exponent", [0.0, 0.75, 1.0, -0.5])
@pytest.mark.parametrize("own", OWN_ITEMS)
def test_draws_follow_the_distribution_and_are_never_the_users_own(name, exponent, own):
    drawn, counts = draw(sampler(name, popularity_exponent=exponent, ratio=0.3), user_generator(1, 7), own, 20_000)
    assert drawn.shape == (len(own), 20_000)
    assert not np.isin(drawn, own).any()
    assert counts[EMPTY] == 0
    for row, target in zip(drawn, own, strict=True):
        assert p_value(np.bincount(row, minlength=21), distribution(name, own, target, exponent, 0.3)) > LEAST_P


@pytest.mark.parametrize("name", ["in_cluster", "uniform", "mixed"])
@pytest.mark.parametrize("exponent", [0.0, 0.75])
def test_where_lists_may_hold_seen_items_only_the_target_is_no_negative(name, exponent):
    own, one = np.array([5, 6, 7, 5, 16]), sampler(name, popularity_exponent=exponent, ratio=0.3)
    drawn, counts = draw_negatives(one, user_generator(1, 7), own, own, 20_000, allows_seen=True)
    assert counts[EMPTY] == 0
    for row, target in zip(drawn, own, strict=True):
        assert p_value(np.bincount(row, minlength=21), distribution(name, [target], target, exponent, 0.3)) > LEAST_P
    lonely = NEGATIVE_SAMPLERS.resolve("in_cluster")(np.array([1, 2, 21]), np.ones(21), ExamplesConfig())
    drawn, counts = draw_negatives(lonely, user_generator(1, 7), own[:1] - 4, own, 3, allows_seen=True)
    assert (drawn.tolist(), counts[EMPTY]) == ([[PAD] * 3], 3)


ITEMS = ItemTable([], COUNTS, CLUSTER, tuple(OFFSETS - 1), np.arange(20), [], [])
USERS = 1200


def source(name, own, sets=3, seed=1, **examples):
    """A source of two negatives for users who all have the items `own`, and the records it may read."""
    n, examples = 2, {"num_negatives": 2, "negative_sets": sets, **examples}
    config = parse_config({"name": "x", "seed": seed, "examples": examples})
    one, items = sampler(examples["sampler"], **examples), np.tile(np.array(own, np.int32), USERS)
    # As the examples job draws them.
    drawn = [draw(one, user_generator(seed, 1000 + user), own, sets * n)[0] for user in range(USERS)]
    negatives, splits = np.concatenate(drawn).astype(np.int32), np.arange(USERS + 1) * len(own)
    clusters, users = CLUSTER[items - 1].astype(np.int32), np.arange(USERS, dtype=np.int32)
    records = TrainingRecords(items, clusters, negatives, splits, users)
    return NEGATIVE_SOURCES.resolve(name)(config, ITEMS, records), records, config


def trained_on(made, epochs):
    """Targets `[windows, L]` and their negatives `[windows, L, n]` in the batches of some epochs, in order of users."""
    negatives, records, config = made
    batches = TrainingBatches(records, negatives, config.train, 10, seed=1)
    for epoch in epochs:
        batch = {name: np.concatenate(parts) for name, parts in joined(batches.dataset(epoch, epoch + 1)).items()}
        order = np.argsort(batch["user"])
        yield batch["target"][order], batch["negatives"][order]


def joined(dataset):
    batches = list(dataset.as_numpy_iterator())
    return {name: [batch[name] for batch in batches] for name in batches[0]}


@pytest.mark.parametrize("own", OWN_ITEMS)
@pytest.mark.parametrize(("sampler", "exponent"), [("in_cluster", 0.0), ("uniform", 0.75), ("mixed", 0.75)])
@pytest.mark.parametrize("name", ["records", "rotating", "online"])
def test_batches_of_every_source_hold_negatives_of_the_distribution(name, sampler, exponent, own):
    made = source(name, own, sampler=sampler, popularity_exponent=exponent, ratio=0.3)
    epochs = list(trained_on(made, [0] if name == "records" else range(3)))
    for place, target in enumerate(own[1:]):
        drawn = np.concatenate([negatives[:, place].ravel() for _, negatives in epochs])
        assert all((targets[:, place] == target).all() for targets, _ in epochs)
        assert not np.isin(drawn, own).any()
        assert p_value(np.bincount(drawn, minlength=21), distribution(sampler, own, target, exponent, 0.3)) > LEAST_P


@pytest.mark.parametrize("name", ["records", "rotating", "online"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"sampler": "mixed", "ratio": 0.5},
        {"sampler": "in_cluster"},
        {"sampler": "uniform"},
        {"popularity_exponent": 0.5},
        {"popularity_exponent": 0.0},
    ],
)
def test_another_distribution_would_be_noticed(name, wrong):
    right = {"sampler": "mixed", "popularity_exponent": 0.75, "ratio": 0.3}
    made = source(name, [6, 14], **right | wrong)
    drawn = np.concatenate([negatives for _, negatives in trained_on(made, [0] if name == "records" else range(3))])
    counts = np.bincount(drawn[:, 0].ravel(), minlength=21)
    assert p_value(counts, distribution("mixed", [6, 14], 14, 0.75, 0.3)) < LEAST_P


def test_a_users_own_items_would_be_noticed(monkeypatch):
    made = source("online", [6, 14], sampler="uniform")
    monkeypatch.setattr(made[0]._sampler, "draw", lambda generator, targets, own, n: careless(generator, targets, n))
    drawn = np.concatenate([negatives for _, negatives in trained_on(made, range(3))])
    assert p_value(np.bincount(drawn.ravel(), minlength=21), distribution("uniform", [6, 14], 14, 0, 0)) < LEAST_P


def careless(generator, targets, n):
    return generator.integers(1, 21, (len(targets), n)), {}


def test_records_give_the_same_negatives_in_every_epoch_and_sets_rotate():
    own = [1, 5, 5, 6]
    [same] = {negatives.tobytes() for _, negatives in trained_on(source("records", own, sampler="uniform"), range(4))}
    sets = [negatives.tobytes() for _, negatives in trained_on(source("rotating", own, sampler="uniform"), range(5))]
    assert sets[0] == same
    assert len(set(sets)) == 3
    assert sets[3:] == sets[:2]


def test_online_negatives_are_a_function_of_seed_user_and_epoch():
    own = [1, 5, 5, 6]
    one, records, _ = source("online", own, sampler="uniform")

    def drawn(rows, epoch):
        return one.of_windows(epoch, np.array(rows), records.splits[rows] + 1, np.full(len(rows), 3))

    np.testing.assert_array_equal(drawn([4, 2], 6), drawn([2, 9, 4], 6)[[2, 0]])  # for any other users in the batch
    assert (drawn([4, 2], 6) != drawn([4, 2], 7)).any()
    assert (drawn([4], 6) != drawn([2], 6)).any()
    other, *_ = source("online", own, seed=2, sampler="uniform")
    assert (drawn([4], 6) != other.of_windows(6, np.array([4]), records.splits[[4]] + 1, np.array([3]))).any()
    # Nor what the records of a user with that number would hold.
    recorded, _ = draw(sampler("uniform"), user_generator(1, 4), own, 2)
    assert (drawn([4], 0)[0] != recorded[1:]).any()


def test_online_needs_no_negatives_in_the_records():
    [(_, negatives)] = trained_on(source("online", [6, 14], sampler="uniform", sets=0), [0])
    assert (negatives > 0).all()
    assert source("records", [6, 14], sampler="uniform", sets=0)[0].num_negatives == 0  # for losses that read none


def test_a_loss_that_reads_no_negatives_is_given_none():
    _, records, config = source("online", [6, 14], sampler="uniform")
    made = negative_source(config, ITEMS, records)  # of the default loss, a softmax
    window = made.of_windows(0, np.array([0]), records.splits[[0]] + 1, np.array([1]))
    assert window.shape == (1, 1, made.num_negatives) == (1, 1, 0)
    bce = config.model_copy(update={"train": config.train.model_copy(update={"loss": "bce"})})
    assert isinstance(negative_source(bce, ITEMS, records), NEGATIVE_SOURCES.resolve("online"))


def test_records_with_another_number_of_negatives_are_refused():
    _, records, config = source("rotating", [6, 14], sampler="uniform")
    other = config.model_copy(update={"examples": ExamplesConfig(num_negatives=4, negative_sets=1)})
    with pytest.raises(UserError, match="Expected 1 sets of 4 negatives per item in the records, found 6"):
        NEGATIVE_SOURCES.resolve("rotating")(other, ITEMS, records)


def test_untrained_items_are_negatives_under_the_uniform_distribution_only():
    items = [1, 5]
    assert {4, 12} <= set(draw(sampler("uniform"), user_generator(0, 0), items, 500)[0].ravel())
    popular = draw(sampler("uniform", popularity_exponent=0.5), user_generator(0, 0), items, 500)[0]
    assert not np.isin(popular, [4, 12]).any()


@pytest.mark.parametrize("exponent", [-10, 10])
def test_the_steepest_distributions_do_not_overflow(exponent):
    config = ExamplesConfig(sampler="uniform", popularity_exponent=exponent)
    steep = NEGATIVE_SAMPLERS.resolve("uniform")(np.array([1, 5]), np.array([0, 10**9, 10**9, 1, 1]), config)
    drawn, _ = draw(steep, user_generator(1, 1), [1, 3], 1000)
    assert set(drawn.ravel()) == {2 if exponent > 0 else 4}


@pytest.mark.parametrize(("own", "exponent"), [([1, 2, 3, 4, 5], 0.0), ([1, 2, 3, 5], 1.0)])
def test_exhausted_cluster_gives_padding_and_is_counted(own, exponent):
    # With the exponent, item 4 is left, but it has probability 0.
    drawn, counts = draw(sampler("in_cluster", popularity_exponent=exponent), user_generator(1, 1), own, 3)
    assert (drawn[:-1] == PAD).all()
    assert (drawn[-1] >= 6).all()
    assert counts[EMPTY] == 3 * (len(own) - 1)


def test_crowded_cluster_is_listed_and_the_others_are_not():
    drawn, counts = draw(sampler("in_cluster"), user_generator(1, 1), [1, 2, 3, 5], 10)
    assert (drawn[:3] == 4).all()
    assert counts[EXACT] == 30
    assert 0 <= counts[REDRAWN] < 20


def test_negatives_depend_on_seed_and_user_only():
    items = np.arange(1, 20, 3)
    one = sampler("mixed")
    first = draw(one, user_generator(1, 5), items, 4)[0]
    draw(one, user_generator(1, 6), [2, 4, 6], 4)  # another user in between
    np.testing.assert_array_equal(first, draw(one, user_generator(1, 5), items, 4)[0])
    assert (first != draw(one, user_generator(2, 5), items, 4)[0]).any()
    assert (first != draw(one, user_generator(1, 6), items, 4)[0]).any()


def test_any_integer_is_a_seed():
    assert user_generator(-1, 2**64 - 1).random() != user_generator(1, 2**64 - 1).random()


def test_unknown_sampler_lists_the_known_ones():
    with pytest.raises(UserError, match="Unknown negative sampler 'hard'; known: in_cluster, mixed, uniform"):
        NEGATIVE_SAMPLERS.resolve("hard")


def test_the_summary_of_the_examples_counts_negatives_only_where_there_are_some():
    figures = {"positions": 1234, "negatives": {"drawn": 0, "exact": 0, "redrawn": 0, "empty": 0}}
    assert stations.EXAMPLES.headline(figures) == "1,234 training positions, no negatives recorded: none are read"
    figures["negatives"] |= {"drawn": 1230, "empty": 4}
    assert stations.EXAMPLES.headline(figures) == "1,234 training positions, 4 negatives left empty"
