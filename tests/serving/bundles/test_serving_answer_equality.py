"""Equality of two answers: tolerances, ties, overlaps."""

import numpy as np
import pytest
import serving_models  # noqa: F401 - Keras 2 before TensorFlow
from tensorflow_serving.apis import predict_pb2

from serving import tensors
from serving.bundles.answer_equality import TOLERANCE, compare
from tfdnc.contracts import bundle


def response(**outputs):
    message = predict_pb2.PredictResponse()
    for name, value in outputs.items():
        tensors.encode(np.asarray(value), message.outputs[name])
    return message


def answer(ids, clusters, scores, width=6, intent=(0.5, 0.5)):
    """One row with a list."""
    pad = width - len(ids)
    return response(
        item_ids=np.array([[*(i.encode() for i in ids), *[b""] * pad]], dtype=object),
        cluster_ids=np.int32([[*clusters, *[-1] * pad]]),
        scores=np.float32([[*scores, *[bundle.SCORE_PAD] * pad]]),
        num_results=np.int32([len(ids)]),
        quotas=np.int32([[clusters.count(0), clusters.count(1)]]),
        intent=np.float32([intent]),
    )


RECORDED = answer("abcd", [0, 1, 0, 1], [-1.0, -2.0, -3.0, -4.0])


def test_the_same_answer_is_identical():
    found = compare(RECORDED, RECORDED)
    assert (found.fault, found.identical, found.difference, found.overlap) == ("", True, 0.0, 1.0)


def test_numbers_within_the_tolerance_pass_and_the_largest_difference_is_told():
    near = answer("abcd", [0, 1, 0, 1], [-1.0, -2.0, -3.0, -4.0 * (1 + TOLERANCE)])
    found = compare(RECORDED, near)
    assert found.identical
    assert found.difference == pytest.approx(4 * TOLERANCE, rel=0.01)


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        (answer("abcd", [0, 1, 0, 1], [-1.0, -2.0, -3.0, -4.1]), "scores differs by up to 0.1"),
        (answer("abcd", [0, 1, 0, 1], [-1.0, -2.0, -3.0, -4.0], intent=(0.6, 0.4)), "intent differs"),
        (answer("abcd", [0, 1, 0, 1], [-1.0, -2.0, -3.0, np.nan]), "scores differs"),
        (answer("abc", [0, 1, 0], [-1.0, -2.0, -3.0]), "num_results differs|scores differs"),
        (answer("abxd", [0, 1, 0, 1], [-1.0, -2.0, -3.0, -4.0], width=7), "its outputs are"),
        (answer("abcd", [0, 1, 1, 1], [-1.0, -2.0, -3.0, -4.0]), "item 'c' came from cluster 1, recorded was 0"),
        (answer("cbda", [0, 1, 1, 0], [-1.0, -2.0, -3.0, -4.0]), ""),  # neighbours of a cluster may swap ranks
        (answer("xbcd", [0, 1, 0, 1], [-1.0, -2.0, -3.0, -4.0]), "item 'a' is missing"),
        (response(y=np.float32([1])), "its outputs are y float32"),
    ],
)
def test_a_difference_that_no_tie_explains_is_a_fault(other, fault):
    found = compare(RECORDED, other)
    assert not found.identical
    assert any(word in found.fault for word in fault.split("|"))
    assert bool(found.fault) == bool(fault)


def test_an_item_that_moved_by_two_ranks_did_not_tie():
    old = answer("abcd", [0] * 4, [-1.0, -2.0, -3.0, -4.0])
    new = answer("bcad", [0] * 4, [-1.0, -2.0, -3.0, -4.0])
    assert "item 'a' is at rank 2 of its cluster, recorded was 0" in compare(old, new).fault


def test_items_that_tie_may_trade_places_and_the_list_may_end_among_them():
    old = answer("abcd", [0] * 4, [-1.0, -2.0, -2.0, -2.0])
    new = answer("adxb", [0] * 4, [-1.0, -2.0, -2.0, -2.0])
    found = compare(old, new)
    assert (found.fault, found.identical, found.overlap) == ("", False, 0.75)


def test_at_the_end_of_a_cluster_a_neighbour_may_take_the_place():
    new = answer("abxd", [0, 1, 0, 1], [-1.0, -2.0, -3.0, -4.0])
    assert compare(RECORDED, new).fault == ""


def test_only_the_overlap_of_approximate_lists_counts():
    new = answer("axyd", [0, 1, 0, 1], [-1.0, -2.5, -3.5, -4.0])
    found = compare(RECORDED, new, approximate=True)
    assert (found.fault, found.identical, found.overlap) == ("", False, 0.5)
    other_intent = answer("abcd", [0, 1, 0, 1], [-1.0, -2.0, -3.0, -4.0], intent=(0.6, 0.4))
    assert "intent differs" in compare(RECORDED, other_intent, approximate=True).fault


def test_answers_without_lists_are_compared_by_value():
    old = response(y=np.float32([[1.0]]), text=np.array([b"a"], dtype=object))
    assert compare(old, old).identical
    assert "text differs" in compare(old, response(y=np.float32([[1.0]]), text=np.array([b"b"], dtype=object))).fault
