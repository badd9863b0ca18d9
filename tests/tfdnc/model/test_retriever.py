"""One contract for every user encoder, and what tells them apart."""

import functools
import itertools

import numpy as np
import pytest

from tests.tfdnc.model.small_model import (
    CLUSTERS,
    COUNTS,
    OFFSETS,
    D,
    K,
    N,
    batch_of,
    histories,
    intent_of,
    make,
    random_sequences,
)
from tfdnc.backend import tf
from tfdnc.contracts.errors import UserError
from tfdnc.model.encoders import USER_ENCODERS, Windows
from tfdnc.model.encoders.interests import _number_of_interests
from tfdnc.model.encoders.simple import fold_in
from tfdnc.model.losses import LOSSES
from tfdnc.model.randomness import Stream

INTERESTS = 4
ORDER_FREE = {"item_counts", "user_embedding", "mind"}  # mind: up to the routing start, unread for three items
EXPECTED_VECTORS = {"transformer": 1, "user_embedding": 1, "item_counts": 1, "mind": INTERESTS, "comirec": INTERESTS}
DRAWING = ("sampled_softmax", "in_cluster_sampled_softmax", "gbce", "in_cluster_gbce")  # losses with their own draws


def learn_two_tastes(encoder, loss, steps=100):
    """Taste A walks 1 2 3 4 5, taste B walks 16 17 18 19 20; the next item is certain in either."""
    model = make(encoder, loss, model={"blocks": 1})
    batch = batch_of([[1, 2, 3, 4, 5], [16, 17, 18, 19, 20]] * 4)
    step = tf.function(model.train_step)
    for _ in range(steps):
        step(batch)
    if encoder == "item_counts":
        return  # has nothing to learn
    seen = histories([1, 2, 3], [16, 17, 18])
    vectors, log_intent = model.tower.user_vectors(seen)
    if encoder != "user_embedding":  # its intent head knows trained embeddings, not folded-in ones
        np.testing.assert_array_equal(np.argmax(log_intent, axis=1), [0, 2])
    for row, (cluster, items) in enumerate([(0, {4, 5}), (2, {19, 20})]):
        mine = vectors[row, cluster : cluster + 1] if model.tower.vectors_per_cluster else vectors[row]
        scores = (model.tower.item_embeddings.numpy() @ mine.numpy().T).max(axis=1)
        scores[seen[row].numpy() - 1] = -np.inf
        found = OFFSETS[cluster] + scores[OFFSETS[cluster] : OFFSETS[cluster + 1]].argmax() + 1
        assert found in (items if encoder in ORDER_FREE else {min(items)})


@pytest.mark.parametrize("loss", sorted(set(LOSSES) - {"in_cluster_softmax"}))
def test_every_loss_learns(loss):
    # A few draws for a whole batch tell an item from its neighbours in some of the steps only.
    learn_two_tastes("transformer", loss, steps=300 if loss in DRAWING else 100)


def windows_of(model, batch):
    return Windows(
        batch["user"],
        model.tower.tokens(model.tower.item_vectors(), batch["history"]),
        tf.gather(model.tower.item_vectors(), tf.maximum(batch["target"] - 1, 0)),
        batch["target_cluster"],
        batch["target"] > 0,
    )


@pytest.mark.parametrize("encoder", sorted(USER_ENCODERS))
class TestEveryConditioning:
    def test_shapes(self, encoder):
        model = make(encoder)
        vectors, log_intent = model.tower.user_vectors(histories([1, 2, 3], [4]))
        assert vectors.shape == [2, EXPECTED_VECTORS.get(encoder, K), D]
        assert log_intent.shape == [2, K]
        np.testing.assert_allclose(np.exp(log_intent).sum(axis=1), 1, rtol=1e-5)

    def test_an_empty_history_gives_finite_values(self, encoder):
        for rows in (histories([0, 0]), histories([1, 2], [0, 0])):
            for values in make(encoder).tower.user_vectors(rows):
                assert np.all(np.isfinite(values))

    def test_padding_and_company_change_nothing(self, encoder):
        model = make(encoder)
        alone = model.tower.user_vectors(histories([3, 9, 17]))
        in_company = model.tower.user_vectors(histories([3, 9, 17], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [5]))
        for single, many in zip(alone, in_company, strict=True):
            np.testing.assert_allclose(single[0], many[0], atol=1e-5)

    def test_order_matters_to_those_who_read_sequences(self, encoder):
        vectors, _ = make(encoder).tower.user_vectors(histories([3, 9, 17], [9, 3, 17]))
        assert np.allclose(vectors[0], vectors[1], atol=1e-4) == (encoder in ORDER_FREE)

    def test_a_training_step_is_a_function_of_seed_and_step(self, encoder):
        def losses():
            model = make(encoder, model={"blocks": 1})
            return [float(model.train_step(batch_of(random_sequences(4)))["loss"]) for _ in range(3)]

        first = losses()
        assert first == losses()
        assert np.all(np.isfinite(first))

    @pytest.mark.slow  # 3 s for each; tests/test_methods.py trains them all by default, and lists the right taste
    def test_learns_a_log_with_two_disjoint_tastes(self, encoder):
        learn_two_tastes(encoder, "in_cluster_softmax")

    def test_nothing_that_a_request_reads_is_left_out_of_a_bundle(self, encoder):
        # MIND's routing start is not trained; saved with the trainable variables only, its bundle could not be written.
        model = make(encoder)
        specs = [tf.TensorSpec([None, None], tf.int32)]
        graph = tf.function(model.tower.user_vectors, input_signature=specs).get_concrete_function().graph
        read = {variable.ref() for variable in graph.variables}
        assert read <= {variable.ref() for variable in model.tower.serving_variables}

    def test_every_variable_learns(self, encoder):
        model = make(encoder)
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch_of(random_sequences(30)), training=True)
        gradients = tape.gradient(loss, model.trainable_variables)
        silent = [
            variable.name
            for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
            if gradient is None or not np.any(tf.convert_to_tensor(gradient))
        ]
        assert silent == []


@pytest.mark.parametrize("loss", DRAWING)
def test_a_resumed_step_draws_the_items_it_would_have_drawn(loss):
    def loss_at(step):
        model = make("transformer", loss, model={"dropout": 0.0})
        model.optimizer.iterations.assign(step)
        return float(model.compute_loss(batch_of(random_sequences(4)), training=True))

    assert loss_at(5) == loss_at(5)
    assert loss_at(5) != loss_at(6)


def test_the_counts_of_the_items_reach_the_loss():
    def loss_with(counts):
        model = make("transformer", "sampled_softmax", model={"dropout": 0.0}, counts=counts, negative_exponent=1.0)
        return float(model.compute_loss(batch_of(random_sequences(4)), training=True))

    assert loss_with(None) == loss_with(np.full(N, 7))
    assert loss_with(None) != loss_with(np.arange(N))


@pytest.mark.parametrize("encoder", ["hadamard_per_position", "hadamard_state", "target_attention", "mmoe", "ple"])
def test_training_states_of_every_cluster_equal_what_a_request_computes(encoder):
    """Teacher-forced prompts of a history, for one, are the prompts that a request gives its prefix."""
    model = make(encoder)
    sequence = [3, 9, 17, 1, 6]
    states = model.tower.encoder.training_states(windows_of(model, batch_of([sequence])), None)
    for length in range(1, len(sequence)):
        vectors, log_intent = model.tower.user_vectors(histories(sequence[:length]))
        asked = CLUSTERS[sequence[length] - 1]
        np.testing.assert_allclose(vectors[0, asked], states.retrieval[0, length - 1], atol=1e-5)
        intent = intent_of(model.tower, states.intent[:, length - 1])
        np.testing.assert_allclose(log_intent, intent, atol=1e-5)


def test_the_intent_of_a_position_does_not_know_the_answer():
    """The prompt of position j names the target's cluster; the intent query of position j must not read it."""
    model = make("hadamard_per_position")
    one, other = batch_of([[3, 9, 1]]), batch_of([[3, 9, 20]])  # targets in clusters 0 and 2
    intents = [model.tower.encoder.training_states(windows_of(model, batch), None).intent for batch in (one, other)]
    np.testing.assert_array_equal(*intents)


@pytest.mark.parametrize("encoder", ["hadamard_literal", "prefix"])
def test_the_wanted_vectors_are_those_of_a_whole_request(encoder):
    model = make(encoder)
    rows = histories([3, 9, 17], [], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [5])
    vectors, log_intent = model.tower.user_vectors(rows)
    np.testing.assert_allclose(model.tower.log_intent(rows), log_intent, atol=1e-5)
    for share in (0.0, 0.5, 1.0):
        wanted = np.random.default_rng(7).random([4, K]) < share
        expected = np.where(wanted[:, :, None], vectors, 0)
        np.testing.assert_allclose(model.tower.wanted_vectors(rows, wanted), expected, atol=1e-5)


def test_literal_prompts_multiply_every_position_by_the_same_task_embedding():
    """Eq. 5: e_k = Transformer([s_1 * t_k, ..., s_L * t_k])."""
    model = make("hadamard_literal")
    history = histories([3, 9, 17])
    vectors, _ = model.tower.user_vectors(history)
    tokens, encoder = model.tower.tokens(model.tower.item_vectors(), history), model.tower.encoder
    for cluster in range(K):
        prompted = tokens * encoder._task_embeddings[cluster] + encoder._positions[:3]
        np.testing.assert_allclose(vectors[:, cluster], encoder._trunk(prompted).prefix[:, -1], atol=1e-5)


def test_literal_training_trains_one_cluster_per_sequence():
    model = make("hadamard_literal")
    batch = batch_of(random_sequences(50))
    states = model.tower.encoder.training_states(windows_of(model, batch), Stream.at(1, 2))
    trained = states.trained.numpy()
    assert trained.any(axis=1).all()
    for row in range(50):
        clusters = batch["target_cluster"].numpy()[row]
        chosen = set(clusters[trained[row]])
        assert len(chosen) == 1
        # Every position of the drawn cluster is trained, none beyond the end of the sequence.
        expected = (clusters == chosen.pop()) & (batch["target"].numpy()[row] > 0)
        np.testing.assert_array_equal(trained[row], expected)


def test_a_single_cluster_has_no_intent_to_learn():
    model = make("transformer", "softmax", offsets=(0, N))
    batch = batch_of(random_sequences(4))
    batch["target_cluster"] = tf.zeros_like(batch["target_cluster"])
    assert np.isfinite(float(model.compute_loss(batch, training=True)))
    # A trainable head without a loss made Keras warn of missing gradients in every training.
    assert not model.tower.intent.trainable_variables
    _, log_intent = model.tower.user_vectors(histories([1, 2]))
    np.testing.assert_array_equal(log_intent, [[0.0]])


def test_without_weight_the_intent_is_the_prior_not_learned_and_not_computed():
    batch = batch_of(random_sequences(6))
    model = make("hadamard_per_position", intent_weight=0.0)
    events = np.array([sum(COUNTS[start:stop]) for start, stop in itertools.pairwise(OFFSETS)])
    prior = np.exp(model.tower.user_vectors(histories([1], [9, 3]))[1])
    np.testing.assert_allclose(prior, [events / events.sum()] * 2, rtol=1e-4)
    assert [metric.name for metric in model.metrics] == ["retrieval_loss"]
    assert float(model.compute_loss(batch)) == pytest.approx(float(model._retrieval_loss.result()))
    products = []
    for weight in (0.0, 1.0):
        step = tf.function(make("hadamard_per_position", intent_weight=weight).compute_loss)
        pruned = tf.compat.v1.graph_util.extract_sub_graph(
            (graph := step.get_concrete_function(batch).graph).as_graph_def(), [graph.outputs[0].op.name]
        )
        products.append(sum("MatMul" in node.op for node in pruned.node))
    plain = tf.function(make("transformer", intent_weight=0.0).compute_loss).get_concrete_function(batch).graph
    assert products[0] == sum("MatMul" in op.type for op in plain.get_operations()) < products[1]


def test_unknown_names_are_listed():
    with pytest.raises(UserError, match="known: comirec, hadamard_literal, hadamard_per_position, hadamard_state"):
        make("hadamar")


def routing_of_one_prefix(behaviours, start, interests):
    """MIND's B2I dynamic routing for one history `[L, D]`, as its Algorithm 1 reads."""
    used = max(1, min(interests, int(np.log2(len(behaviours)))))
    logits = start[:used, : len(behaviours)].copy()
    for iteration in range(3):
        weights = np.exp(logits) / np.exp(logits).sum(axis=0)
        sums = weights @ behaviours
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        capsules = sums / norms * norms**2 / (1 + norms**2)
        if iteration < 2:
            logits += capsules @ behaviours.T
    return np.concatenate([capsules, np.repeat(capsules[:1], interests - used, axis=0)])


def test_mind_routes_every_prefix_as_its_algorithm_does():
    model = make("mind")
    encoder = model.tower.encoder
    encoder._outer = encoder._inner = lambda x: x  # the capsules themselves, which a relu must not touch
    sequence = [3, 9, 17, 1, 6, 12, 20, 8]
    model.tower.item_embeddings.assign(model.tower.item_embeddings * 20)  # far from the flat start of a softmax
    tokens = model.tower.tokens(model.tower.item_vectors(), histories(sequence))
    behaviours = encoder._bilinear(tokens)[0].numpy()
    reach = tf.range(1, len(sequence) + 1)[None]
    found = encoder._interests(tokens, reach, None)[0].numpy()
    for position in range(len(sequence)):
        expected = routing_of_one_prefix(behaviours[: position + 1], encoder._start.numpy(), INTERESTS)
        np.testing.assert_allclose(found[position], np.maximum(expected, 0), atol=1e-4)


@pytest.mark.parametrize("encoder", ["mind", "comirec"])
def test_a_target_trains_the_interest_that_likes_it_most(encoder):
    model = make(encoder)
    model.tower.item_embeddings.assign(model.tower.item_embeddings * 20)
    batch = batch_of([[3, 9, 17, 1, 6, 12, 20, 8, 2, 5]])
    states = model.tower.encoder.training_states(windows_of(model, batch), None)
    targets = tf.gather(model.tower.item_vectors(), tf.maximum(batch["target"] - 1, 0))[0].numpy()
    for length in range(1, 10):
        interests, _ = model.tower.user_vectors(batch["history"][:, :length])
        best = interests[0].numpy()[np.argmax(interests[0].numpy() @ targets[length - 1])]
        np.testing.assert_allclose(states.retrieval[0, length - 1], best, atol=1e-4)


def test_comirec_attends_to_the_prefix_only():
    """A = softmax(W2 tanh(W1 H)), V = A H over the items read so far."""
    model = make("comirec")
    encoder = model.tower.encoder
    tokens = model.tower.tokens(model.tower.item_vectors(), histories([3, 9, 17, 1, 6]))
    found = encoder._interests(tokens, tf.constant([[2, 5]]), None)[0].numpy()
    placed = (tokens[0] + encoder._positions[:5]).numpy()
    logits = encoder._outer(tf.tanh(encoder._inner(placed[None])))[0].numpy().T  # [I, L]
    for column, length in enumerate((2, 5)):
        weights = np.exp(logits[:, :length])
        weights /= weights.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found[column], weights @ placed[:length], atol=1e-5)


def test_the_number_of_mind_interests_grows_with_the_logarithm():
    lengths = tf.constant([[0, 1, 2, 3, 4, 7, 8, 15, 16, 200]])
    np.testing.assert_array_equal(_number_of_interests(lengths, 4)[0], [1, 1, 1, 1, 2, 2, 3, 3, 4, 4])
    np.testing.assert_array_equal(_number_of_interests(lengths, 1)[0], [1] * 10)
    np.testing.assert_array_equal(_number_of_interests(lengths, 40)[0], [1, 1, 1, 1, 2, 2, 3, 3, 4, 7])  # 2^31 wraps


def test_fold_in_finds_the_minimum_of_the_objective():
    rng = np.random.default_rng(3)
    liked, others = rng.normal(size=[2, 6, 4]), rng.normal(size=[30, 4])
    lengths = np.array([6, 3])
    as_tensor = functools.partial(tf.constant, dtype=tf.float32)
    found = fold_in(as_tensor(liked), tf.constant(lengths), as_tensor(others), penalty=0.1, iterations=200)
    for row, length in enumerate(lengths):
        user, mine = found[row].numpy().astype(float), liked[row, :length]
        pull = mine.T @ (1 / (1 + np.exp(mine @ user))) / length
        push = others.T @ (1 / (1 + np.exp(-others @ user))) / len(others)
        np.testing.assert_allclose(push - pull + 0.1 * user, 0, atol=1e-5)


def test_item_counts_ranks_by_count():
    model = make("item_counts")
    vectors, _ = model.tower.user_vectors(histories([3, 9], [1, 0]))
    scores = vectors.numpy()[:, 0] @ model.tower.item_embeddings.numpy().T
    np.testing.assert_array_equal(np.argsort(-scores, axis=1), [np.argsort(-COUNTS)] * 2)


def test_a_prefix_prompt_is_before_the_first_item():
    """Eq. 4: e_k = Transformer([t_k; s_1, ..., s_L])."""
    model = make("prefix")
    encoder, tokens = model.tower.encoder, model.tower.tokens(model.tower.item_vectors(), histories([3, 9, 17]))
    vectors, _ = model.tower.user_vectors(histories([3, 9, 17]))
    for cluster in range(K):
        sequence = tf.concat([encoder._task_embeddings[None, None, cluster], tokens + encoder._positions[:3]], axis=1)
        np.testing.assert_allclose(vectors[:, cluster], encoder._trunk(sequence).prefix[:, -1], atol=1e-5)
