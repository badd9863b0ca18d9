"""Histories, times and numbers of any library become the same request; values without order or text are refused."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import serving_models  # noqa: F401 - Keras 2 before TensorFlow

from serving.client import RetrievalClient
from serving.messages import encode_request, retrieve_request

ROWS = [["1", "2"], ["3", "4"]]
NESTED = {
    "lists": lambda rows: rows,
    "tuples": lambda rows: tuple(map(tuple, rows)),
    "an array": np.array,
    "an array of lists": lambda rows: np.array([*map(list, rows), None], object)[:-1],
    "a list of arrays": lambda rows: [np.array(row) for row in rows],
    "a series of polars": pl.Series,
    "an array of Arrow": pa.array,
    "chunks of Arrow": lambda rows: pa.chunked_array([rows[:1], rows[1:]]),
    "a generator of generators": lambda rows: ((value for value in row) for row in rows),
    "values of a dict": lambda rows: dict(enumerate(rows)).values(),
}
FLAT = {
    "a list": lambda values: values,
    "an array": np.array,
    "scalars of NumPy": lambda values: list(np.array(values)),
    "an array of objects": lambda values: np.array(values, object),  # of pandas, if values may be missing
    "a series of polars": pl.Series,
    "an array of Arrow": pa.array,
    "a generator": lambda values: (value for value in values),
}


@pytest.mark.parametrize("form", NESTED.values(), ids=NESTED)
def test_sequences_of_sequences_come_in_any_form(form):
    """The truth value of an array was asked for, which is an error."""
    expected = retrieve_request(ROWS, 5, exclude=[["7", "8"], ["9", "5"]], times=[[1, 2], [3, 4]], request_time=5)
    exclude, times = form([["7", "8"], ["9", "5"]]), form([[1, 2], [3, 4]])
    assert retrieve_request(form(ROWS), 5, exclude=exclude, times=times, request_time=5) == expected
    assert encode_request(form(ROWS), form([[1, 2], [3, 4]]), 5) == encode_request(ROWS, [[1, 2], [3, 4]], 5)


@pytest.mark.parametrize("form", FLAT.values(), ids=FLAT)
def test_numbers_come_in_any_form(form):
    expected = retrieve_request(ROWS, [5, 6], [0, 1], times=[[1, 2], []], request_time=[3, -1], cluster_min=[1, 2])
    arguments = {"times": [form([1, 2]), form([])], "request_time": form([3, -1]), "cluster_min": form([1, 2])}
    assert retrieve_request(ROWS, form([5, 6]), form([0, 1]), **arguments) == expected


def test_single_numbers_may_be_numpys_own():
    expected = retrieve_request(ROWS, 5, 0.5, times=[[], []], request_time=7)
    numbers = (np.int64(5), np.float32(0.5))
    assert retrieve_request(ROWS, *numbers, times=np.zeros([2, 0], int), request_time=np.array(7)) == expected
    assert retrieve_request(ROWS, request_time=np.array([-1, -1])) == retrieve_request(ROWS)


@pytest.mark.parametrize("none", [[], (), np.array([]), pl.Series([], dtype=pl.List(pl.String)), iter(())])
def test_no_users_in_any_form_need_no_request(none):
    assert RetrievalClient("127.0.0.1:1").retrieve(none, num_candidates=[]) == []


@pytest.mark.parametrize("form", NESTED.values(), ids=NESTED)
def test_a_call_takes_them_too(ask, bundle_server, form):
    expected = ask(bundle_server.address, "retrieve", ROWS, 2)
    answers = ask(bundle_server.address, "retrieve", form(ROWS), 2, exclude=form([["7", "8"], ["9", "5"]]))
    assert [answer.item_ids for answer in answers] == [answer.item_ids for answer in expected]
    assert len(ask(bundle_server.address, "encode", form(ROWS)).intent) == 2


@pytest.mark.parametrize(
    ("histories", "sentence"),
    [
        ([{"1", "2"}, ["3"]], r"got \{'1', '2'\}|got \{'2', '1'\} \(set\) in row 0. Sets and dicts say nothing"),
        ({"7": ["1"]}, r"got \{'7': \['1'\]\} \(dict\). Sets and dicts say nothing about the order: give a list"),
        ({"7": ["1"]}.keys(), r"\(dict_keys\). Sets and dicts"),
        ([["1"], {"2": 1}], r"got \{'2': 1\} \(dict\) in row 1. Sets and dicts"),
        (["12", "3"], r"got '12' \(str\) in row 0. Give one list for each user, also for a single one"),
        ("12", r"got '12' \(str\). Give one list"),
        (np.array(["12", "3"]), r"\(str_?\) in row 0. Give one list"),
        (np.array("12"), r"\(ndarray\). Give one list"),
        ([["1"], None], r"got None \(NoneType\) in row 1"),
        (7, r"got 7 \(int\)"),
        ([["1"], [2]], r"got 2 \(int\) in row 1. Make text of every id with str, as it is in the log"),
        (np.array([[1, 2]]), r"got .*\(int64\) in row 0. Make text of every id"),
        (pl.Series([["1", None]]), r"got None \(NoneType\) in row 0. Make text"),
        ([[b"1"]], r"got b'1' \(bytes\) in row 0. Make text"),
        ([["1", float("nan")]], r"got nan \(float\) in row 0. Make text"),
        (pl.DataFrame({"a": ["1"], "b": ["2"]}), r"\(DataFrame\). Give the one column of the table that holds them"),
        (pa.table({"a": [["1"]]}), r"\(Table\). Give the one column"),
    ],
)
def test_values_without_order_or_text_are_refused_and_shown(histories, sentence):
    for request in (retrieve_request, encode_request):
        with pytest.raises(
            ValueError, match="Expected histories to be a sequence of item ids as text for each user, got"
        ):
            request(histories)
        with pytest.raises(ValueError, match=sentence):
            request(histories)


def test_an_error_inside_a_generator_is_not_taken_for_a_wrong_argument():
    def broken():
        yield ["1"]
        raise TypeError("of the caller's own code")

    with pytest.raises(TypeError, match="of the caller's own code"):
        retrieve_request(broken())


@pytest.mark.parametrize(
    ("controls", "sentence"),
    [
        ({"num_candidates": {5, 6}}, r"Expected num_candidates in numbers of int32, got \{5, 6\}"),
        ({"num_candidates": True}, "Expected num_candidates in numbers of int32, got True"),
        ({"num_candidates": np.array([5, None], object)}, "Expected num_candidates in numbers of int32"),
        ({"num_candidates": 5, "alpha": pl.Series([1.0, None])}, "Expected alpha in numbers"),
        ({"num_candidates": 5, "cluster_min": [[1], [1, 2]]}, "Expected cluster_min in numbers of int32"),
        ({"num_candidates": 5, "cluster_min": {"a": 1}}, "Expected cluster_min in numbers of int32"),
        ({"times": [[2**63, 1], []], "request_time": 3}, "Expected times in numbers of int64"),
        ({"times": [np.array([2**63, 1], np.uint64), []], "request_time": 3}, "Expected times in numbers of int64"),
        (
            {"times": [np.array(["2020-01-01"] * 2, "M8[s]"), []], "request_time": 3},
            "Expected times in numbers",
        ),
    ],
)
def test_numbers_that_a_request_cannot_hold_are_refused(controls, sentence):
    with pytest.raises(ValueError, match=sentence):
        retrieve_request(ROWS, **controls)
