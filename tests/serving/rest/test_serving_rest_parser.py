"""JSON as TF Serving 2.20 reads it: RapidJSON 1.1 with NaN and Inf, without recursion, up to the end of a value."""

import json
import math
import random

import numpy as np
import pytest

from serving.rest import json_grammar, json_reader
from serving.rest.json_reader import JsonError, Repeated
from serving.rest.shown import shown


def slow(body):
    """Reads without Python's parser, which `read` tries first."""
    reader = json_grammar.Reader(body, 0, json_reader._integer, json_reader._decimal, json_reader._members)
    return reader.read()


@pytest.mark.parametrize("read", [json_reader.read, slow])
@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, -2, 0.5, 1e3, -0]}', {"a": [1, -2, 0.5, 1000.0, 0]}),
        (b' {"a":{},"b":[]}\r\n\t', {"a": {}, "b": []}),
        (b'{"a": [true, false, null, ""]}', {"a": [True, False, None, ""]}),
        (b"[Inf, -Inf, Infinity, -Infinity]", [math.inf, -math.inf, math.inf, -math.inf]),
        (b"[9e308, -1.8e308, 1e-400]", [math.inf, -math.inf, 0.0]),
        (b'{"a": 1} and what else is sent', {"a": 1}),
        (b'{"a": 1}{"b": 2}', {"a": 1}),
        (b'["\\u00e9\\n\\/\\u0000"]', ["é\n/\0"]),
        (b'["\\ud83d\\ude00"]', ["\U0001f600"]),
        ('["é"]'.encode(), ["é"]),
        (b"[18446744073709551615, -9223372036854775808]", [2**64 - 1, -(2**63)]),
        (b"[18446744073709551616, -9223372036854775809]", [2.0**64, -(2.0**63)]),
    ],
)
def test_values(read, body, value):
    read_value = read(body)
    assert read_value == value
    assert [type(x) for x in flat(read_value)] == [type(x) for x in flat(value)]


def flat(value):
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from flat(inner)
    else:
        yield value


def test_nan_has_a_sign_that_says_nothing():
    assert np.isnan(json_reader.read(b"[NaN, -NaN]")).all()


@pytest.mark.parametrize("read", [json_reader.read, slow])
def test_bytes_that_are_no_utf8_pass(read):
    """TF Serving does not ask the parser to check encodings; `\\udc00` becomes what such a point would be in UTF-8."""
    assert json_reader.utf8(read(b'["\xff\x80"]')[0]) == b"\xff\x80"
    assert json_reader.utf8(read(b'["\\udc00"]')[0]) == b"\xed\xb0\x80"


@pytest.mark.parametrize("read", [json_reader.read, slow])
def test_of_a_key_that_stands_twice_the_first_counts(read):
    value = read(b'{"a": 1, "b": 2, "a": 3}')
    assert isinstance(value, Repeated)
    assert (value["a"], value.get("b"), len(value)) == (1, 2, 3)
    assert list(value.items()) == [("a", 1), ("b", 2), ("a", 3)]


def test_depth():
    """Upstream reads lists of 500,000 levels under a key that has no meaning; Python's own parser gives up at 1,000."""
    depth = 30_000
    value = json_reader.read(b'{"x": 1, "other": ' + b"[" * depth + b"]" * depth + b"}")
    assert value["x"] == 1
    assert shown(value).startswith('{\n    "x": 1,\n    "other": [[[[')
    assert len(shown(value)) == 256


def test_depth_has_a_bound(monkeypatch):
    monkeypatch.setattr(json_grammar, "MAX_DEPTH", 2000)
    with pytest.raises(JsonError, match=r"The document is nested in more than 2000 levels\. at offset: 2001"):
        json_reader.read(b"[" * 3000)


def test_a_byte_order_mark_is_passed_over():
    for content in (b'{"a": 1}', b'{"a": Inf}'):
        assert json_reader.read(b"\xef\xbb\xbf" + content)["a"] > 0
    with pytest.raises(JsonError, match=r"Invalid value\. at offset: 8"):
        json_reader.read(b'\xef\xbb\xbf{"a":x}')


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b" \n", "The document is empty. at offset: 2"),
        (b"]", "The document is empty. at offset: 0"),
        (b"instances = [1, 2]", "Invalid value. at offset: 0"),
        (b"[1, 2", "Missing a comma or ']' after an array element. at offset: 5"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b"[+1]", "Invalid value. at offset: 1"),
        (b"[-]", "Invalid value. at offset: 2"),
        (b"[-x]", "Invalid value. at offset: 2"),
        (b"[Infi]", "Invalid value. at offset: 5"),
        (b"[nul]", "Invalid value. at offset: 4"),
        (b"[1] // a comment", None),
        (b"[1, // a comment\n 2]", "Invalid value. at offset: 4"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a": 1,}', "Missing a name for object member. at offset: 8"),
        (b"{a: 1}", "Missing a name for object member. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": }', "Invalid value. at offset: 6"),
        (b'{"a": 1 "b": 2}', "Missing a comma or '}' after an object member. at offset: 8"),
        (b'{"a": "b', "Missing a closing quotation mark in string. at offset: 8"),
        (b'["a\0b"]', "Missing a closing quotation mark in string. at offset: 3"),
        (b'["a\nb"]', "Invalid escape character in string. at offset: 3"),
        (b'["a\\q"]', "Invalid escape character in string. at offset: 3"),
        (b'["a\\u00g0"]', "Incorrect hex digit after \\u escape in string. at offset: 3"),
        (b'["\\ud800"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b'["\\ud800\\u0041"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e]", "Miss exponent in number. at offset: 3"),
        (b"[1e+]", "Miss exponent in number. at offset: 4"),
        (b"[1e309]", "Number too big to be stored in double. at offset: 1"),
        (b"[0e309]", "Number too big to be stored in double. at offset: 1"),
        (b"[" + b"1" * 5000 + b"]", "Number too big to be stored in double. at offset: 1"),
        (b"[" + b"1" * 310 + b".5]", "Number too big to be stored in double. at offset: 1"),
    ],
)
def test_errors_are_the_parsers(body, message):
    for read in (json_reader.read, slow):
        if message is None:
            read(body)
            continue
        with pytest.raises(JsonError) as caught:
            read(body)
        assert str(caught.value) == message


def test_both_ways_of_reading_agree_on_damaged_documents():
    document = json.dumps({"instances": [{"a": [1, 2.5, -3e2], "b": "x\u00e9"}, {}], "n": [None, True, [[]], "\\"]})
    dice = random.Random(5)
    for _ in range(3000):
        body = bytearray(document.encode())
        for _ in range(dice.randrange(1, 3)):
            body[dice.randrange(len(body))] = dice.choice(b'[]{}",:0\\e.-N\x00 \xff')
        assert outcome(json_reader.read, bytes(body)) == outcome(slow, bytes(body))


def outcome(read, body):
    try:
        return repr(read(body))
    except JsonError as error:
        return error.args


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, [2, {}], []], "[1, [2, {}], []]"),
        ({"a": [1, {"b": None}], "é": "x"}, '{\n    "a": [1, {\n            "b": null\n        }],\n    "é": "x"\n}'),
        (
            [1.0, 0.1, 1e39, 1.5e-5, 1e-7, 1e20, 1.25e30, -0.0],
            "[1.0, 0.1, 1e39, 0.000015, 1e-7, 1" + "0" * 20 + ".0, 1.25e30, -0.0]",
        ),
        ([True, math.nan, 1], "[true"),
    ],
)
def test_values_in_messages(value, text):
    """TF Serving's writer keeps lists on one line, and stops at NaN, which it cannot write."""
    assert shown(value) == text
