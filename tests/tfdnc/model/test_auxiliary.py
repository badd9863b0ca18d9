"""Auxiliary objectives against NumPy, and the second view of a batch that they compare."""

import numpy as np
import pytest

from tests.tfdnc.model.small_model import N, batch_of, make, random_sequences
from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError
from tfdnc.model.auxiliary import AUXILIARIES, Views, draw_masked
from tfdnc.model.randomness import Stream

RNG = np.random.default_rng(4)
P, D = 7, 5
STATES, OTHERS, ITEMS = (RNG.normal(size=[P, D]).astype(np.float32) for _ in range(3))
MASKED = np.array([True, False, True, False, False, True, False])


def compute(name, states=STATES, others=OTHERS, masked=MASKED):
    return AUXILIARIES.resolve(name)(Views(*map(tf.constant, (states, others, ITEMS, masked)))).numpy()


def test_canonical_correlation_draws_the_standardised_views_together_and_their_dimensions_apart():
    views = [(view - view.mean(axis=0)) / view.std(axis=0) for view in (STATES, OTHERS)]
    apart = sum(np.square(np.eye(D) - np.corrcoef(view, rowvar=False)).sum() for view in views)
    expected = np.square(views[0] - views[1]).sum(axis=1) + 1e-3 * apart
    np.testing.assert_allclose(compute("canonical_correlation"), expected, rtol=1e-4)


def test_the_same_view_twice_without_correlations_costs_nothing():
    orthogonal = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    found = AUXILIARIES.resolve("canonical_correlation")(Views(orthogonal, orthogonal, orthogonal, MASKED[:4]))
    np.testing.assert_allclose(found, np.zeros(4), atol=1e-6)


def test_canonical_correlation_of_one_position_is_finite():
    assert np.isfinite(compute("canonical_correlation", STATES[:1], OTHERS[:1])).all()


def test_reconstruction_names_the_masked_items_by_their_direction():
    expected = []
    for other, item in zip(OTHERS[MASKED], ITEMS[MASKED], strict=True):
        cosine = other @ item / (np.linalg.norm(other) * np.linalg.norm(item))
        expected.append((1 - cosine) ** 3)
    np.testing.assert_allclose(compute("masked_reconstruction"), expected, rtol=1e-5)
    assert compute("masked_reconstruction", masked=np.zeros(P, bool)).shape == (0,)


def test_reconstruction_moves_the_state_and_not_the_item():
    states, items = tf.constant(OTHERS), tf.constant(ITEMS)
    with tf.GradientTape() as tape:
        tape.watch([states, items])
        loss = tf.reduce_sum(
            AUXILIARIES.resolve("masked_reconstruction")(Views(states, states, items, tf.constant(MASKED)))
        )
    moved, kept = tape.gradient(loss, [states, items])
    np.testing.assert_array_equal(np.any(moved.numpy(), axis=1), MASKED)
    assert kept is None


def test_a_second_view_lacks_a_share_of_the_items_others_in_every_step():
    history = np.tile(np.array([5, 2, 9, 0, 0], np.int32), [400, 1])
    masked = draw_masked(tf.constant(history), 0.25, Stream.at(1, 1)).numpy()
    assert not masked[:, 3:].any()  # padding holds no item
    assert masked[:, :3].mean() == pytest.approx(0.25, abs=0.05)
    assert (masked != draw_masked(tf.constant(history), 0.25, Stream.at(1, 2)).numpy()).any()


def with_auxiliary(encoder="transformer"):
    weights = {name: 0.5 for name in AUXILIARIES}
    return make(encoder, model={"dropout": 0.0}, auxiliary=weights)


def test_a_step_adds_the_objectives_by_their_weights():
    """One step of a model with both, beside the same step without."""
    batch = batch_of(random_sequences(6))
    figures = {name: float(value) for name, value in with_auxiliary().train_step(batch).items()}
    plain = {
        name: float(value) for name, value in make("transformer", model={"dropout": 0.0}).train_step(batch).items()
    }
    assert {name: figures[name] for name in ("retrieval_loss", "intent_loss")} == pytest.approx(
        {name: plain[name] for name in ("retrieval_loss", "intent_loss")}
    )
    added = 0.5 * (figures["canonical_correlation_loss"] + figures["masked_reconstruction_loss"])
    assert added > 0
    assert figures["loss"] == pytest.approx(plain["loss"] + added)
    assert float(with_auxiliary().compute_loss(batch, training=True)) == pytest.approx(figures["loss"])


def test_a_masked_item_leaves_nothing_of_itself_in_its_token():
    model = make("transformer", model={"history_clusters": True})
    history = tf.constant([[3, 9, 17], [1, 2, 20]])
    tokens = model.tower.tokens(model.tower.item_vectors(), history, masked=tf.constant([[True, False, True]] * 2))
    np.testing.assert_array_equal(tokens[:, ::2], np.zeros([2, 2, tokens.shape[2]]))
    whole = model.tower.tokens(model.tower.item_vectors(), history)
    np.testing.assert_array_equal(tokens[:, 1], whole[:, 1])


@pytest.mark.parametrize("encoder", ["hadamard_per_position", "hadamard_state", "ple", "comirec"])
def test_a_resumed_step_has_the_views_it_would_have_had(encoder):
    def loss_at(step):
        model = with_auxiliary(encoder)
        model.optimizer.iterations.assign(step)
        return float(model.compute_loss(batch_of(random_sequences(4)), training=True))

    assert loss_at(5) == loss_at(5)
    assert loss_at(5) != loss_at(6)


def test_states_without_tokens_have_no_second_view():
    with pytest.raises(UserError, match=r"train\.auxiliary only with an encoder that reads order, user_embedding does"):
        with_auxiliary("user_embedding")


def test_an_unknown_objective_lists_the_known_ones():
    with pytest.raises(UserError, match="Unknown auxiliary objective 'cca'; known: canonical_correlation, masked_rec"):
        make("transformer", auxiliary={"cca": 1.0})


def test_one_cluster_has_objectives_too():
    model = make("transformer", "softmax", offsets=(0, N), auxiliary={"canonical_correlation": 0.1})
    batch = batch_of(random_sequences(4))
    batch["target_cluster"] = tf.zeros_like(batch["target_cluster"])
    assert np.isfinite(float(model.compute_loss(batch, training=True)))
