"""Held-out histories with which a bundle is checked."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, Kind, event_feature
from tfdnc.export.histories import sample_histories
from tfdnc.export.users import refuse_other_vectors
from tfdnc.training.records import HeldOutRecords

ITEMS = SimpleNamespace(item_ids=[f"film {row}" for row in range(100)])


def records(lengths, **features):
    """User u has the items u + 1, u + 2, ..."""
    items = [np.arange(user + 1, user + 1 + length) for user, length in enumerate(lengths)]
    splits = np.cumsum([0, *lengths])
    zeros = np.zeros(len(lengths), np.int32)
    return HeldOutRecords(np.concatenate(items).astype(np.int32), splits, zeros, zeros, features)


def test_the_shortest_and_the_longest_and_some_between_are_picked_as_raw_ids():
    lengths = [9, 3, 40, 1, 7, 5, 2, 8]
    histories, known = sample_histories(records(lengths), ITEMS.item_ids, 4)
    assert known == [{}] * 4
    assert histories[0] == ["film 3"]
    assert histories[-1] == [f"film {row}" for row in range(2, 42)]
    assert len(histories) == 4
    assert all(len(one) < len(other) for one, other in itertools.pairwise(histories))


@pytest.mark.parametrize(("users", "count"), [(1, 5), (3, 5), (5, 5)])
def test_few_users_are_all_picked_once(users, count):
    histories, _ = sample_histories(records([3] * users), ITEMS.item_ids, count)
    assert len({tuple(history) for history in histories}) == len(histories) == users


@pytest.mark.parametrize("start", [0, 10**9])
def test_a_client_knows_the_times_of_the_items_and_of_the_request_since_the_first_item(start):
    some = records([3, 2], elapsed=np.array([5, 0, 7, 4, 1]))
    histories, known = sample_histories(some, ITEMS.item_ids, 2, [TIME], start)
    assert histories == [["film 1", "film 2"], ["film 0", "film 1", "film 2"]]
    assert known == [
        {"history_times": [start, start + 4], "request_time": start + 5},
        {"history_times": [start, start + 5, start + 5], "request_time": start + 12},
    ]


def test_a_client_knows_numbers_as_they_are():
    some = records([3, 2], event_dwell=np.float32([1, 2, 3, 4, -1e30]))
    _, known = sample_histories(some, ITEMS.item_ids, 2, [event_feature("dwell", Kind.NUMBER)], start=7)
    assert known == [{"history_dwell": [4, np.float32(-1e30)]}, {"history_dwell": [1, 2, 3]}]


def test_vectors_that_the_evaluation_did_not_have_are_refused():
    expected = np.ones([3, 2, 4], np.float32)
    refuse_other_vectors(expected * 1.01, expected)
    for found in (expected * 1.1, expected * np.nan):
        with pytest.raises(UserError, match="Expected the bundle to encode users as the evaluation did"):
            refuse_other_vectors(found, expected)
