"""The intent model: a head of its own, or the partition function of the items' scores."""

import itertools

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.model.catalogue import Catalogue
from tfdnc.model.intent import (
    CHEAP_ITEMS,
    MOST_ITEMS,
    SPARSE_EVENTS,
    HeadIntent,
    HistoryIntent,
    PartitionIntent,
    PriorIntent,
    intent_kind,
    make_intent,
)
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
    head = make_intent("head", config, TrainConfig(), OFFSETS, tf.float32)
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
    intent = make_intent("prior", ModelConfig(dim=D), TrainConfig(), OFFSETS, tf.float32)
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


@pytest.mark.parametrize("encoder", ["transformer", "hadamard_per_position", "hadamard_literal"])
def test_a_history_intent_is_the_share_of_the_users_own_events_and_trains_nothing(encoder):
    config, train = ModelConfig(encoder=encoder, dim=D, max_length=6, intent="history"), TrainConfig()
    tower = Tower.make(config, train, OFFSETS, 1, COUNTS)
    history = np.array([[1, 6, 30, 7], [2, 0, 0, 0], [0, 0, 0, 0]], np.int32)
    expected = np.log([[2 / 7, 3 / 7, 2 / 7], [2 / 4, 1 / 4, 1 / 4], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(tower.user_vectors(tf.constant(history))[1], expected, atol=1e-6)
    if tower.encode_per_vector:
        np.testing.assert_allclose(tower.log_intent(tf.constant(history)), expected, atol=1e-6)
    assert not Retriever(tower, train, seed=1)._learns_intent


ONE, MANY = 1, SPARSE_EVENTS  # training events of an item


@pytest.mark.parametrize(
    ("intent", "items", "events", "expected"),
    [
        ("auto", CHEAP_ITEMS, ONE, "partition"),
        ("auto", CHEAP_ITEMS, MANY, "partition"),  # it costs little
        ("auto", CHEAP_ITEMS + 1, MANY - 1, "partition"),  # a head would overfit
        ("auto", CHEAP_ITEMS + 1, MANY, "head"),
        ("auto", MOST_ITEMS, ONE, "partition"),
        ("auto", MOST_ITEMS + 1, ONE, "head"),  # every request would score all items
        ("partition", MOST_ITEMS + 1, MANY, "partition"),
        ("head", CHEAP_ITEMS, ONE, "head"),
        ("history", CHEAP_ITEMS, ONE, "history"),
    ],
)
def test_auto_decides_by_events_per_item_and_by_the_cost_of_a_request(intent, items, events, expected):
    counts = np.full(items, events)
    assert intent_kind(ModelConfig(intent=intent), TrainConfig(), (0, 5, items), counts) == expected
    untrained = intent_kind(ModelConfig(intent=intent), TrainConfig(intent_weight=0), (0, 5, items), counts)
    assert untrained == ("history" if intent == "history" else "prior")  # a history was the prior in silence
    assert intent_kind(ModelConfig(intent=intent), TrainConfig(), (0, items), counts) == "head"  # one cluster


def test_items_without_events_do_not_make_a_log_sparse():
    counts = np.repeat([MANY, 0], CHEAP_ITEMS)
    assert intent_kind(ModelConfig(), TrainConfig(), (0, 5, 2 * CHEAP_ITEMS), counts) == "head"


@pytest.mark.parametrize("layer", [HeadIntent, PartitionIntent, PriorIntent, HistoryIntent])
def test_a_kind_makes_its_layer(layer):
    assert type(make_intent(layer.kind, ModelConfig(dim=D), TrainConfig(), OFFSETS, tf.float32)) is layer
