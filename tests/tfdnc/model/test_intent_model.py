"""The intent model: a head of its own, or the partition function of the items' scores."""

import itertools

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.model.catalogue import Catalogue
from tfdnc.model.intent import AUTO_ITEMS, HeadIntent, PartitionIntent, make_intent
from tfdnc.model.randomness import Stream
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower

OFFSETS = (0, 5, 25, 30)
K, N, D = 3, 30, 8
CLUSTERS = np.repeat(np.arange(K), np.diff(OFFSETS))
RNG = np.random.default_rng(0)
COUNTS = RNG.integers(1, 100, N)
STATES = RNG.normal(size=[6, D]).astype(np.float32)
CATALOGUE = Catalogue(tf.constant(RNG.normal(size=[N, D]).astype(np.float32)), OFFSETS, COUNTS)


def sums(scores):
    """`[P, N]` -> `[P, K]` sums of exp(score) by cluster."""
    return np.stack([np.exp(scores[:, start:stop]).sum(axis=1) for start, stop in itertools.pairwise(OFFSETS)], axis=1)


@pytest.mark.parametrize("width", [1, 3])
def test_a_head_has_one_hidden_layer_of_the_width_that_the_config_names(width):
    config = ModelConfig(dim=D, intent="head", intent_width=width)
    head = make_intent(config, TrainConfig(), OFFSETS, tf.float32)
    inner, outer = head._inner._kernel.numpy(), head._outer._kernel.numpy()
    assert (inner.shape, outer.shape) == ((D, width * D), (width * D, K))
    np.testing.assert_allclose(head(STATES, CATALOGUE), np.maximum(STATES @ inner, 0) @ outer, rtol=1e-4, atol=1e-5)


def make_model(offsets=OFFSETS, loss="in_cluster_softmax", encoder="transformer"):
    config = ModelConfig(encoder=encoder, dim=D, max_length=6, intent="partition")
    train = TrainConfig(loss=loss, precision="float32")
    model = Retriever(Tower.make(config, train, offsets, 1, COUNTS), train, seed=1)
    model.tower.item_embeddings.assign(CATALOGUE.embeddings)  # scores that differ
    model.tower.user_vectors(tf.ones([1, 1], tf.int32))
    return model


def make_batch():
    items = np.random.default_rng(1).integers(1, N + 1, [4, 6]).astype(np.int32)
    batch = {"user": np.arange(4, dtype=np.int32), "history": items[:, :-1], "target": items[:, 1:]}
    batch |= {"target_cluster": CLUSTERS[items[:, 1:] - 1].astype(np.int32), "negatives": np.zeros([4, 5, 1], np.int32)}
    return {name: tf.constant(value) for name, value in batch.items()}


def test_a_prior_is_the_share_of_the_training_events_for_every_state():
    intent = make_intent(ModelConfig(dim=D), TrainConfig(intent_weight=0), OFFSETS, tf.float32)
    assert not intent.weights
    counts = np.where(CLUSTERS == 1, 0, COUNTS)
    shares = tf.nn.softmax(intent(STATES, CATALOGUE._replace(counts=counts))).numpy()
    events = np.bincount(CLUSTERS, weights=counts)
    np.testing.assert_allclose(shares, np.tile(events / events.sum(), [6, 1]), atol=1e-4)
    assert (shares > 0).all()  # a cluster without events must not divide by 0


def test_a_partition_sums_up_the_items_of_each_cluster():
    intent = PartitionIntent(K, 10, tf.float32)
    expected = sums(STATES @ CATALOGUE.embeddings.numpy().T)
    np.testing.assert_allclose(np.exp(intent(STATES, CATALOGUE)), expected, rtol=1e-5)
    intent.set_weights([np.log([1.0, 2.0, 3.0])])
    np.testing.assert_allclose(np.exp(intent(STATES, CATALOGUE)), expected * [1, 2, 3], rtol=1e-5)


def test_draws_estimate_the_sum_of_a_large_cluster_without_bias_and_small_ones_are_summed_up():
    intent = PartitionIntent(K, 10, tf.float32)
    estimate = tf.function(lambda step: tf.exp(intent(STATES, CATALOGUE, Stream.at(1, step))))
    drawn = np.stack([estimate(tf.constant(step)) for step in range(2_000)])
    expected = sums(STATES @ CATALOGUE.embeddings.numpy().T)
    for small in (0, 2):
        np.testing.assert_allclose(drawn[:, :, small], np.tile(expected[:, small], [2_000, 1]), rtol=1e-5)
    error = drawn[:, :, 1].std(axis=0) / 2_000**0.5
    assert (error > 0).all()
    assert (np.abs(drawn[:, :, 1].mean(axis=0) - expected[:, 1]) < 4 * error).all()


def test_with_one_user_vector_both_losses_are_together_that_of_the_full_softmax():
    batch = make_batch()
    single, divided = make_model((0, N), "softmax"), make_model()
    for mine, other in zip(divided.tower.encoder.variables, single.tower.encoder.variables, strict=True):
        mine.assign(other)
    whole = batch | {"target_cluster": tf.zeros_like(batch["target_cluster"])}
    assert float(divided.compute_loss(batch)) == pytest.approx(float(single.compute_loss(whole)), rel=1e-5)


def test_with_one_user_vector_intent_and_scores_inside_clusters_make_the_softmax_over_all_items():
    model = make_model()
    vectors, log_intent = model.tower.user_vectors(tf.constant([[3, 9, 30, 1]]))
    scores = vectors[0] @ tf.transpose(CATALOGUE.embeddings)  # [1, N]
    joint = log_intent.numpy()[:, CLUSTERS] + scores - np.log(sums(scores.numpy()))[:, CLUSTERS]
    np.testing.assert_allclose(joint, tf.nn.log_softmax(scores), atol=1e-5)


@pytest.mark.parametrize("encoder", ["hadamard_per_position", "hadamard_literal", "mmoe", "ple", "mind"])
def test_items_learn_from_the_intent_of_every_encoder(encoder):
    model = make_model(encoder=encoder)
    assert np.isfinite(float(model.compute_loss(make_batch())))
    with tf.GradientTape() as tape:
        _, log_intent = model.tower.user_vectors(tf.constant([[3, 9]]))
        likelihood = log_intent[0, 1]
    assert np.abs(tf.convert_to_tensor(tape.gradient(likelihood, model.tower.item_embeddings))).sum(axis=1).all()


@pytest.mark.parametrize(
    ("intent", "offsets", "expected"),
    [
        ("auto", OFFSETS, PartitionIntent),
        ("auto", (0, 5, AUTO_ITEMS), PartitionIntent),
        ("auto", (0, 5, AUTO_ITEMS + 1), HeadIntent),  # every request would score all items
        ("partition", (0, 5, AUTO_ITEMS + 1), PartitionIntent),
        ("head", OFFSETS, HeadIntent),
        ("partition", (0, N), HeadIntent),  # one cluster: nothing to learn, and nothing to pay for
    ],
)
def test_auto_is_what_requests_can_afford(intent, offsets, expected):
    made = make_intent(ModelConfig(intent=intent), TrainConfig(), offsets, tf.float32)
    assert type(made) is expected
