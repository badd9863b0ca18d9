"""Rules in requests of the clients: conditions per user, allowed items, and the signature that carries them."""

import numpy as np
import pytest
from tensorflow_serving.apis import model_pb2

from serving import tensors
from serving.client import clusters, refusals
from serving.messages import retrieve_request

USERS = [["1", "2"], []]


def sent(**rules):
    request = retrieve_request(USERS, 5, **rules)
    return request.model_spec.signature_name, {name: tensors.decode(proto) for name, proto in request.inputs.items()}


def text(array):
    return [[value.decode() for value in row] for row in array.tolist()]


def test_one_rule_is_for_all_users():
    name, inputs = sent(where={"in_stock": True, "price": (None, 20)}, forbid={"brand": "acme"})
    assert name == "retrieve_filtered"
    assert text(inputs["where"]) == [["", "in_stock=true", "price<=20", "brand!=acme"]] * 2
    assert text(inputs["allow"]) == [[""], [""]]
    assert text(sent(where=["price<3"])[1]["where"]) == [["", "price<3"]] * 2


def test_rules_and_allowed_items_of_each_user():
    _, inputs = sent(where=[{"brand": ["a", "b"]}, None], allow=[None, ["7", "8"]], cluster_max=[1, -1])
    assert text(inputs["where"]) == [["", "brand=a", "brand=b"], ["", "", ""]]
    assert text(inputs["allow"]) == [["", "", ""], ["", "7", "8"]]
    np.testing.assert_array_equal(inputs["cluster_max"], [[1, -1]] * 2)
    assert text(sent(where=[["price<3"], {"sale": False}])[1]["where"]) == [["", "price<3"], ["", "sale=false"]]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"where": [{}]}, "Expected where as a dict of columns, as conditions, or 2 of these"),
        ({"where": 3}, "Expected where as a dict of columns"),
        ({"where": [3, {}]}, "Expected where as a dict of columns or as a list of conditions, got 3"),
        ({"where": ["price"]}, "Expected a condition such as"),
        ({"forbid": ["brand=a"]}, "Expected forbid as a dict of columns"),
        ({"allow": [["1"]]}, "Expected one sequence to allow per history, 2"),
        ({"allow": [[], None]}, "at least one item id to allow for history 0, got none. None allows all"),
        ({"allow": [[7], None]}, "item ids as text"),
    ],
)
def test_rules_that_no_bundle_could_read_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        sent(**rules)


def test_a_bundle_without_attributes_is_explained():
    said = 'Serving signature key "retrieve_filtered" not found.'
    assert "exported without attributes" in refusals._advice(said, model_pb2.ModelSpec(name="tfdnc"))


def test_bounds_on_values_are_counts_in_the_list_of_each_user():
    name, inputs = sent(at_least={"country": {"local": 0.3}}, at_most={"brand": {"acme": 2, "*": 0.5}})
    assert name == "retrieve_bounded"
    assert text(inputs["bounds"]) == [["", "country=local>=2", "brand=acme<=2", "brand=*<=2"]] * 2
    assert text(inputs["where"]) == [[""], [""]]
    request = retrieve_request(USERS, [10, 20], at_least=[{"sale": {True: 0.25}}, {}])
    assert text(tensors.decode(request.inputs["bounds"])) == [["", "sale=true>=3"], ["", ""]]


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"at_least": {"brand": {"acme": 3}}, "at_most": {"brand": {"acme": 2}}}, "brand=acme>=3 and brand=acme<=2"),
        ({"at_least": {"brand": {"acme": 3}}, "at_most": {"brand": {"*": 2}}}, r"brand=acme>=3 and brand=\*<=2"),
        ({"at_least": {"brand": {"acme": 6}}}, "brand=acme>=6 and num_candidates 5. This is for history 0"),
        ({"at_least": {"brand": {"*": 1}}}, "Each value of a column can have a maximum only"),
        ({"at_most": {"brand": 3}}, "Expected maximum of 'brand' as a dict of its values"),
        ({"at_most": {"brand": {"acme": 1.5}}}, "a share of the list"),
        ({"at_most": {"brand": {" acme": 1}}}, "without spaces around it"),
        ({"at_most": [{}]}, "Expected maximum as a dict of columns, or 2 of these"),
    ],
)
def test_bounds_that_no_list_can_keep_are_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        sent(**bounds)


def test_a_bundle_without_bounds_is_explained():
    said = 'Serving signature key "retrieve_bounded" not found.'
    assert "run `tfdnc export` again" in refusals._advice(said, model_pb2.ModelSpec(name="tfdnc"))


def test_bounds_of_clusters_and_of_columns_are_in_one_argument():
    limits = {"Comedy": 0.2, "country": {"local": 3}}
    assert clusters.split(limits) == ({"Comedy": 0.2}, {"country": {"local": 3}})
    assert clusters.split([limits, {}]) == ([{"Comedy": 0.2}, {}], [{"country": {"local": 3}}, {}])
    assert clusters.split({"country": {"local": 3}}) == (None, {"country": {"local": 3}})
    assert clusters.split({"Comedy": 2}) == ({"Comedy": 2}, None)
    assert clusters.split({}) == ({}, None)
    assert clusters.split(None) == (None, None)
