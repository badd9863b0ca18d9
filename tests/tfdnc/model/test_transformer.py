"""The two-stream Transformer and its dropout."""

import functools

import numpy as np
import pytest

from tfdnc.backend import keras, tf
from tfdnc.model.attention_bias import BiasTable, ElapsedBias, PositionTimes
from tfdnc.model.dropout import stateless_dropout
from tfdnc.model.elapsed import NUM_BUCKETS, elapsed_buckets
from tfdnc.model.randomness import Stream, substream
from tfdnc.model.transformer import Transformer

B, L, D = 3, 7, 8


ELAPSED = tf.constant([[5, 0, 3, 1000, 2, 0, 9], [1, 2, 3, 4, 5, 6, 7], [0, -1, 2, 3, 4, 5, 6]], tf.int64)


@pytest.fixture(params=["1 head", "2 heads", "2 heads with biases", "2 heads and gates"])
def trunk(request):
    heads = int(request.param[0])
    gates = "gates" in request.param
    return biased_trunk(heads) if "biases" in request.param else plain_trunk(heads, swiglu=gates, gated=gates)


def plain_trunk(heads=1, **options):
    keras.utils.set_random_seed(0)
    return Transformer(D, blocks=2, heads=heads, dropout=0.5, compute_dtype=tf.float32, **options)


def biased_trunk(heads=1):
    """Biases start at 0, where they would change nothing."""
    trunk = plain_trunk(heads, distances=4, times=True)
    for table in (trunk._distance_bias, trunk._time_bias):
        [rows] = table.variables
        rows.assign(tf.random.stateless_normal(rows.shape, seed=[3, 4]))
    return functools.partial(trunk, elapsed=ELAPSED)


@pytest.mark.parametrize("swiglu", [True, False])
def test_the_feed_forward_layer_is_swiglu_or_one_relu(swiglu, tokens):
    block = plain_trunk(swiglu=swiglu)._blocks[0]
    for variable in (block._inner._bias, block._outer._bias):
        variable.assign(tf.random.stateless_normal(variable.shape, seed=[3, 4]))
    x = tokens.numpy()
    inside = block._feed_forward_norm(x).numpy() @ block._inner._kernel.numpy() + block._inner._bias.numpy()
    gates, values = inside[..., :D], inside[..., -D:]
    hidden = gates / (1 + np.exp(-gates)) * values if swiglu else np.maximum(values, 0)
    expected = x + hidden @ block._outer._kernel.numpy() + block._outer._bias.numpy()
    bias_of_attention = block._out._bias.numpy()
    assert not bias_of_attention.any()
    np.testing.assert_allclose(block._feed_forward(tokens, tf.zeros_like(tokens), None), expected, atol=1e-5)


def test_what_the_heads_have_read_passes_a_gate_of_the_reading_position(tokens):
    read = np.random.default_rng(5).normal(size=[B, 2, L, D // 2]).astype(np.float32)
    beside_each_other = np.concatenate([read[:, 0], read[:, 1]], axis=-1)
    plain, gated = (plain_trunk(heads=2, gated=gated)._blocks[0] for gated in (False, True))
    np.testing.assert_array_equal(plain._joined(tf.constant(read), tokens), beside_each_other)
    opened = tokens.numpy() @ gated._gate._kernel.numpy()
    expected = beside_each_other / (1 + np.exp(-opened))
    np.testing.assert_allclose(gated._joined(tf.constant(read), tokens), expected, atol=1e-5)


def test_biases_that_were_never_trained_change_nothing(tokens):
    plain, biased = plain_trunk(), plain_trunk(distances=4, times=True)
    queries = tokens, tf.range(L)[None]
    for expected, found in zip(plain(tokens, *queries), biased(tokens, *queries, elapsed=ELAPSED), strict=True):
        np.testing.assert_allclose(expected, found, atol=1e-6)


def test_a_bias_is_that_of_the_distance_and_of_the_time_elapsed_until_the_query(tokens):
    trunk = plain_trunk(distances=3, times=True)
    trunk._distance_bias.variables[0].assign([[1.0], [2.0], [4.0]])
    trunk._time_bias.variables[0].assign(10.0 * tf.range(65, dtype=tf.float32)[:, None])
    positions = tf.range(3)[None]
    times = PositionTimes.of(tf.constant([[5, 0, 3], [5, -1, 3]], tf.int64))
    mask = (trunk._mask(positions, positions) + trunk._bias_by_time(positions, positions, times))[:, 0].numpy()
    # In the first row events are at 0, 5, 5 and queries at 5, 5, 8. Elapsed are 5; 5, 0; 8, 3, 3.
    buckets = np.array([[4, 0, 0], [4, 1, 0], [5, 3, 3]])
    distances = np.array([[1, 0, 0], [2, 1, 0], [4, 2, 1]])
    lower = np.tril(np.ones([3, 3], bool))
    np.testing.assert_array_equal(mask[0][lower], (10 * buckets + distances)[lower])
    np.testing.assert_array_equal(mask[1][lower], distances[lower])  # one time unknown: no bias by time
    assert (mask[:, ~lower] < -1e8).all()


@pytest.mark.parametrize("batch", [1, B])
def test_the_gradient_of_a_bias_sums_over_all_positions_that_use_it(batch):
    rng = np.random.default_rng(4)
    table = BiasTable(5, heads=2)
    numbers = rng.integers(0, 4, [batch, L, L])  # the last row is not used
    upstream = rng.normal(size=[batch, 2, L, L]).astype(np.float32)
    with tf.GradientTape() as tape:
        biases = table(tf.constant(numbers))
    gradient = tape.gradient(biases, table.variables[0], output_gradients=tf.constant(upstream))
    expected = np.zeros([5, 2])
    np.add.at(expected, numbers.ravel(), upstream.transpose(0, 2, 3, 1).reshape(-1, 2))
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_the_bias_of_an_elapsed_time_is_that_of_its_power_of_two():
    table = ElapsedBias(heads=2)
    table.variables[0].assign(tf.random.stateless_normal([NUM_BUCKETS, 2], seed=[3, 4]))
    elapsed = tf.constant([[[-(2**62), -1, 0, 1, 2], [3, 4, 2**24 - 1, 2**53 - 1, 2**63 - 1]]], tf.int64)
    with tf.GradientTape() as tape:
        biases = table(elapsed)
        total = tf.reduce_sum(biases)
    rows, buckets = table.variables[0].numpy(), elapsed_buckets(elapsed)[0].numpy()
    np.testing.assert_array_equal(biases[0], rows[buckets].transpose(2, 0, 1))
    often = np.bincount(buckets.ravel(), minlength=NUM_BUCKETS)
    gradient = tf.convert_to_tensor(tape.gradient(total, table.variables[0]))
    np.testing.assert_array_equal(gradient, np.stack([often, often], axis=1))


def test_a_query_has_the_biases_of_its_position(tokens):
    trunk = biased_trunk(2).func
    times, positions = PositionTimes.of(ELAPSED), tf.range(L)[None]
    by_time = trunk._bias_by_time(positions, positions, times)
    causal, asked = (trunk._mask(positions, positions, strictly) + by_time for strictly in (False, True))
    below = np.broadcast_to(np.tril(np.ones([L, L], bool), -1), causal.shape)
    np.testing.assert_array_equal(asked.numpy()[below], causal.numpy()[below])
    assert (asked.numpy()[~below] < -1e8).all()
    own = np.diagonal(causal.numpy(), axis1=2, axis2=3)
    np.testing.assert_allclose(trunk._bias_of_own(positions, times).numpy()[..., 0], own, rtol=1e-6)


def test_queries_at_the_positions_of_the_prefix_need_no_reach(trunk, tokens):
    np.testing.assert_array_equal(trunk(tokens, tokens).queries, trunk(tokens, tokens, tf.range(L)[None]).queries)


@pytest.fixture
def tokens():
    return tf.random.stateless_normal([B, L, D], seed=[1, 2])


def test_a_state_depends_on_nothing_later(trunk, tokens):
    changed = tf.concat([tokens[:, :4], tokens[:, :3]], axis=1)
    before, after = trunk(tokens).prefix, trunk(changed).prefix
    np.testing.assert_allclose(before[:, :4], after[:, :4], atol=1e-6)
    assert not np.allclose(before[:, 4:], after[:, 4:], atol=1e-3)


def test_a_query_equals_the_same_token_at_the_end_of_the_prefix_it_reaches(trunk, tokens):
    expected = trunk(tokens).prefix  # [B, L, D]
    reach = tf.range(L)[None]
    queries = trunk(tokens, tokens, reach).queries
    np.testing.assert_allclose(queries, expected, atol=1e-5)


def test_queries_do_not_see_each_other_and_are_not_seen(trunk, tokens):
    alone = trunk(tokens, tokens[:, :1], tf.constant([[3]]))
    both = trunk(tokens, tf.concat([tokens[:, :1], tokens[:, 5:6]], axis=1), tf.constant([[3, 6]]))
    np.testing.assert_allclose(alone.queries, both.queries[:, :1], atol=1e-6)
    np.testing.assert_allclose(alone.prefix, trunk(tokens).prefix, atol=1e-6)


def test_a_query_without_a_prefix_reads_only_itself(trunk, tokens):
    first = trunk(tokens).prefix[:, :1]
    on_padding = trunk(tokens, tokens[:, :1], tf.constant([[0]]), need_prefix=False)
    on_nothing = trunk(tokens[:, :0], tokens[:, :1], tf.constant([[0]]), need_prefix=False)
    assert on_padding.prefix is None
    np.testing.assert_allclose(on_padding.queries, first, atol=1e-5)
    np.testing.assert_allclose(on_nothing.queries, first, atol=1e-5)


def test_tokens_before_the_prefix_are_first_tokens_where_there_is_no_bias(tokens):
    trunk, first, later = plain_trunk(2), tokens[:, :1], tokens[:, 1:]
    whole = trunk(tokens, later, tf.range(1, L)[None])
    found = trunk(later, later, tf.range(L - 1)[None], before=first)
    np.testing.assert_allclose(found.prefix, whole.prefix[:, 1:], atol=1e-6)
    np.testing.assert_allclose(found.queries, whole.queries, atol=1e-6)


def test_no_bias_concerns_the_tokens_before_the_prefix_and_those_of_the_prefix_stay(tokens):
    trunk, before, positions = biased_trunk(2).func, tokens[:, ::3], tf.range(L)[None]  # [B, 3, D]
    mask = np.full([B, 2, 3 + L, 3 + L], -1e9, np.float32)
    mask[..., 3:, 3:] = trunk._mask(positions, positions) + trunk._bias_by_time(
        positions, positions, PositionTimes.of(ELAPSED)
    )
    mask[..., :3] = 0
    states = tf.concat([before, tokens], axis=1)
    for block in trunk._blocks:
        normed = block._attention_norm(states)
        read = block._attend(*block._heads_of(normed), tf.constant(mask))
        states = block._feed_forward(states, block._joined(read, normed), None)
    found = trunk(tokens, elapsed=ELAPSED, before=before).prefix
    np.testing.assert_allclose(found, trunk._norm(states)[:, 3:], atol=1e-5)


def test_products_in_bfloat16_stay_near_float32(tokens):
    def states(dtype):
        keras.utils.set_random_seed(0)
        return trunk_of(dtype)(tokens, tokens, tf.range(L)[None])

    def trunk_of(dtype):
        return Transformer(D, blocks=2, heads=2, dropout=0.0, compute_dtype=dtype)

    for exact, rough in zip(states(tf.float32), states(tf.bfloat16), strict=True):
        assert rough.dtype == tf.float32
        np.testing.assert_allclose(exact, rough, atol=0.1)


def test_dropout_is_a_function_of_its_stream(trunk, tokens):
    def states(seed, step):
        return trunk(tokens, stream=Stream.at(seed, step)).prefix.numpy()

    np.testing.assert_array_equal(states(1, 2), states(1, 2))
    assert not np.allclose(states(1, 2), states(1, 3))
    assert not np.allclose(states(1, 2), trunk(tokens).prefix)


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    x = tf.ones([1001, 99])
    dropped = stateless_dropout(x, 0.2, Stream.at(3, 4)).numpy()
    assert np.mean(dropped == 0) == pytest.approx(51 / 256, abs=0.005)
    assert dropped.mean() == pytest.approx(1.0, abs=0.01)
    assert len(np.unique(dropped)) == 2


def test_dropout_differs_between_operations_and_elements():
    x, streams = tf.ones([64, 64]), [substream(Stream.at(3, 4), name) for name in ("one", "other")]
    one, other = (stateless_dropout(x, 0.5, stream).numpy() != 0 for stream in streams)
    assert np.mean(one == other) == pytest.approx(0.5, abs=0.05)
    assert abs(np.corrcoef(one[:, 0], one[:, 1])[0, 1]) < 0.5


def test_without_stream_or_rate_nothing_is_dropped():
    x = tf.ones([4, 4])
    assert stateless_dropout(x, 0.5, None) is x
    assert stateless_dropout(x, 0.0, Stream.at(1, 1)) is x
