"""Requests for candidates: the signature follows from the arguments, and the tensors follow the signature."""

import numpy as np
import pytest
import serving_models  # noqa: F401 - Keras 2 before TensorFlow

from serving import tensors
from serving.messages import Encoding, retrieve_request, search_request
from tfdnc.contracts import bundle
from tfdnc.contracts.input_forms import declared_row
from tfdnc.contracts.schema import UNKNOWN_NUMBER

HISTORIES = [["1", "2"], ["3"]]


def inputs_of(request):
    return {name: tensors.decode(proto) for name, proto in request.inputs.items()}


@pytest.mark.parametrize(
    ("controls", "signature"),
    [
        ({}, "serving_default"),
        ({"num_candidates": 5}, "retrieve"),
        ({"num_candidates": 5, "alpha": 0}, "retrieve"),
        ({"num_candidates": 5, "joint_alpha": 0.8}, "retrieve_joint"),
        ({"num_candidates": 5, "exclude": [["1"], []]}, "retrieve_controlled"),
        ({"num_candidates": 5, "cluster_max": [1, 2]}, "retrieve_controlled"),
        ({"num_candidates": 5, "seen": "allow"}, "retrieve_controlled"),
        ({"num_candidates": 5, "cluster_max": [1, 2], "joint_alpha": 0.8}, "retrieve_controlled"),
        ({"num_candidates": 5, "exclude": [["1"], []], "joint_alpha": 0.8}, "retrieve_controlled"),
        ({"num_candidates": 5, "alpha": [1, -1], "joint_alpha": [-1, 0.8]}, "retrieve_controlled"),
    ],
)
def test_the_signature_follows_from_the_arguments(controls, signature):
    request = retrieve_request(HISTORIES, **controls)
    assert request.model_spec.signature_name == signature
    assert set(request.inputs) == set(bundle.SIGNATURES[signature].input_names)


def test_a_control_that_is_not_given_is_one_column_of_zeros():
    inputs = inputs_of(retrieve_request(HISTORIES, 5, exclude=[["1", "7"], []]))
    np.testing.assert_array_equal(inputs[bundle.EXCLUDE], [[b"", b"1", b"7"], [b"", b"", b""]])
    for name, dtype in ((bundle.CLUSTER_QUOTAS, "f"), (bundle.CLUSTER_MIN, "i"), (bundle.CLUSTER_MAX, "i")):
        np.testing.assert_array_equal(inputs[name], np.zeros([2, 1]))
        assert inputs[name].dtype.kind == dtype
    np.testing.assert_array_equal(inputs[bundle.ALPHA], [-1, -1])
    np.testing.assert_array_equal(inputs[bundle.JOINT_ALPHA], [-1, -1])


def test_seen_is_a_word_for_all_users_or_each():
    def words(**controls):
        return inputs_of(retrieve_request(HISTORIES, 5, exclude=[["1"], []], **controls))[bundle.SEEN].tolist()

    assert words() == [b"", b""]
    assert words(seen="allow") == [b"allow", b"allow"]
    assert words(seen=np.array(["exclude", ""])) == [b"exclude", b""]


def test_every_history_may_have_a_merge_of_its_own_and_bounds_beside_it():
    quotas = [[0, 0], [0, 0], [2, 3]]
    inputs = inputs_of(
        retrieve_request(
            [*HISTORIES, []], 5, [1, -1, -1], joint_alpha=[-1, 0.5, -1], cluster_quotas=quotas, cluster_max=[3, 4]
        )
    )
    np.testing.assert_array_equal(inputs[bundle.ALPHA], [1, -1, -1])
    np.testing.assert_array_equal(inputs[bundle.JOINT_ALPHA], [-1, 0.5, -1])
    np.testing.assert_array_equal(inputs[bundle.CLUSTER_QUOTAS], quotas)
    np.testing.assert_array_equal(inputs[bundle.CLUSTER_MAX], [[3, 4]] * 3)


def test_users_who_are_encoded_already_choose_their_merge_too():
    encoding = Encoding(np.zeros([2, 3, 4], np.float32), np.full([2, 3], 1 / 3, np.float32))
    request = search_request(encoding, HISTORIES, 5, joint_alpha=[0.5, -1])
    inputs = inputs_of(request)
    assert set(inputs) == set(bundle.SIGNATURES["search"].input_names)
    np.testing.assert_array_equal(inputs[bundle.JOINT_ALPHA], [0.5, -1])
    np.testing.assert_array_equal(inputs[bundle.ALPHA], [-1, -1])
    with pytest.raises(ValueError, match="Expected joint_alpha or alpha for a history, got both for history 0"):
        search_request(encoding, HISTORIES, 5, alpha=1, joint_alpha=1)


def test_clusters_are_controlled_for_all_users_or_each():
    inputs = inputs_of(
        retrieve_request(
            HISTORIES, 5, cluster_quotas=[0, 2.5, 1], cluster_max=[[1, 2, -1], [0, 0, 3]], cluster_min=[0] * 3
        )
    )
    np.testing.assert_array_equal(inputs[bundle.CLUSTER_QUOTAS], np.float32([[0, 2.5, 1]] * 2))
    np.testing.assert_array_equal(inputs[bundle.CLUSTER_MAX], np.int32([[1, 2, -1], [0, 0, 3]]))
    np.testing.assert_array_equal(inputs[bundle.CLUSTER_MIN], np.zeros([2, 3], np.int32))


@pytest.mark.parametrize(
    ("controls", "sentence"),
    [
        ({"alpha": 1.0}, "Expected num_candidates together with"),
        ({"exclude": [[], []]}, "Expected num_candidates together with"),
        ({"joint_alpha": 1.0}, "Expected num_candidates together with"),
        ({"seen": "allow"}, "Expected num_candidates together with"),
        ({"num_candidates": 5, "seen": "all"}, "Expected seen as one of 'exclude', 'allow', '', got 'all'"),
        ({"num_candidates": 5, "seen": [True, False]}, "Expected seen as one of"),
        ({"num_candidates": 5, "seen": ["allow"]}, "Expected one seen or 2, one per history, got 1"),
        ({"num_candidates": 5, "alpha": 1.0, "joint_alpha": 1.0}, "joint_alpha or alpha .* got both for history 0"),
        ({"num_candidates": 5, "alpha": [-1, 0], "joint_alpha": 0}, "joint_alpha or alpha .* got both for history 1"),
        (
            {"num_candidates": 5, "joint_alpha": 1.0, "cluster_quotas": [1, 2]},
            "joint_alpha or cluster_quotas .* got both for history 0: a list has one merge",
        ),
        ({"num_candidates": 5, "joint_alpha": [1.0, 1.0, 1.0]}, "joint_alpha"),
        ({"num_candidates": 5, "exclude": [["1"]]}, "Expected one sequence to exclude per history, 2, got 1."),
        ({"num_candidates": 5, "exclude": ["1", "2"]}, "Expected exclude to be a sequence of item ids as text"),
        (
            {"num_candidates": 5, "exclude": [["1"], [2]]},
            r"Expected exclude to be .*, got 2 \(int\) in row 1. Make text",
        ),
        ({"num_candidates": 5, "exclude": 3}, "Expected exclude to be a sequence of item ids as text .*, got 3"),
        ({"num_candidates": 5, "cluster_quotas": [[1, 2]] * 3}, "Expected cluster_quotas in numbers of float32"),
        ({"num_candidates": 5, "cluster_quotas": 1.0}, "Expected cluster_quotas in numbers of float32"),
        ({"num_candidates": 5, "cluster_quotas": [1, -2]}, "Expected cluster_quotas to be finite numbers from 0 up"),
        ({"num_candidates": 5, "cluster_quotas": [1, np.nan]}, "Expected cluster_quotas to be finite numbers"),
        ({"num_candidates": 5, "cluster_min": [0.5, 1]}, "Expected cluster_min in numbers of int32"),
        ({"num_candidates": 5, "cluster_max": [2**31, 1]}, "Expected cluster_max in numbers of int32"),
        ({"num_candidates": 5, "cluster_min": [1], "cluster_max": [1, 2]}, "as many clusters in cluster_min and"),
        ({"request_time": 7}, "Expected times together with request_time, got request_time alone"),
        ({"times": [[1, 2]]}, "Expected times for each of 2 histories"),
        ({"times": [[1], [2]]}, "none or as many as it has items .* got .1, 1."),
        ({"times": [1, 2]}, r"Expected times to be a sequence of numbers for each user, got 1 \(int\) in row 0"),
        ({"times": [{1, 2}, [3]]}, r"Expected times to be .* got \{1, 2\} \(set\) in row 0. Sets and dicts"),
        ({"times": [[1, 2], []]}, "Expected request_time, when the candidates are asked for, .* got -1"),
        ({"times": [[1, 2], [3]], "request_time": [4, -1]}, r"Expected request_time, .* got \[4, -1\]"),
        ({"times": [[1, 2.5], [3]], "request_time": 4}, "Expected times in numbers of int64"),
        ({"times": [[], []], "request_time": 1.5}, "Expected request_time in numbers of int64"),
        ({"times": [[-30, -7], [5]], "request_time": 0}, "Expected times and request_time from 0 up, or -1 for"),
        ({"times": [[], []], "request_time": -2}, "Expected times and request_time from 0 up, or -1 for"),
        ({"times": [[], []], "request_time": [1, 2, 3]}, "Expected one request_time or 2, one per history"),
        ({"features": [[1, 2], [3]]}, "Expected features to be a dict of values by name, got list"),
        ({"features": {"dwell": [[1], [2]]}}, r"Expected features\['dwell'\] for each of 2 histories, none or as many"),
        ({"features": {"dwell": [["1", "2"], [3]]}}, r"Expected features\['dwell'\] in numbers of float32"),
    ],
)
def test_arguments_that_no_server_could_answer_are_refused_before_sending(controls, sentence):
    with pytest.raises(ValueError, match=sentence):
        retrieve_request(HISTORIES, **controls)


@pytest.mark.parametrize("controls", [{}, {"num_candidates": 5}, {"num_candidates": 5, "exclude": [["1"], []]}])
def test_times_stand_beside_their_items_and_unknown_times_are_minus_1(controls):
    request = retrieve_request(HISTORIES, **controls, times=[[10**12, 10**12 + 5], []], request_time=[10**12 + 9, -1])
    inputs = inputs_of(request)
    rows = bundle.inputs_of(request.model_spec.signature_name, bundle.TIMES)
    assert set(inputs) == {row.name for row in rows}
    np.testing.assert_array_equal(inputs[bundle.HISTORY], [[b"", b"1", b"2"], [b"", b"3", b""]])
    np.testing.assert_array_equal(inputs[bundle.HISTORY_TIMES], [[-1, 10**12, 10**12 + 5], [-1, -1, -1]])
    np.testing.assert_array_equal(inputs[bundle.REQUEST_TIME], [10**12 + 9, -1])
    assert inputs[bundle.HISTORY_TIMES].dtype == inputs[bundle.REQUEST_TIME].dtype == np.int64


@pytest.mark.parametrize("controls", [{}, {"num_candidates": 5}, {"num_candidates": 5, "exclude": [["1"], []]}])
def test_features_stand_beside_their_items_and_a_missing_one_is_unknown(controls):
    features = {"dwell": [[0.5, None], [np.nan]], "price": [[], [7]]}
    request = retrieve_request(HISTORIES, **controls, times=[[], []], features=features)
    inputs, unknown = inputs_of(request), np.float32(UNKNOWN_NUMBER)
    np.testing.assert_array_equal(inputs["history_dwell"], np.float32([[unknown, 0.5, unknown], [unknown] * 3]))
    np.testing.assert_array_equal(inputs["history_price"], np.float32([[unknown] * 3, [unknown, 7, unknown]]))
    assert inputs["history_dwell"].dtype == np.float32
    assert {bundle.HISTORY_TIMES, bundle.REQUEST_TIME} < set(inputs)


@pytest.mark.parametrize("number", [float("inf"), -float("inf"), 1e300, np.float32("inf")])
def test_a_number_that_a_float_cannot_hold_is_refused(number):
    """It was sent, and swamped all other inputs of the user: the list was nonsense, without an error."""
    with pytest.raises(ValueError, match=r"Expected finite numbers of at most 3.4e\+38 in features\['dwell'\]"):
        retrieve_request([["a"]], 5, features={"dwell": [[number]]})


DECLARED = [
    declared_row(name, dtype)
    for name, dtype in {
        "history_dwell": "float32",
        "history_device": "string",
        "request_device": "string",
        "request_hour": "int32",
        "user_age": "float32",
    }.items()
]


def ask_for(**features):
    request = retrieve_request([["a", "b"], ["c"]], features=features, declared=DECLARED)
    return {name: tensors.decode(request.inputs[name]).tolist() for name in request.inputs}


def test_declared_inputs_have_their_types_and_those_left_out_are_unknown():
    sent = ask_for(device=[["web", None], []], request_device="app", user_age=[30, None])
    assert sent["history_device"] == [[b"", b"web", b""], [b"", b"", b""]]
    assert sent["request_device"] == [b"app", b"app"]
    assert sent["user_age"] == [30, pytest.approx(UNKNOWN_NUMBER)]
    assert sent["request_hour"] == [-1, -1]
    assert sent["history_dwell"] == [[pytest.approx(UNKNOWN_NUMBER)]] * 2


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            {"device": [[1, 2], []]},
            r"Expected text in features\['device'\], which is one of the values of .*, got 1",
        ),
        (
            {"request_device": ["app"]},
            r"Expected one value of features\['request_device'\] or 2, one per .*, got 1",
        ),
        ({"request_device": 3}, r"Expected text in features\['request_device'\].*, got 3"),
        ({"request_hour": 8.5}, r"Expected features\['request_hour'\] in numbers of int32, got 8.5"),
        ({"user_age": [1, 2, 3]}, r"Expected one features\['user_age'\] or 2, one per history, got shape \[3\]"),
        ({"age": 3}, "Expected features that the model reads, got 'age'; it reads dwell, device, request_device, "),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_name_of_its_input(features, message):
    with pytest.raises(ValueError, match=message):
        ask_for(**features)


def test_only_inputs_that_a_config_declares_are_declared_ones():
    assert declared_row("history_times", "int64") is None
    assert declared_row("request_time", "int64") is None
    assert declared_row("history", "string") is None
    assert declared_row("user_embeddings", "complex64") is None
