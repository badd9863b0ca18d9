"""The items that pass: random rules against an oracle that asks every item, and messages about unknown conditions."""

import numpy as np
import pytest

from tests.tfdnc.export.graph_ops import gathered_variables
from tests.tfdnc.retrieval.rules.rule_oracle import draw_attributes, draw_conditions, passes
from tfdnc.backend import tf
from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.errors import UserError
from tfdnc.retrieval.rules.planes import build_planes
from tfdnc.retrieval.rules.rules import Rules

SIZES = (1, 70, 0, 64, 130)
N, K = sum(SIZES), len(SIZES)
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])
CLUSTERS = np.repeat(np.arange(K), SIZES)
NAMES = ["drama", "comedy", "empty", "drama", "war = peace"]
BATCH = 64


@pytest.fixture(scope="module")
def attributes():
    return draw_attributes(np.random.default_rng(1), N)


@pytest.fixture(scope="module")
def passing(attributes, tmp_path_factory):
    """A function of conditions, allowed items and their mask: `Passing` for BATCH rows."""
    rules = Rules(build_planes(attributes, OFFSETS), NAMES, tmp_path_factory.mktemp("assets"))
    signature = [
        tf.TensorSpec([None, None], tf.string),
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None], tf.bool),
    ]

    @tf.function(input_signature=signature, autograph=False)
    def run(where, allowed, only):
        found = rules.passing(where, allowed, only)
        rows = tf.broadcast_to(tf.range(N), [tf.shape(where)[0], N])
        masks = tf.concat(found.of_clusters(), axis=1)
        return (
            found.contains(rows, tf.constant(CLUSTERS)),
            masks,
            found.counts(),
            found.rows_of(found.rule[0], tf.fill([K], True)),
        )

    return run


def as_array(rows):
    width = max(1, *map(len, rows))
    return tf.constant([["", *row] + [""] * (width - len(row)) for row in rows])


def test_planes_are_read_without_a_copy(passing):
    """A gather on their variable made every read of a range a copy of all planes: 3 ms per request, a million items."""
    graph = passing.get_concrete_function().graph
    assert gathered_variables(graph) <= {tf.int32}  # that of the lists of rare texts, which nothing reads whole


def test_items_pass_as_the_oracle_says(passing, attributes):
    """10,000 rules: every kind of condition, alternatives, ranges, clusters, and allowed items."""
    rng = np.random.default_rng(0)
    alone = {}
    for _ in range(-(-10_000 // BATCH)):
        rows = [draw_conditions(rng, attributes, NAMES) for _ in range(BATCH)]
        only = rng.random(BATCH) < 0.2
        allowed = np.where(only[:, None], np.stack([rng.permutation(N + 1)[:20] for _ in range(BATCH)]), 0)
        expected = []
        for row, conditions in enumerate(rows):
            mask = np.ones(N, bool)
            for one in _columns(conditions):
                if one not in alone:  # an oracle per column: columns hold independently of each other
                    alone[one] = np.array([passes(i, one, attributes, NAMES[CLUSTERS[i]]) for i in range(N)])
                mask &= alone[one]
            expected.append(mask & (np.isin(np.arange(1, N + 1), allowed[row]) if only[row] else True))
        contained, masks, counts, first = passing(as_array(rows), tf.constant(allowed, tf.int32), tf.constant(only))
        np.testing.assert_array_equal(contained, expected)
        np.testing.assert_array_equal(masks, expected)
        np.testing.assert_array_equal(first, np.flatnonzero(expected[0]))
        np.testing.assert_array_equal(counts, [[mask[k == CLUSTERS].sum() for k in range(K)] for mask in expected])


def _columns(conditions):
    """The conditions of every column, as a key."""
    by_column = {}
    for condition in sorted(conditions):
        by_column.setdefault(min(condition.split(sign)[0] for sign in "=!<>"), []).append(condition)
    return {tuple(own) for own in by_column.values()}


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("brnd=acme", "got brnd=acme. Columns: brand, tags, in stock, price, days, cluster."),
        ("brand=acme", "got brand=acme. brand: brand 0, brand 1, brand 2"),
        ("brand!=acme", "got brand!=acme. brand: brand 0"),
        ("brand<3", "got brand<3. brand: brand 0"),
        ("in stock=yes", "in stock: true, false."),
        ("price=3", "price: numbers between .* as in price>=1 or price<20"),
        ("price<cheap", "price: numbers between"),
        ("days>=nan", "days: numbers between"),
        ("cluster=horror", "cluster: drama, comedy, empty, war = peace."),
        ("cheap", "got cheap. Columns: brand"),
        ("price", "got price. Columns: brand"),
    ],
)
def test_unknown_conditions_are_refused_with_the_known_ones(passing, condition, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        passing(tf.constant([["", "brand=brand 1", condition]]), tf.zeros([1, 0], tf.int32), tf.constant([False]))


def test_a_row_has_a_bounded_number_of_conditions(passing):
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 256 conditions"):
        passing(tf.constant([["brand=brand 1"] * 257]), tf.zeros([1, 0], tf.int32), tf.constant([False]))


def test_attributes_take_at_most_eight_bytes_per_item():
    """40 frequent values, and two numbers of up to a thousand different ones."""
    size = 100_000
    rng = np.random.default_rng(0)
    pool = [tuple(f"v{n}" for n in np.flatnonzero(rng.random(40) < 0.1)) for _ in range(500)]
    tags = Attribute("tags", "values", [pool[n] for n in rng.integers(0, len(pool), size)])
    numbers = [Attribute(name, "number", numbers=rng.integers(0, 1000, size) / 10) for name in ("price", "age")]
    planes = build_planes([tags, *numbers], [0, size // 2, size])
    assert len(planes.conditions) == 40
    assert planes.bytes_per_item <= 8


def test_the_description_has_values_with_their_items_and_ranges(attributes):
    described = build_planes(attributes, OFFSETS).described()
    brand, _, stock, price, _ = described
    counts = {f"brand {n}": sum((f"brand {n}",) == own for own in attributes[0].texts) for n in range(9)}
    assert brand == {"name": "brand", "kind": "value", "values": {text: n for text, n in counts.items() if n}}
    assert stock["values"].keys() == {"true", "false"}
    assert price["range"] == [np.nanmin(attributes[3].numbers), np.nanmax(attributes[3].numbers)]


def test_values_with_line_breaks_are_refused():
    with pytest.raises(UserError, match="without line breaks in the attribute tags"):
        build_planes([Attribute("tags", "values", [("a\nb",)])], [0, 1])
