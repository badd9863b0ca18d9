"""Conditions from the words of a client."""

import numpy as np
import pytest

from tfdnc.contracts.conditions import checked, forbidden, required


@pytest.mark.parametrize(
    ("rule", "conditions"),
    [
        ({"in_stock": True, "price": (None, 20)}, ["in_stock=true", "price<=20"]),
        ({"price": (5, 20.5)}, ["price>=5", "price<=20.5"]),
        ({"brand": ["acme", "a=b"], "year": 1994}, ["brand=acme", "brand=a=b", "year=1994"]),
        ({"brand": ("acme", "other")}, ["brand=acme", "brand=other"]),
        ({"year": [1994, 1995.0]}, ["year=1994", "year=1995"]),
        ({"sale": np.bool_(False), "price": (np.float32(0.5), np.int64(7))}, ["sale=false", "price>=0.5", "price<=7"]),
        ({"price": (None, None)}, []),
        ({"cluster": "Comedy"}, ["cluster=Comedy"]),
        ({}, []),
    ],
)
def test_a_rule_becomes_conditions(rule, conditions):
    assert required(rule) == conditions


def test_forbidden_values_become_conditions():
    assert forbidden({"brand": ["acme", "x"], "adult": True}) == ["brand!=acme", "brand!=x", "adult!=true"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: required({"a=b": 1}), "Expected the name of a column"),
        (lambda: required({"brand": []}), "at least one value of 'brand'"),
        (lambda: required({"brand": None}), "Expected a value of 'brand'"),
        (lambda: required({"brand": {"x": 1}}), "Expected a value of 'brand'"),
        (lambda: required({"brand": " acme"}), "without spaces around it"),
        (lambda: required({"price": (float("nan"), 3)}), "a finite number for 'price'"),
        (lambda: required({"brand": [b"acme"]}), r"Expected text, a number, True or False for 'brand', got b'acme'"),
        (lambda: forbidden({"price": (1, 2)}), "values to forbid of 'price', got the range"),
        (lambda: checked(["price"]), "Expected a condition such as in_stock=true"),
        # A raw UnicodeEncodeError, from the tensors of the request.
        (lambda: required({"brand": "a\ud800"}), r"a value of 'brand' that UTF-8 can express, got 'a\\ud800'"),
        (lambda: required({"\udcffx": "a"}), r"the name of a column that UTF-8 can express, got '\\udcffx'"),
        (lambda: checked(["brand=\ud800"]), r"a condition that UTF-8 can express"),
    ],
)
def test_what_no_condition_can_say_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
