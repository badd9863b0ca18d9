"""Items that have left: histories hold them as before, and no list, no count and no intent does."""

import numpy as np
import pytest

from tests.tfdnc.export.bundle_cases import history, make_items, make_tower, retrieve_inputs
from tfdnc.backend import tf
from tfdnc.contracts.config import ExportConfig, MergeConfig
from tfdnc.export.module import RetrievalModule
from tfdnc.retrieval.index import ExactIndex

SIZES, PAST = [5, 4, 6], [2, 3, 7, 13]
STAY = [row for row in range(sum(SIZES)) if row not in PAST]
CLUSTERS = np.repeat(np.arange(3), SIZES)


def make_module(folder, tower, items, past_ids=()):
    folder.mkdir()
    cold = np.ones(tower.user_vectors(tf.constant([[1]]))[0].shape[1:], np.float32)
    export = ExportConfig(num_candidates=5, max_candidates=12)
    index = ExactIndex(tower.item_embeddings, tower.offsets, max_k=12)
    return RetrievalModule(tower, items, index, cold, MergeConfig(), export, folder, past_ids=past_ids)


@pytest.fixture(scope="module", params=["hadamard_per_position", "transformer", "user_embedding"])
def modules(request, tmp_path_factory):
    """The same tower before four items of it left, and after that."""
    folder = tmp_path_factory.mktemp("assets")
    items = make_items(SIZES)
    tower = make_tower(items, request.param)
    left = make_items(np.bincount(CLUSTERS[STAY]).tolist())
    left.item_ids[:] = [items.item_ids[row] for row in STAY]
    vectors = tower.item_embeddings.numpy()[STAY + PAST]
    after = tower.with_items(left.offsets, items.counts[STAY], vectors, CLUSTERS[PAST])
    past_ids = [items.item_ids[row] for row in PAST]
    return make_module(folder / "before", tower, items), make_module(folder / "after", after, left, past_ids), items


def test_histories_with_items_that_left_are_encoded_as_before(modules, request):
    before, after, items = modules
    rows = tf.constant(history([items.item_ids[0], items.item_ids[3]], [items.item_ids[13]], [items.item_ids[8]]))
    expected, found = before.encode(rows)["user_embeddings"], after.encode(rows)["user_embeddings"]
    if "user_embedding" in request.node.name:  # folds in all listed items, so a smaller catalogue moves its vectors
        assert np.abs(found - expected).max() < np.abs(expected).max()
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_lists_hold_all_items_that_stay_and_no_other(modules):
    _, after, items = modules
    inputs = retrieve_inputs([[items.item_ids[0], items.item_ids[3]], [items.item_ids[13]], []], num_candidates=12)
    answer = after.retrieve(**{name: tf.constant(value) for name, value in inputs.items()})
    assert answer["num_results"].numpy().tolist() == [10, 11, 11]
    assert np.isfinite(answer["intent"]).all()
    for found, seen in zip(answer["item_ids"].numpy(), ({0}, set(), set()), strict=True):
        assert {item.decode() for item in found} - {""} == {items.item_ids[row] for row in STAY if row not in seen}
    clusters = {row: CLUSTERS[row] for row in STAY}
    for item, cluster in zip(answer["item_ids"].numpy()[1][:11], answer["cluster_ids"].numpy()[1], strict=False):
        assert cluster == clusters[items.item_ids.index(item.decode())]
