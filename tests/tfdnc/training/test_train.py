"""Training: it learns, keeps the best epoch, and a killed run ends where an uninterrupted one would have."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.config import ExamplesConfig, parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.schema import CHECKPOINT_INTENT, EPOCH_LOG, HISTORY_FILE
from tfdnc.pipeline import stations
from tfdnc.training.callbacks import RefreshHardItems, TrainingState, waited
from tfdnc.training.checkpoint import load_trained
from tfdnc.training.learning_rate import WarmupCosine
from tfdnc.training.records import TrainingRecords
from tfdnc.training.served_intent import ServedIntent
from tfdnc.training.team import Team
from tfdnc.training.train import assemble, train
from tfdnc.training.workers import WorkerIndex

OFFSETS = (0, 6, 12)
NUM_ITEMS = 12


def make_items():
    clusters = np.repeat([0, 1], 6).astype(np.int32)
    ids = [str(i) for i in range(1, NUM_ITEMS + 1)]
    return ItemTable(ids, np.ones(NUM_ITEMS), clusters, OFFSETS, np.arange(1, NUM_ITEMS + 1), ids, ["a", "b"])


def make_records(users=40):
    """Every user walks round one of the two clusters from a random start: the next item is certain."""
    rng = np.random.default_rng(0)
    start, cluster = rng.integers(0, 6, users), rng.integers(0, 2, users)
    items = (cluster[:, None] * 6 + (start[:, None] + np.arange(8)) % 6 + 1).astype(np.int32).ravel()
    clusters = np.repeat(cluster, 8).astype(np.int32)
    negatives = ((items - 1) % 6 + rng.integers(1, 6, len(items))) % 6 + clusters * 6 + 1
    splits, numbers = np.arange(users + 1) * 8, np.arange(users, dtype=np.int32)
    return TrainingRecords(items, clusters, negatives[:, None].astype(np.int32), splits, numbers)


QUICK = "user_embedding"
"""The encoder for tests of epochs and files, which know no model: its graph takes a quarter of the time to make."""


def make_config(encoder="hadamard_per_position", **settings):
    return parse_config(
        {
            "name": "x",
            "model": {"dim": 16, "max_length": 8, "blocks": 1, "encoder": encoder},
            "train": {"epochs": 6, "batch_tokens": 80, "validate_every": 2, "warmup_steps": 5, **settings},
        }
    )


def hit_rate(model):
    """Share of one-item histories whose successor scores best in its cluster."""
    vectors, _ = model.user_vectors(tf.range(1, NUM_ITEMS + 1)[:, None])
    hits = []
    for row in range(NUM_ITEMS):
        cluster = row // 6
        scores = model.item_embeddings.numpy()[cluster * 6 : cluster * 6 + 6] @ vectors[row, cluster].numpy()
        hits.append(scores.argmax() == (row + 1) % 6)
    return float(np.mean(hits))


class Killed(BaseException):
    """Ends a training the hard way: nothing may catch it."""


class Validator:
    """Figures of the current weights; dies at its n-th call when asked to."""

    def __init__(self, die_at=None):
        self.calls = 0
        self._die_at = die_at

    def __call__(self, model):
        self.calls += 1
        if self.calls == self._die_at:
            raise Killed
        return {"norm": float(tf.norm(model.item_embeddings)), "hits": hit_rate(model)}


def run(output, config=None, validate=None, objective="norm"):
    output.mkdir(exist_ok=True)
    return train(config or make_config(), make_items(), make_records(), validate or Validator(), objective, output)


def weights(output, config=None):
    return [variable.numpy() for variable in load_trained(config or make_config(), make_items(), output).variables]


def test_the_loss_falls_and_the_next_item_is_found(tmp_path):
    config = make_config(epochs=40, learning_rate=0.02, validate_every=10)
    figures = run(tmp_path, config, objective="hits")
    history = json.loads((tmp_path / HISTORY_FILE).read_text())
    assert len(history) == figures["epochs"] == 40
    assert history[-1]["retrieval_loss"] < 0.3 * history[0]["retrieval_loss"]
    assert history[-1]["intent_loss"] < 0.3 * history[0]["intent_loss"]
    assert figures["val_hits"] > 0.9
    assert hit_rate(load_trained(config, make_items(), tmp_path)) == pytest.approx(figures["val_hits"])


def test_the_losses_of_an_epoch_are_means_over_all_its_positions(tmp_path):
    """`loss` was that of the last batch, and the others did not count that batches differ in size: 11 and 7 windows."""
    config = make_config(epochs=1, learning_rate=1e-12, intent_weight=0.5)
    config = config.model_copy(update={"model": config.model.model_copy(update={"dropout": 0.0})})
    run(tmp_path, config)
    [epoch] = json.loads((tmp_path / HISTORY_FILE).read_text())
    whole = config.model_copy(update={"train": config.train.model_copy(update={"batch_tokens": 1000})})
    model, batches = assemble(whole, make_items(), make_records())
    [batch] = batches.epoch(0)
    model.reset_metrics()
    expected = float(model.compute_loss(batch, training=True))
    assert epoch["loss"] == pytest.approx(expected, rel=1e-5)
    for metric in model.metrics:
        assert epoch[metric.name] == pytest.approx(float(metric.result()), rel=1e-5)
    assert epoch["loss"] == pytest.approx(epoch["retrieval_loss"] + 0.5 * epoch["intent_loss"])
    assert set(epoch) == {"epoch", "loss", "retrieval_loss", "intent_loss", "cpu_seconds", "val_norm", "val_hits"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted training, for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Files of a training that was killed in its fourth epoch."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(Killed):
        run(folder, validate=Validator(die_at=2))
    return folder


def test_two_trainings_end_with_the_same_bits(whole, tmp_path):
    run(tmp_path)
    for one, other in zip(weights(whole), weights(tmp_path), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(whole, killed, tmp_path):
    folder, resumed = shutil.copytree(killed, tmp_path / "copy"), Validator()
    run(folder, validate=resumed)
    assert resumed.calls == 2  # epochs 4 and 6: the first three were not trained again
    for one, other in zip(weights(whole), weights(folder), strict=True):
        np.testing.assert_array_equal(one, other)
    histories = [json.loads((each / HISTORY_FILE).read_text()) for each in (whole, folder)]
    for history in histories:
        assert all(entry.pop("cpu_seconds") > 0 for entry in history)  # the one figure that differs
    assert histories[0] == histories[1]


def test_a_killed_training_resumes_with_the_hard_items_of_its_last_whole_epoch(tmp_path):
    model = {"dim": 4, "max_length": 8, "blocks": 1, "encoder": "transformer"}
    settings = {"loss": "in_cluster_sampled_softmax", "num_negatives": 2, "draws": "hard", "hard_to": 2}
    config = parse_config({"name": "x", "model": model, "train": {"epochs": 3, "batch_tokens": 80, **settings}})
    with pytest.raises(Killed):
        run(tmp_path, config, validate=Validator(die_at=1))  # after epoch 3, whose hard items no step would read
    resumed, _ = assemble(config, make_items(), make_records())
    assert TrainingState(resumed, tmp_path, tmp_path).restore() == 2
    before = resumed.hard_items.table.numpy()
    assert (before >= 0).all()
    resumed.refresh_hard_items()
    np.testing.assert_array_equal(resumed.hard_items.table.numpy(), before)


def test_hard_items_are_found_anew_after_every_nth_epoch_but_the_last():
    class Model:
        def __init__(self):
            self.refreshes = 0

        def refresh_hard_items(self):
            self.refreshes += 1

    callback, counts = RefreshHardItems(every=2, epochs=6), []
    callback.set_model(Model())
    for epoch in range(6):
        callback.on_epoch_end(epoch, {})
        counts.append(callback.model.refreshes)
    assert counts == [0, 1, 1, 2, 2, 2]


def truncate(path):
    path.write_bytes(path.read_bytes()[:40])


def invert(path):
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))


@pytest.mark.parametrize("damage", [truncate, invert, Path.unlink])
@pytest.mark.parametrize("name", ["checkpoints/ckpt-3.index", "checkpoints/ckpt-3.data-00000-of-00001", EPOCH_LOG])
def test_a_damaged_checkpoint_is_refused_with_what_to_remove(killed, tmp_path, name, damage):
    folder = shutil.copytree(killed, tmp_path / "copy")
    damage(folder / name)
    with pytest.raises(UserError, match=r"^Expected a whole checkpoint .*copy, could not restore.* from the start\.$"):
        run(folder)


@pytest.mark.parametrize("damage", [truncate, invert, Path.unlink])
@pytest.mark.parametrize("name", ["weights.index", "weights.data-00000-of-00001"])
def test_damaged_weights_are_refused(killed, tmp_path, name, damage):
    folder = shutil.copytree(killed, tmp_path / "copy")
    damage(folder / name)
    with pytest.raises(UserError, match=r"^Expected whole weights of this model at .*copy.weights; train again"):
        load_trained(make_config(), make_items(), folder)


def test_the_intent_that_serves_is_chosen_with_the_best_weights_and_kept_beside_them(tmp_path):
    kept, untrained = [], {"early": 7.0, "difference": 0.5, "standard_error": 0.1}

    def choose(tower):
        kept.append(tower.item_embeddings.numpy())
        return ServedIntent(tower.intent.kind, "history", "early", {"learned": {"early": 6.0}, "history": untrained})

    epochs = itertools.count()
    parts = make_items(), make_records(), lambda tower: {"early": -next(epochs)}, "early", tmp_path
    figures = train(make_config(QUICK), *parts, choose=choose)
    assert (figures["best_epoch"], figures["intent"], figures["val_early"]) == (2, "partition", 7.0)
    assert figures["served_intent"]["served"] == "history"
    assert "val_difference" not in figures
    tower = load_trained(make_config(QUICK), make_items(), tmp_path)
    np.testing.assert_array_equal(tower.item_embeddings.numpy(), kept[0])
    assert tower.with_items(tower.offsets, tower.counts, kept[0]).intent.kind == "history"  # as a refresh does
    np.testing.assert_allclose(tower.user_vectors(tf.constant([[1, 2, 12]]))[1], np.log([[3 / 5, 2 / 5]]), atol=1e-6)
    # Any other name was taken for the history.
    for damaged in ("{", "[]", '{"learned": "head", "served": "head"}'):
        (tmp_path / CHECKPOINT_INTENT).write_text(damaged)
        with pytest.raises(UserError, match="Expected a choice of the intent"):
            load_trained(make_config(QUICK), make_items(), tmp_path)


def test_a_training_that_is_killed_in_the_choice_makes_it_again_and_trains_no_more(tmp_path):
    def die(tower):
        raise Killed

    resumed, config, parts = Validator(), make_config(QUICK), (make_items(), make_records())
    with pytest.raises(Killed):
        train(config, *parts, lambda tower: {"norm": 1.0}, "norm", tmp_path, choose=die)
    figures = train(config, *parts, resumed, "norm", tmp_path, choose=lambda tower: ServedIntent("head", "learned"))
    assert resumed.calls == 0
    assert figures["served_intent"] == json.loads((tmp_path / CHECKPOINT_INTENT).read_text())


class OtherWorker(Team):
    """A worker that is not the chief, without one: the numbers of all are its own."""

    def __init__(self):
        super().__init__()
        self.worker = WorkerIndex(1, 2)

    def gather(self, values):
        return np.array([values, values])


def test_a_worker_that_continues_needs_no_weights_for_the_choice_of_the_chief(tmp_path):
    """Its folder is new, and the best epoch was before: it ended with `Expected whole weights of this model`."""

    def die(tower):
        raise Killed

    chief, own = tmp_path / "chief", tmp_path / "own"
    chief.mkdir()
    own.mkdir()
    team, config, parts = OtherWorker(), make_config(QUICK), (make_items(), make_records(), lambda tower: {"norm": 1.0})
    with pytest.raises(Killed):
        train(config, *parts, "norm", chief, choose=die)
    figures = train(config, *parts, "norm", own, team=team, common=chief, choose=die)
    assert figures["epochs"] == 6
    assert "served_intent" not in figures


def test_no_epochs_keep_the_initial_weights_and_a_killed_run_starts_over(tmp_path):
    config = parse_config({"name": "x", "model": {"encoder": "item_counts", "dim": 1}, "train": {"epochs": 0}})
    with pytest.raises(Killed):
        run(tmp_path, config, validate=Validator(die_at=1), objective="norm")
    (tmp_path / "weights.index").write_bytes(b"half")  # whatever the killed run was writing
    figures = run(tmp_path, config, validate=lambda model: {"norm": 1.0})
    assert (figures["epochs"], figures["steps"], figures["best_epoch"], figures["val_norm"]) == (0, 0, 0, 1.0)
    assert [entry["epoch"] for entry in json.loads((tmp_path / HISTORY_FILE).read_text())] == [0]
    np.testing.assert_array_equal(
        load_trained(config, make_items(), tmp_path).item_embeddings.numpy()[:, 0], np.log(np.ones(NUM_ITEMS))
    )


def test_the_best_epoch_is_kept_not_the_last(tmp_path):
    values = iter([0.1, 0.9, 0.5])
    best = {}

    def validate(model):
        value = next(values)
        if value == 0.9:
            best["embeddings"] = model.item_embeddings.numpy()
        return {"norm": value}

    config = make_config(QUICK)
    figures = run(tmp_path, config, validate)
    assert (figures["best_epoch"], figures["val_norm"]) == (4, 0.9)
    loaded = load_trained(config, make_items(), tmp_path)
    np.testing.assert_array_equal(loaded.item_embeddings.numpy(), best["embeddings"])


def run_without_negatives(output, **settings):
    config = make_config(epochs=1, **settings).model_copy(update={"examples": ExamplesConfig(negative_sets=0)})
    records = make_records()
    records = records._replace(negatives=np.zeros([len(records.items), 0], np.int32))
    return train(config, make_items(), records, Validator(), "norm", output)


@pytest.mark.parametrize("loss", ["in_cluster_softmax", "in_cluster_gbce", "sampled_softmax"])
def test_losses_that_read_no_negatives_train_on_records_without(tmp_path, loss):
    assert run_without_negatives(tmp_path, loss=loss, num_negatives=2)["epochs"] == 1


def test_bce_draws_its_negatives_itself_unless_they_are_to_come_from_the_records(tmp_path):
    assert run_without_negatives(tmp_path, loss="bce")["epochs"] == 1
    with pytest.raises(UserError, match=r"Expected negatives for train\.loss bce.*raise examples\.negative_sets"):
        run_without_negatives(tmp_path, loss="bce", negatives="records")


def falling_after(best, die_at=None):
    """Figures that are best at the n-th call; the call dies that is asked to."""
    calls = itertools.count(1)

    def validate(model):
        call = next(calls)
        if call == die_at:
            raise Killed
        return {"norm": call if call <= best else 1 / call}

    return validate


def die(_):
    raise Killed


@pytest.fixture(scope="module")
def steps_per_epoch(tmp_path_factory):
    return run(tmp_path_factory.mktemp("one"), make_config(QUICK, epochs=1), lambda _: {"norm": 1.0})["steps"]


@pytest.mark.parametrize(("patience", "drop", "epochs"), [(1, 1, 4), (3, 1, 8), (4, 0.01, 6), (None, 0.01, 12)])
def test_training_ends_after_so_many_validations_in_a_row_without_a_better_one(
    tmp_path, patience, drop, epochs, steps_per_epoch
):
    """A fall of more than `patience_drop` counts for two of them."""
    config = make_config(QUICK, epochs=12, patience=patience, patience_drop=drop)
    figures = run(tmp_path, config, falling_after(1))
    assert (figures["epochs"], figures["best_epoch"], figures["stopped_early"]) == (epochs, 2, epochs < 12)
    said = f"stopped after epoch {epochs}: no better for {epochs - 2} epochs, best was 2"
    assert stations.TRAIN.headline(figures).endswith(said if epochs < 12 else "best epoch 2 of 12")
    assert figures["steps"] == epochs * steps_per_epoch
    assert len(json.loads((tmp_path / HISTORY_FILE).read_text())) == epochs


def test_a_better_figure_sets_the_patience_back(tmp_path):
    values = iter([5.0, 1.0, 6.0, 2.0, 3.0, 7.0])
    figures = run(
        tmp_path, make_config(QUICK, epochs=12, patience=2, patience_drop=1), lambda _: {"norm": next(values)}
    )
    assert (figures["epochs"], figures["best_epoch"]) == (10, 6)


def test_a_killed_training_ends_as_early_as_an_uninterrupted_one(tmp_path, monkeypatch):
    config = make_config(QUICK, epochs=12, patience=2, patience_drop=1)
    (tmp_path / "killed").mkdir()
    with pytest.raises(Killed):
        run(tmp_path / "killed", config, falling_after(1, die_at=3))  # in the middle of epoch 6
    assert run(tmp_path / "killed", config, falling_after(0))["epochs"] == 6
    # Killed when the last epoch was on disk, and nothing else: there is none to train.
    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "discard_checkpoints", die)
        with pytest.raises(Killed):
            run(tmp_path / "over", config, falling_after(1))
    assert run(tmp_path / "over", config, falling_after(1, die_at=1))["epochs"] == 6


def test_validations_that_fall_clearly_below_the_best_count_twice():
    """On sparse logs 16 of 32 and of 36 epochs came after the best one, all of them clearly worse."""
    assert waited([0.995, 1.0, 0.991], best=1.0, drop=0.01) == 3
    assert waited([0.98, 0.995], best=1.0, drop=0.01) == 3
    assert waited([0.5, 0.1], best=1.0, drop=1) == 2


def test_a_training_that_diverges_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"diverged in epoch \d+: lower train.learning_rate"):
        run(tmp_path, make_config(QUICK, learning_rate=1e20))
    assert not (tmp_path / HISTORY_FILE).exists()


def test_the_curves_for_tensorboard_have_the_names_and_epochs_of_the_history(whole):
    """The callback of Keras called the first epoch 0."""
    [file] = (whole / "tensorboard").iterdir()
    points = {}
    for raw in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(raw.numpy())
        points |= {(value.tag, event.step): float(tf.make_ndarray(value.tensor)) for value in event.summary.value}
    for entry in json.loads((whole / HISTORY_FILE).read_text()):
        epoch = entry.pop("epoch")
        assert points.pop(("learning_rate", epoch)) > 0
        for name, value in entry.items():
            assert points.pop((name, epoch)) == pytest.approx(value)
    assert not points


@pytest.mark.parametrize(("step", "rate"), [(0, 0.1), (9, 1.0), (10, 1.0), (60, 0.5 * 1.1), (110, 0.1), (500, 0.1)])
def test_the_learning_rate_warms_up_and_follows_a_cosine(step, rate):
    schedule = WarmupCosine(peak=1.0, warmup_steps=10, total_steps=110, final_share=0.1)
    assert float(schedule(step)) == pytest.approx(rate, abs=1e-6)
