"""Measured recovery of joint lists by an approximate bundle, and the users that it is measured on."""

import numpy as np
import pytest

from tests.tfdnc.small_scann import shrink
from tfdnc.backend import tf
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.export import recovery
from tfdnc.export.users import sample_users
from tfdnc.model.tower import Tower
from tfdnc.retrieval.index import ExactIndex, ScannIndex
from tfdnc.training.records import HeldOutRecords

OFFSETS = (0, 3, 3, 1603)  # tiny, empty, and one that is hashed below


@pytest.fixture(scope="module")
def tower():
    config = ModelConfig(encoder="hadamard_per_position", dim=8, blocks=1, max_length=6)
    tower = Tower.make(config, TrainConfig(precision="float32"), OFFSETS, seed=1)
    tower.item_embeddings.assign(np.random.default_rng(0).normal(size=[OFFSETS[-1], 8]))
    tower.user_vectors(tf.constant([[1, 2]]))
    return tower


@pytest.fixture(scope="module")
def users(tower):
    return sample_users(tower, make_records(40), count=16)


@pytest.fixture
def index(tower, users, monkeypatch):
    return make_index(tower, users, monkeypatch)


def make_index(tower, users, monkeypatch):
    shrink(monkeypatch, hashing_from=1000)
    return ScannIndex(tower.item_embeddings, OFFSETS, name="recovery", max_k=30, users=users)


def make_records(num_users):
    rng = np.random.default_rng(2)
    lengths = rng.integers(1, 12, num_users)
    return HeldOutRecords(
        items=rng.integers(1, OFFSETS[-1] + 1, lengths.sum()).astype(np.int32),
        splits=np.concatenate([[0], np.cumsum(lengths)]),
        targets=np.ones(num_users, np.int32),
        target_clusters=np.zeros(num_users, np.int32),
    )


def test_users_are_encoded_as_a_request_would_be(tower):
    records = make_records(5)
    sampled = sample_users(tower, records, count=5)
    histories = [records.items[start:stop] for start, stop in zip(records.splits, records.splits[1:], strict=False)]
    for history in histories:
        [row] = [row for row, seen in enumerate(sampled.seen) if seen[seen > 0].tolist() == history.tolist()]
        vectors, log_intent = tower.user_vectors(tf.constant(history[None, -6:]))
        np.testing.assert_allclose(sampled.vectors[row], vectors[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(sampled.log_intent[row], log_intent[0], rtol=1e-4, atol=1e-5)
    assert sampled.per_cluster


def test_there_may_be_fewer_users_than_wanted(tower):
    assert len(sample_users(tower, make_records(3), count=64).vectors) == 3


def test_an_exact_index_recovers_everything(tower, users):
    index = ExactIndex(tower.item_embeddings, OFFSETS)
    assert recovery.ensure_joint_recovery(index, tower, users, 20) == 1


def test_a_user_who_has_seen_everything_has_nothing_to_recover():
    """The mean of nothing is NaN, which is less than no requirement, and no JSON."""
    exact, found = np.array([[-1, -1], [1, 2]]), np.array([[7, 8], [2, 9]])
    assert recovery._shared(exact, found) == 0.5
    assert recovery._shared(exact[:1], found[:1]) == 1


@pytest.mark.parametrize(("known", "alpha"), [(True, 1.0), (False, 1.0), (True, 0.5)])
def test_a_tuned_index_recovers_what_is_required(tower, users, known, alpha, monkeypatch, caplog):
    users = users if known else None  # it is tuned on those that it is measured on
    index = make_index(tower, users, monkeypatch)
    assert 0.97 <= recovery.ensure_joint_recovery(index, tower, users, 20, alpha) <= 1
    # TensorFlow's records are not ours: after other tests of the process it warned of graphs made too often.
    assert not [record for record in caplog.records if record.name == recovery.__name__]


def test_too_little_is_tried_harder_for_and_then_said_loudly(index, tower, users, monkeypatch, caplog):
    tried = []
    monkeypatch.setattr(recovery, "REQUIRED", 1.1)
    monkeypatch.setattr(index, "enlarge_samples", tried.append)
    recovery.ensure_joint_recovery(index, tower, users, 20)
    assert tried == [4, 16]
    assert "of the exact joint lists of 20 items" in caplog.text
    assert "export.recall" in caplog.text
