"""Row-wise Adam: NumPy's formula on the rows of a step, no change of the others, in the whole training too."""

import numpy as np
import pytest

from tfdnc.backend import keras, tf
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.training.checkpoint import row_tables
from tfdnc.training.optimizers import AUTO_ITEMS, OPTIMIZERS, RowwiseAdam
from tfdnc.training.records import TrainingRecords
from tfdnc.training.train import assemble

RATE, BETA_2, ROWS, DIM = 0.01, 0.98, 7, 3
RNG = np.random.default_rng(3)


def dense_oracle(values, gradients):
    """Adam without a mean of gradients, and with that of the squares over a row, on the gradients `[steps, rows, D]`.

    All rows are updated in every step, those without a gradient by 0.
    """
    squares = np.zeros(len(values))
    for step, gradient in enumerate(gradients, start=1):
        squares = BETA_2 * squares + (1 - BETA_2) * np.mean(gradient**2, axis=1)
        corrected = squares / (1 - BETA_2**step)
        values = values - RATE * gradient / (np.sqrt(corrected) + 1e-7 / np.sqrt(1 - BETA_2**step))[:, None]
    return values, squares


def apply(optimizer, table, rows, values):
    """One step on the sparse gradient with these rows, which may repeat."""
    optimizer.apply_gradients([(tf.IndexedSlices(tf.constant(values), tf.constant(rows), [ROWS, DIM]), table)])


def sums_by_row(rows, values):
    total = np.zeros([ROWS, DIM])
    np.add.at(total, rows, values)
    return total


def test_steps_on_some_rows_are_those_of_the_dense_formula_which_sums_repeated_rows():
    start = RNG.normal(size=[ROWS, DIM]).astype(np.float32)
    table = tf.Variable(start)
    optimizer = RowwiseAdam(RATE, BETA_2, [table])
    steps = [[0, 2, 2], [5], *[[1]] * 40, [2, 0, 2, 5]]
    gradients = [RNG.normal(size=[len(rows), DIM]).astype(np.float32) * 0.1 for rows in steps]
    for rows, values in zip(steps, gradients, strict=True):
        apply(optimizer, table, rows, values)
    expected, _ = dense_oracle(start, [sums_by_row(*step) for step in zip(steps, gradients, strict=True)])
    np.testing.assert_allclose(table.numpy(), expected, rtol=1e-5)
    np.testing.assert_array_equal(table.numpy()[[3, 4, 6]], start[[3, 4, 6]])


def test_a_dense_gradient_and_a_sparse_one_of_all_rows_are_the_same_step():
    tables = [tf.Variable(tf.ones([ROWS, DIM])) for _ in range(2)]
    values = RNG.normal(size=[ROWS, DIM]).astype(np.float32)
    values[2] = 0
    for table, gradient in zip(tables, (values, tf.IndexedSlices(values, np.arange(ROWS))), strict=True):
        optimizer = RowwiseAdam(RATE, BETA_2, [table])
        optimizer.apply_gradients([(tf.convert_to_tensor(gradient) if table is tables[0] else gradient, table)])
    np.testing.assert_array_equal(*tables)
    assert tables[0].numpy()[2].tolist() == [1, 1, 1]


def test_all_other_variables_have_both_moments_of_adam():
    starts = [RNG.normal(size=[4, 2]).astype(np.float32) for _ in range(2)]
    gradients = [[tf.constant(RNG.normal(size=[4, 2]), tf.float32) for _ in starts] for _ in range(5)]
    results = []
    for make in (
        lambda _: keras.optimizers.Adam(RATE, beta_2=BETA_2),
        lambda tables: RowwiseAdam(RATE, BETA_2, tables),
    ):
        first, table, last = tf.Variable(starts[0]), tf.Variable(tf.zeros([ROWS, DIM])), tf.Variable(starts[1])
        optimizer = make([table])
        optimizer.build([first, table, last])
        for pair in gradients:
            optimizer.apply_gradients(zip(pair, (first, last), strict=True))
        results.append([first.numpy(), last.numpy()])
    np.testing.assert_array_equal(*results)


def test_replicas_exchange_each_row_that_they_read_once(monkeypatch):
    class TwoReplicas:
        num_replicas_in_sync = 2

    table, other = tf.Variable(tf.ones([ROWS, DIM])), tf.Variable(tf.ones([2]))
    values = RNG.normal(size=[3, DIM]).astype(np.float32)
    repeated = tf.IndexedSlices(tf.constant(values), tf.constant([5, 2, 5]), [ROWS, DIM])
    monkeypatch.setattr(tf.distribute, "get_replica_context", TwoReplicas)
    monkeypatch.setattr(keras.optimizers.Adam, "aggregate_gradients", lambda _, sent: sent)
    (rows, _), (plain, _) = RowwiseAdam(RATE, BETA_2, [table]).aggregate_gradients(
        [(repeated, table), (tf.ones([2]), other)]
    )
    assert rows.indices.numpy().tolist() == [5, 2]
    np.testing.assert_allclose(rows.values, [values[0] + values[2], values[1]], rtol=1e-6)
    assert plain.numpy().tolist() == [1, 1]


def test_the_numbers_stay_finite_after_millions_of_steps():
    table = tf.Variable(tf.ones([ROWS, DIM]))
    optimizer = RowwiseAdam(RATE, BETA_2, [table])
    optimizer.build([table])
    moved = []
    for step in (0, 50_000_000):
        optimizer.iterations.assign(step)
        before = table.numpy()[1, 0]
        apply(optimizer, table, [1, 4], np.full([2, DIM], 0.1, np.float32))
        moved.append(before - table.numpy()[1, 0])
    assert moved[0] == pytest.approx(RATE, rel=1e-4)
    assert moved[1] == pytest.approx(RATE / (1 - BETA_2) ** 0.5, rel=1e-4)  # of an old table, as Adam in ten steps


def experiment(optimizer, loss="in_cluster_sampled_softmax", encoder="hadamard_per_position", items=60):
    """Model and one batch of ten events of two users."""
    train = {"loss": loss, "optimizer": optimizer, "num_negatives": 3, "precision": "float32", "warmup_steps": 0}
    train |= {"loss": "sampled_softmax", "draws": "hard", "hard_to": 4} if loss == "hard" else {}
    config = parse_config(
        {"name": "x", "model": {"encoder": encoder, "dim": 4, "dropout": 0, "intent": "head"}, "train": train}
    )
    clusters = np.repeat([0, 1], [items // 2, items - items // 2]).astype(np.int32)
    history, negatives = np.random.default_rng(1).integers(1, items + 1, (2, 10), np.int32)
    records = TrainingRecords(
        history, clusters[history - 1], negatives[:, None], np.array([0, 5, 10]), np.array([0, 1], np.int32)
    )
    ids = [str(item) for item in range(items)]
    table = ItemTable(ids, np.ones(items), clusters, (0, items // 2, items), np.arange(1, items + 1), ids, ["a", "b"])
    model, batches = assemble(config, table, records)
    [batch] = batches.epoch(0)
    model.refresh_hard_items()
    return model, {name: tf.constant(value) for name, value in batch.items()}


@pytest.mark.parametrize(
    ("loss", "encoder"),
    [
        ("bce", "hadamard_per_position"),
        ("gbce", "transformer"),
        ("in_cluster_gbce", "mind"),
        ("sampled_softmax", "ple"),
        ("in_cluster_sampled_softmax", "hadamard_per_position"),
        ("bce", "user_embedding"),
        ("hard", "transformer"),
    ],
)
def test_a_step_changes_the_rows_that_it_reads_and_no_others(loss, encoder):
    model, batch = experiment("rowwise_adam", loss, encoder)
    before = [table.numpy() for table in row_tables(model.tower)]
    with tf.GradientTape() as tape:
        value = model.compute_loss(batch, training=True)
    for table, gradient in zip(row_tables(model.tower), tape.gradient(value, row_tables(model.tower)), strict=True):
        assert isinstance(gradient, tf.IndexedSlices), table.name
    model.train_step(batch)
    for table, old, number in zip(row_tables(model.tower), before, model.optimizer._log_squares, strict=True):
        changed = (table.numpy() != old).any(axis=1)
        np.testing.assert_array_equal(changed, number.numpy() > -1e8)
        assert changed.any()
    assert not (model.tower.item_embeddings.numpy() != before[0]).any(axis=1).all()


@pytest.mark.parametrize(
    "loss", ["bce", "softmax", "in_cluster_softmax", "in_cluster_sampled_softmax", "in_cluster_gbce"]
)
def test_losses_and_gradients_are_those_of_a_dense_read(loss):
    found = []
    for optimizer in ("adam", "rowwise_adam"):
        model, batch = experiment(optimizer, loss)
        with tf.GradientTape() as tape:
            value = model.compute_loss(batch, training=True)
        found.append((value, tf.convert_to_tensor(tape.gradient(value, model.tower.item_embeddings))))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-8)


def test_auto_is_adam_up_to_a_size_of_the_catalogue():
    assert not OPTIMIZERS["auto"](AUTO_ITEMS).by_row
    assert OPTIMIZERS["auto"](AUTO_ITEMS + 1).by_row
    assert not OPTIMIZERS["adam"](AUTO_ITEMS + 1).by_row
    assert OPTIMIZERS["rowwise_adam"](1).by_row


def test_a_decay_that_its_logarithm_cannot_hold_is_refused():
    with pytest.raises(UserError, match=r"Expected train\.beta_2 above 0 and below 1 .*, got 1\."):
        OPTIMIZERS["rowwise_adam"](1).make(RATE, TrainConfig(beta_2=1), [])
