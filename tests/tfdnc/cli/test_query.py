"""The history that a query sends, and its connection to a server."""

import argparse
import types

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.client import RetrievalError, VersionStatus
from serving.messages import declared_rows, known_arguments, retrieve_request
from tfdnc.cli import query, reach, screen
from tfdnc.cli import query_answer as query_module
from tfdnc.cli.query_features import shown_features
from tfdnc.cli.query_rules import shown_rules
from tfdnc.cli.query_user import User, find_user
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import EXPOSURES, TIME, Feature, Kind, Of, event_feature

ITEMS = types.SimpleNamespace(item_ids=["b", "a", "c"], sequence_indices=np.array([2, 1, 3]))
DWELL = event_feature("dwell", Kind.NUMBER)
COLUMNS = ("user_id", "items", TIME.column, "test", DWELL.column)
USERS = [
    ("short", [1], [5], 0, [7.0]),
    ("none", [1, 3], [5, 6], -1, [8.0, 9.0]),
    ("u", [1, 2, 3, 1], [5, 6, 7, 8], 2, [0.5, -1.0, 2.0, 3.0]),
]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "prepare" / "sequences"
    folder.mkdir(parents=True)
    columns = dict(zip(COLUMNS, zip(*USERS, strict=True), strict=True))
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), folder / "0.parquet")
    return tmp_path


def find(run, features=(TIME,), features_given=None, **flags):
    names = dict.fromkeys(("user", "history", "history_times", "request_time"))
    return find_user(argparse.Namespace(**names | flags | {"features": features_given}), run, ITEMS, features)


def test_a_user_of_the_log_sends_what_comes_before_the_test_target(run):
    user = find(run, user="u")
    assert user[1:] == (["a", "b"], {"history_times": [5, 6], "request_time": 7}, "c")


def test_a_user_without_a_test_target_asks_at_the_time_of_the_last_event(run):
    assert find(run, user="none")[1:] == (["a", "c"], {"history_times": [5, 6], "request_time": 6}, None)


def test_a_model_is_sent_what_it_reads(run):
    assert find(run, features=(), user="u").known == {}
    assert find(run, features=(DWELL,), user="u").known == {"history_dwell": [0.5, -1]}
    with screen.console.capture() as shown:
        assert find(run, features=(DWELL,), history=["a"]).known == {}
    assert "reads dwell too, unknown here: give --features" in shown.get()


def test_inputs_on_the_command_line_replace_those_of_the_log(run):
    features = (DWELL, Feature("device", Of.REQUEST, Kind.VALUE), Feature("hour", Of.REQUEST, Kind.HOUR))
    given = ["dwell=3.5,", "request_device=phone=x", "request_hour=7"]
    known = find(run, features=features, history=["a", "b"], features_given=given).known
    assert known == {
        "history_dwell": [3.5, DWELL.form.neutral],
        "request_device": "phone=x",
        "request_hour": 7,
    }
    assert shown_features(known, features) == "request_device phone=x, request_hour 7"
    assert find(run, features=(DWELL,), user="u", features_given=["dwell=1,2"]).known == {"history_dwell": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("history", "given", "values"),
    [
        (["a", "b", "c"], "17+2571,,5", [["17", "2571"], [], ["5"]]),
        (["a"], "x y+z", [["x y", "z"]]),
        (["a"], "", [[]]),
        ([], "", []),
    ],
)
def test_items_that_were_passed_over_are_given_by_event(run, history, given, values):
    """`exposures` was no input that --features knew."""
    known = find(run, features=(EXPOSURES,), history=history, features_given=[f"exposures={given}"]).known
    assert known == {"history_exposures": values}
    request = retrieve_request(
        [history], 1, **known_arguments([EXPOSURES], [known]), declared=declared_rows([EXPOSURES])
    )
    assert request.inputs["history_exposures"].tensor_shape.dim[1].size == 1 + len(history)


def test_an_unknown_number_of_the_log_is_not_shown():
    """The log has float32, whose value for unknown is no power of ten any more."""
    age = Feature("age", Of.USER, Kind.NUMBER)
    assert shown_features({"user_age": float(np.float32(age.form.neutral))}, [age]) == ""
    assert shown_features({"user_age": 35.0}, [age]) == "user_age 35.0"


def test_a_repeated_flag_adds_to_its_list():
    """All but the last `--where` were dropped in silence."""
    parser = argparse.ArgumentParser()
    query.add_arguments(parser)
    for flag in ("--where", "--exclude", "--allow", "--features"):
        asked = parser.parse_args([flag, "a=1", flag, "b=2", "c=3"])
        assert getattr(asked, flag.removeprefix("--")) == ["a=1", "b=2", "c=3"]


def rules_of(command, *columns):
    parser = argparse.ArgumentParser()
    query.add_arguments(parser)
    manifest = {"attributes": [{"name": column} for column in columns]} if columns else {}
    return shown_rules(parser.parse_args(command.split()), manifest)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("--where brand=b price<=20 brand=c", "where (brand=b or brand=c) and price<=20"),
        ("--where price<=20 brand!=acme --exclude 7", "where price<=20 and brand!=acme; without 7"),
        ("--allow 1 2 3 4 5 6 7 --seen allow", "only 1, 2, 3, 4, 5 and 2 more items; seen items allowed"),
        ("--minimum Comedy=0.2 --at-least brand=acme=3", "minimum Comedy: 0.2, brand=acme: 3"),
        ("--at-most brand=*=2 brand=b=1 --seen exclude", "seen items excluded; maximum brand=*: 2, brand=b: 1"),
        ("--quotas A=1 B=3", "quotas A: 1, B: 3"),
    ],
)
def test_the_answer_names_the_conditions_that_were_applied(command, shown):
    """A list under rules looked like one without."""
    assert rules_of(command, "brand") == f"Conditions of this list: {shown}."


def test_without_conditions_the_attributes_of_the_bundle_are_named():
    assert rules_of("", "brand", "price").endswith("for --where, --at-least and --at-most: brand, price.")
    assert rules_of("") == ""


def test_a_model_with_exposures_says_that_they_are_unknown(run):
    with screen.console.capture() as shown:
        find(run, features=(EXPOSURES,), history=["a"])
    assert "reads exposures too, unknown here: give --features" in shown.get()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dwel=3", r"an input of the model \(dwell, request_hour\), got dwel=3"),
        ("dwell", r"Expected NAME=VALUE"),
        ("dwell=1,2 dwell=3,4", "Expected dwell once in --features, got it twice"),
        ("dwell=1,2,3", "for each of 2 items of the history, with commas between them, got 3"),
        ("dwell=a,b", "Expected a number for dwell in --features, got a"),
        ("request_hour=7.5", "Expected a whole number for request_hour in --features, got 7.5"),
    ],
)
def test_an_input_that_the_model_cannot_read_is_refused(run, given, message):
    features = (DWELL, Feature("hour", Of.REQUEST, Kind.HOUR))
    with pytest.raises(UserError, match=message):
        find(run, features=features, history=["a", "b"], features_given=given.split())


def test_without_a_name_the_first_user_with_a_history_and_a_target_is_taken_and_named(run):
    with screen.console.capture() as shown:
        assert find(run).name == "u"
    assert "asking for user u" in shown.get()


def test_an_unknown_user_is_refused(run):
    with pytest.raises(UserError, match="no user '1'"):
        find(run, user="1")


def test_a_history_of_the_command_line_is_sent_as_it_is_and_unknown_ids_are_said(run):
    with screen.console.capture() as shown:
        user = find(run, history=["a", "x", "c"], history_times=[1, 2, 3], request_time=9)
    assert user[1:] == (["a", "x", "c"], {"history_times": [1, 2, 3], "request_time": 9}, None)
    assert "1 of 3 items are not among those of the run" in shown.get()
    assert shown.get().strip().endswith(": x")


def test_a_history_needs_no_times_and_may_be_empty(run):
    assert find(run, history=["a"])[1:] == (["a"], {}, None)
    assert find(run, history=[]).history == []


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"history": ["a"], "history_times": [1]}, "Expected --history-times and --request-time, or neither"),
        ({"history": ["a"], "history_times": [1, 2], "request_time": 3}, "for each of 1 items .* got 2"),
        ({"history_times": [1], "request_time": 3}, "Expected --history together with"),
        ({"user": "u", "request_time": 3}, "Expected --history together with"),
        (
            {"history": ["a"], "history_times": [1], "request_time": 3, "features": ()},
            "the model of this bundle reads no times",
        ),
    ],
)
def test_flags_that_contradict_each_other_are_refused(run, flags, complaint):
    with pytest.raises(UserError, match=complaint):
        find(run, **flags)


class Server:
    """Stands for a client of a server that goes through these states; a code is a failed call."""

    target = "host:8500"

    def __init__(self, *states):
        self.states, self.waited = list(states), False

    def status(self, timeout):
        state = self.states.pop(0)
        if isinstance(state, grpc.StatusCode):
            raise RetrievalError(state, "as scripted")
        return [VersionStatus(1, state, "")]

    def wait_until_available(self, timeout):
        self.waited = True


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(reach.time, "sleep", lambda seconds: None)


def test_a_query_waits_for_a_server_that_starts_and_says_so_once(no_pause):
    """README starts the server in the background and asks at once."""
    server = Server(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, "AVAILABLE")
    with screen.console.capture() as shown:
        reach.await_model(server, 60)
    assert shown.get().splitlines() == ["Waiting for a server at host:8500, 60 s at most (--wait) ..."]
    assert not server.waited


def test_a_model_that_is_loading_is_waited_for(no_pause):
    server = Server("LOADING")
    reach.await_model(server, 60)
    assert server.waited


@pytest.mark.parametrize(("code", "seconds"), [(grpc.StatusCode.NOT_FOUND, 60), (grpc.StatusCode.UNAVAILABLE, 0)])
def test_a_permanent_error_ends_the_wait_at_once(no_pause, code, seconds):
    with pytest.raises(RetrievalError, match=code.name):
        reach.await_model(Server(code), seconds)


@pytest.mark.parametrize(
    ("served", "ending"),
    [({"tfdnc", "b"}, "it has b, tfdnc."), (set(), "nor does it have a, b, tfdnc; ask who started it.")],
)
def test_a_wrong_model_name_is_answered_with_the_names_there_are(monkeypatch, served, ending):
    monkeypatch.setattr(reach, "_is_served", lambda target, name, options: name in served)
    error = reach.unknown_model("host:8500", "x", {"tfdnc", "b", "a", "x"})
    assert "a model that host:8500 serves, it has none called 'x': " in str(error)
    assert str(error).endswith(ending)


REFUSAL = (
    "input size does not match signature: 3!=5 len({alpha,history,num_candidates}) != len({alpha,history,history_times,"
    "num_candidates,request_time}). Sent extra: {}. Missing but required: {history_times,request_time}."
)


@pytest.mark.parametrize("named", [True, False])
def test_a_server_of_another_run_is_explained_in_flags_of_the_command(monkeypatch, tmp_path, named):
    """Its refusal told the arguments of the Python client, also for a run that the command had chosen itself."""
    run = tmp_path / "newer"
    monkeypatch.setattr(query_module, "_newest_run", lambda runs: run)
    monkeypatch.setattr(query_module, "find_version", lambda folder: folder)
    manifest = {"cluster_names": ["x"], "config": {"name": "newer", "data": {}, "model": {"times": False}}}
    monkeypatch.setattr(query_module, "read_bundle_manifest", lambda folder: manifest)
    monkeypatch.setattr(query_module, "read_items", lambda folder: types.SimpleNamespace(cluster_names=["x"]))
    monkeypatch.setattr(query_module, "find_user", lambda *_: User("u", ["a"], {}, None))
    monkeypatch.setattr(query_module, "await_model", lambda client, seconds: None)

    def refuse(*_, **controls):
        raise RetrievalError(grpc.StatusCode.INVALID_ARGUMENT, REFUSAL + " Give `times`.", said=REFUSAL)

    monkeypatch.setattr(query_module.RetrievalClient, "retrieve", refuse)
    flags = {
        "start_server": False,
        "tls_roots": None,
        "label": None,
        "runs": tmp_path,
        "target": "127.0.0.1:1",
        "wait": 1,
    }
    flags |= {"run": run if named else None, "model_name": "tfdnc", "num_candidates": 5, "alpha": None}
    flags |= dict.fromkeys(("joint_alpha", "exclude", "seen", "where", "allow", "minimum", "maximum", "quotas"))
    flags |= dict.fromkeys(("at_least", "at_most"))
    with pytest.raises(UserError, match=r"127.0.0.1:1, but its model takes other inputs than the bundle") as caught:
        query_module.query(argparse.Namespace(**flags))
    assert "name its run with --run." in str(caught.value)
    assert "`times`" not in str(caught.value)
    assert ("the newest run is taken" in str(caught.value)) is not named


@pytest.mark.parametrize(("rule", "controls"), [(None, {}), ("allow", {"seen": "allow"})])
def test_the_rule_for_seen_items_is_that_of_the_bundle_unless_it_is_asked_for(rule, controls):
    asked = []

    def retrieve(histories, num_candidates, alpha, **others):
        asked.append((histories, num_candidates, alpha, others))
        return ["the answer"]

    flags = dict.fromkeys(("alpha", "joint_alpha", "exclude", "where", "allow", "minimum", "maximum", "quotas"))
    flags |= dict.fromkeys(("at_least", "at_most"))
    arguments = argparse.Namespace(seen=rule, num_candidates=5, **flags)
    client = types.SimpleNamespace(retrieve=retrieve)
    assert query_module._ask(client, User("u", ["a"], {}, None), (), arguments) == "the answer"
    assert asked == [([["a"]], 5, None, controls)]
