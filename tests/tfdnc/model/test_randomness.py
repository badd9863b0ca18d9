"""Streams of random numbers: everything that a training step draws comes from a stream of its own.

Sums of small integers told the places of a model apart before: block 8 of one expert had the masks of the inputs of the
next expert, and the hidden times those of the items that a loss draws.
"""

import numpy as np
import pytest

from tfdnc.backend import keras, tf
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.model.item_tower import feature_matrix
from tfdnc.model.randomness import Stream, substream
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower

OFFSETS = (0, 4, 9)
COUNTS = np.arange(1, 10)
SHARED_FEATURES = [["colour=red"]] * 9


def make_model(seed=1, **config):
    """A model that draws wherever its encoder can: masks, hidden times and items, items of the loss and the intent."""
    config = {"dim": 4, "max_length": 3, "dropout": 0.5, "times": True, "intent": "partition", **config}
    features = feature_matrix(SHARED_FEATURES, COUNTS)
    train = TrainConfig(loss="in_cluster_sampled_softmax", num_negatives=2, intent_items=2, precision="float32")
    model = Retriever(Tower.make(ModelConfig(**config), train, OFFSETS, seed, COUNTS, features=features), train, seed)
    model.compile(optimizer=keras.optimizers.Adam())
    return model


def make_batch():
    batch = {
        "user": np.array([0], np.int32),
        "history": np.array([[1, 6, 3]], np.int32),
        "target": np.array([[6, 3, 9]], np.int32),
        "target_cluster": np.array([[1, 0, 1]], np.int32),
        "negatives": np.zeros([1, 3, 0], np.int32),
        "elapsed": np.array([[5, 7, 0]], np.int64),
    }
    return {name: tf.constant(value) for name, value in batch.items()}


@pytest.fixture
def drawn_in(monkeypatch):
    """(model, step) -> the seed of every random operation that the training step really runs, in order."""
    seeds, draw = [], tf.random.stateless_uniform

    def recorded(shape, seed, *args, **kwargs):
        seeds.append(tuple(seed.numpy().tolist()))
        return draw(shape, seed, *args, **kwargs)

    monkeypatch.setattr(tf.random, "stateless_uniform", recorded)

    def of_step(model, step):
        seeds.clear()
        model.optimizer.iterations.assign(step)
        model.compute_loss(make_batch(), training=True)
        return list(seeds)

    return of_step


@pytest.mark.parametrize(
    ("config", "draws"),
    [
        # Four everywhere: hidden items, hidden times, the items that the loss draws, and those that the intent draws.
        ({"encoder": "transformer"}, 4 + 1 + 2 * 2),
        ({"encoder": "mmoe", "blocks": 8, "experts": 9}, 4 + 9 * (1 + 2 * 8)),
        ({"encoder": "ple", "blocks": 32}, 4 + 1 + 2 * 32 + 3),
        ({"encoder": "hadamard_per_position"}, 4 + 2 * (1 + 2 * 2)),
        ({"encoder": "hadamard_literal"}, 4 + 1 + 2 * (1 + 2 * 2)),
        ({"encoder": "prefix"}, 4 + 1 + 2 * (1 + 2 * 2)),
        ({"encoder": "comirec"}, 4 + 1),
        ({"encoder": "mind"}, 4 + 1),
    ],
    ids=lambda value: value["encoder"] if isinstance(value, dict) else "",
)
def test_no_two_draws_of_neighbouring_steps_share_a_stream(drawn_in, config, draws):
    model = make_model(**config)
    steps = [drawn_in(model, step) for step in (0, 1)]
    assert [len(seeds) for seeds in steps] == [draws, draws]
    assert len(set(steps[0] + steps[1])) == 2 * draws


def test_a_step_is_the_same_for_the_same_seed_and_far_beyond_a_million_steps_another_one(drawn_in):
    # 4096 to a step came back to step 0 after 2^20 of them.
    steps = [0, 1 << 20, (1 << 32) - 1]
    first, far, last = (drawn_in(make_model(encoder="transformer"), step) for step in steps)
    assert first == drawn_in(make_model(encoder="transformer"), 0)
    assert len({*first, *far, *last, *drawn_in(make_model(2, encoder="transformer"), 0)}) == 4 * len(first)


def test_all_operations_of_a_very_large_model_have_different_streams():
    root = Stream.at(1, 7)
    experts = [
        substream(root, "expert", expert, "block", block, stream, place)
        for expert in range(32)
        for block in range(64)
        for stream in ("prefix", "queries")
        for place in ("attention", "feed_forward")
    ]
    tasks = [substream(root, "task", k) for k in range(2000)]
    seeds = {tuple(stream.seed.numpy().tolist()) for stream in [root, *experts, *tasks]}
    assert len(seeds) == 1 + len(experts) + len(tasks)


def test_the_order_and_the_bounds_of_names_count():
    root = Stream.at(1, 0)
    paths = [("a", "b"), ("b", "a"), ("ab",), ("a", 1), ("a", "1"), ("a", "a"), ("a",), ()]
    assert len({tuple(substream(root, *path).seed.numpy().tolist()) for path in paths}) == len(paths)
    assert substream(None, "a") is None
