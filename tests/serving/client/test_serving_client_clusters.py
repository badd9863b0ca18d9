"""Controls of clusters by name and by share: their numbers in a request, and a change of versions between calls."""

import numpy as np
import pytest
from scripted_server import Script, described, echo, served

from serving import tensors
from serving.client import RetrievalError
from serving.client.clusters import numbered, per_history
from tfdnc.contracts import bundle

NAMES = ["Comedy", "Drama / War", "7"]


def numbers(num_candidates=50, rows=1, names=NAMES, **named):
    arrays = numbered(per_history(named, rows), names, num_candidates)
    return {name: array.tolist() for name, array in arrays.items()}


def test_clusters_are_named_or_numbered_and_the_others_are_left_alone():
    assert numbers(minimum={"Drama / War": 3}) == {bundle.CLUSTER_MIN: [[0, 3, 0]]}
    assert numbers(maximum={"Drama / War": 3, 0: 4}) == {bundle.CLUSTER_MAX: [[4, 3, -1]]}
    assert numbers(quotas={np.int64(1): 2.5}) == {bundle.CLUSTER_QUOTAS: [[0, 2.5, 0]]}
    assert numbers(minimum={"7": 1, "1": 2}) == {bundle.CLUSTER_MIN: [[0, 2, 1]]}  # a name first, else a number


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        (0.2, 10, 10),
        (0.19, 10, 9),
        (np.float32(0.2), 10, 10),  # which is a little more than .2
        (0.0, 0, 0),
        (1.0, 50, 50),  # the whole list
        (1, 1, 1),  # one result
        (np.int64(7), 7, 7),
    ],
)
def test_a_float_is_a_share_and_an_integer_a_count(value, least, most):
    assert numbers(minimum={"Comedy": value})[bundle.CLUSTER_MIN] == [[least, 0, 0]]
    assert numbers(maximum={"Comedy": value})[bundle.CLUSTER_MAX] == [[most, -1, -1]]


def test_a_share_is_exact_for_every_length_and_percentage():
    """In binary fractions .07 * 100 is above 7, and would be rounded up to 8."""
    lengths = np.arange(1, 501)
    for percent in range(101):
        least = numbered({"minimum": [{0: percent / 100}] * 500}, NAMES, lengths)[bundle.CLUSTER_MIN][:, 0]
        most = numbered({"maximum": [{0: percent / 100}] * 500}, NAMES, lengths)[bundle.CLUSTER_MAX][:, 0]
        np.testing.assert_array_equal(least, -(-percent * lengths // 100))
        np.testing.assert_array_equal(most, percent * lengths // 100)


def test_shares_are_of_each_history_and_so_may_the_controls_be():
    assert numbers([10, 20], 2, minimum={"Comedy": 0.5}) == {bundle.CLUSTER_MIN: [[5, 0, 0], [10, 0, 0]]}
    each = [{"Comedy": 0.5}, {"7": 1}]
    for form in (
        list,
        tuple,
        iter,
        lambda controls: np.array(controls, object),
        lambda controls: (control for control in controls),
    ):
        assert numbers([10, 20], 2, minimum=form(each)) == numbers([10, 20], 2, minimum=each)
    assert numbers([10, 20], 2, minimum=each) == {bundle.CLUSTER_MIN: [[5, 0, 0], [0, 0, 1]]}
    assert numbers(10, 2, quotas=[{}, {"7": 1}]) == {bundle.CLUSTER_QUOTAS: [[0, 0, 0], [0, 0, 1]]}


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (
            {"minimum": {"Comdy": 1}},
            r"'Comdy'. Did you mean 'Comedy'\? Known: 'Comedy' .0., 'Drama / War' .1., '7' .2.",
        ),
        ({"minimum": {3: 1}}, "Expected the name or the number of a cluster, got 3. Known: "),
        ({"minimum": {-1: 1}}, "got -1. Known: "),
        ({"minimum": {True: 1}}, "got True. Known: "),
        ({"minimum": {"Comedy": 1, 0: 2}}, "every cluster once in minimum, got 'Comedy' twice"),
        ({"minimum": {"Comedy": 1.5}}, "minimum of 'Comedy' to be a count .* or a share .*, got 1.5"),
        ({"maximum": {"Comedy": -1}}, "maximum of 'Comedy' to be a count .* got -1"),
        ({"minimum": {"Comedy": "1"}}, "minimum of 'Comedy' to be a count .* got '1'"),
        ({"minimum": {"Comedy": True}}, "minimum of 'Comedy' to be a count .* got True"),
        ({"quotas": {"Comedy": float("nan")}}, "quotas of 'Comedy' to be a weight from 0 up, got nan"),
        ({"quotas": {"Comedy": 0}}, "Expected quotas of which one is above 0, got .'Comedy': 0."),
        ({"quotas": {"Comedy": 1e-50}}, "Expected quotas of which one is above 0"),  # it is 0 in a request
        ({"minimum": [{"Comedy": 1}] * 2}, "Expected minimum as a dict of clusters, or 1 of these"),
        ({"minimum": [1, 2, 3]}, "Numbers for all clusters go to cluster_min"),
        ({"minimum": ({"Comedy": 1} for _ in range(2))}, r"got \[{'Comedy': 1}, {'Comedy': 1}\]"),
        ({"quotas": "Comedy"}, "Expected quotas as a dict of clusters, or 1 of these, .* got 'Comedy'"),
        ({"maximum": 7}, "Expected maximum as a dict of clusters, .* got 7"),
        (
            {"minimum": {0: 0.34, 1: 0.33, 2: 0.34}},
            "add up to at most 50, the length of the list, got 51 for history 0 .a share",
        ),
        (
            {"minimum": {0: 0.33}, "maximum": {0: 0.33}},
            "'Comedy' at most its maximum, 16, got 17 for history 0 .a share",
        ),
        # A row of zeros says "not given" in a request, and all clusters would be open again.
        ({"maximum": {0: 0, 1: 0.01, 2: 0}}, "Expected maximum to leave a cluster open, got 0 for all for history 0"),
    ],
)
def test_controls_that_no_list_can_meet_are_refused(named, sentence):
    with pytest.raises(ValueError, match=sentence):
        numbers(**named)


def test_a_name_of_two_clusters_is_refused_and_a_number_tells_them_apart():
    twins = ["Comedy", "War", "Comedy"]
    with pytest.raises(ValueError, match=r"got 'Comedy', the name of clusters \[0, 2\]. Give the number"):
        numbers(names=twins, minimum={"Comedy": 1})
    assert numbers(names=twins, minimum={2: 1, "War": 2}) == {bundle.CLUSTER_MIN: [[0, 2, 1]]}


def controls_of(request):
    return {name: tensors.decode(request.inputs[name]).tolist() for name in (bundle.CLUSTER_MIN, bundle.CLUSTER_MAX)}


def answered_by(version):
    """Returns a line that echoes as a version does."""

    def line(request, context):
        response = echo(request)
        response.model_spec.version.value = version
        return response

    return line


def test_a_call_asks_for_the_names_first_and_sends_numbers(ask):
    script = Script(described(7, NAMES), answered_by(7))
    histories = ([f"u{user}"] for user in range(3))
    with served(script) as target:
        answers = ask(
            target, "retrieve", histories, [10, 20, 5], minimum={"Comedy": 0.2}, maximum={"7": 0.5},
            exclude=iter([["x"], [], []]), joint_alpha=0.5, client={"batch_size": 2, "max_in_flight": 1},
        )  # fmt: skip
    assert [answer.item_ids for answer in answers] == [["u0"], ["u1"], ["u2"]]
    names, *parts = script.requests
    assert names.model_spec.signature_name == "describe"
    assert {part.model_spec.signature_name for part in parts} == {"retrieve_controlled"}
    assert controls_of(parts[0]) == {
        bundle.CLUSTER_MIN: [[2, 0, 0], [4, 0, 0]],
        bundle.CLUSTER_MAX: [[-1, -1, 5], [-1, -1, 10]],
    }
    assert controls_of(parts[1]) == {bundle.CLUSTER_MIN: [[1, 0, 0]], bundle.CLUSTER_MAX: [[-1, -1, 2]]}


@pytest.mark.parametrize("wrong", [7, "Comedy", [1, 2], [{"Comedy": 1}]])
def test_controls_that_are_no_dicts_are_refused_before_the_names_are_asked_for(ask, wrong):
    script = Script(described(7, NAMES))
    with served(script) as target, pytest.raises(ValueError, match="Expected minimum as a dict of clusters, or 2 of"):
        ask(target, "retrieve", [["a"], ["b"]], 10, minimum=wrong)
    assert not script.requests


def test_another_version_between_names_and_lists_is_asked_again_by_its_own_names(ask):
    script = Script(described(7, NAMES), answered_by(8), described(8, NAMES[::-1]), answered_by(8))
    with served(script) as target:
        histories = ([item] for item in "ab")  # which can be read only once
        controls = ({"Comedy": 3} for _ in range(2))
        [first, second] = ask(target, "retrieve", histories, 10, minimum=controls)
    assert first.item_ids + second.item_ids == ["a", "b"]
    assert controls_of(script.requests[1])[bundle.CLUSTER_MIN] == [[3, 0, 0]] * 2
    assert controls_of(script.requests[3])[bundle.CLUSTER_MIN] == [[0, 0, 3]] * 2


def test_names_and_lists_that_never_agree_are_an_error(ask):
    script = Script(*[described(7, NAMES), answered_by(8)] * 3)
    with (
        served(script) as target,
        pytest.raises(RetrievalError, match="ABORTED: Expected one version of model 'tfdnc'"),
    ):
        ask(target, "retrieve", [["a"]], 10, minimum={"Comedy": 3})
    assert len(script.requests) == 6


@pytest.mark.parametrize(
    ("controls", "sentence"),
    [
        ({"minimum": {0: 1}}, "Expected num_candidates together with minimum, got None"),
        ({"num_candidates": 5, "maximum": {0: 1}, "cluster_max": [1]}, "maximum by names or cluster_max by numbers"),
        ({"num_candidates": 5, "quotas": {0: 1}, "joint_alpha": 1}, "joint_alpha or cluster_quotas"),
        ({"num_candidates": 5, "minimum": {"x": 1}}, "Known: 'comedy' .0., 'drama' .1."),
    ],
)
def test_controls_by_name_without_meaning_are_refused(ask, bundle_server, controls, sentence):
    with pytest.raises(ValueError, match=sentence):
        ask(bundle_server.address, "retrieve", [["a"]], **controls)


def test_a_bundle_answers_the_names_of_its_clusters(ask, bundle_server):
    assert ask(bundle_server.address, "cluster_names") == ["comedy", "drama"]
    [answer] = ask(bundle_server.address, "retrieve", [["a"]], 4, minimum={"drama": 0.5}, maximum={"comedy": 2})
    assert answer.item_ids == ["i0", "i1", "i2", "i3"]
    assert ask(bundle_server.address, "retrieve", [], 4, minimum={"drama": 0.5}) == []


def test_a_bundle_without_names_is_refused_with_advice(ask, half_server):
    with pytest.raises(RetrievalError, match=r"or export it again\. Or give numbers for all clusters: cluster_min"):
        ask(half_server.address, "retrieve", [["a"]], 4, minimum={"drama": 0.5}, client={"model_name": "half"})
