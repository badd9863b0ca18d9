"""Logged requests of clients as warm-up of a version, and as questions to two versions."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving import messages
from serving.bundles.logged_questions import read_logged_questions
from serving.bundles.warm_up_requests import add_logged_requests
from serving.servable import Servable
from serving.warmup import warm_up
from tfdnc.contracts import bundle
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, Feature, Kind, Of, event_feature


def write_log(file, requests):
    with tf.io.TFRecordWriter(str(file)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            log.predict_log.request.model_spec.name = "mine"
            log.predict_log.request.model_spec.version.value = 3
            writer.write(log.SerializeToString())
    return file


def read(file):
    records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    return [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]


LISTS = [messages.retrieve_request([[f"i{number}"]], 2) for number in range(4)]


@pytest.fixture
def version(tmp_path):
    file = tmp_path / "5" / bundle.WARMUP_ASSET
    file.parent.mkdir(parents=True)
    write_log(file, [messages.retrieve_request([["exported"]], 1)])
    return tmp_path / "5"


def test_warm_up_requests_are_taken_evenly_from_the_log(version, tmp_path):
    log = write_log(tmp_path / "a.tfrecord", LISTS)
    assert add_logged_requests(version, [log], 2) == 2
    found = read(version / bundle.WARMUP_ASSET)
    assert [request.inputs[bundle.HISTORY] for request in found[1:]] == [
        LISTS[0].inputs[bundle.HISTORY],
        LISTS[2].inputs[bundle.HISTORY],
    ]
    assert {(request.model_spec.name, request.model_spec.HasField("version")) for request in found[1:]} == {
        ("tfdnc", False)
    }


def test_requests_that_only_one_version_understands_are_left_out(version, tmp_path):
    """A warm-up request that fails makes a server refuse the version: K may change from one to the next."""
    per_cluster = messages.retrieve_request([["i1"]], 2, cluster_min=[1, 0, 0])
    neutral = messages.retrieve_request([["i2"]], 2, exclude=[["i3"]])
    encoding = messages.Encoding(np.ones([1, 3, 4], np.float32), np.ones([1, 3], np.float32))
    search = messages.search_request(encoding, [[]], 2)
    others = messages.retrieve_request([["i1"]], 2, times=[[5]], request_time=[6])  # of a model that reads times
    filtered = messages.retrieve_request([["i1"]], 2, where=["price<20"])  # the version may not know the column
    log = write_log(tmp_path / "a.tfrecord", [per_cluster, neutral, search, others, filtered])
    assert add_logged_requests(version, [log], 100) == 1
    assert read(version / bundle.WARMUP_ASSET)[1].inputs == neutral.inputs
    only = write_log(tmp_path / "b.tfrecord", [per_cluster])
    with pytest.raises(UserError, match=r"Expected requests in .* certainly answers, found none"):
        add_logged_requests(version, [only], 100)


def test_a_server_replays_them(fake_bundle, tmp_path):
    copy = shutil.copytree(fake_bundle / "7", tmp_path / "8")
    assert add_logged_requests(copy, [write_log(tmp_path / "a.tfrecord", LISTS)], 3) == 3
    servable = Servable("tfdnc", 8, copy)
    try:
        assert warm_up(servable) == 3
    finally:
        servable.close()


def test_questions_are_the_histories_of_requests_for_lists(tmp_path):
    timed = messages.retrieve_request([["a", "b"], []], 2, times=[[10, 20], []], request_time=[30, -1])
    described = messages.describe_request()
    filtered = messages.retrieve_request([["c"]], 2, where=["price<20"])
    log = write_log(tmp_path / "a.tfrecord", [timed, described, LISTS[1], filtered])
    found = read_logged_questions([log], [TIME], most_users=10)
    users = {tuple(history): known for history, known in zip(found.histories, found.known, strict=True)}
    assert users == {
        ("a", "b"): {"history_times": [10, 20], "request_time": 30},
        (): {"history_times": [], "request_time": -1},
        ("i1",): {},
        ("c",): {},
    }
    assert found.targets == [[], [], [], []]
    assert found.features == [TIME]
    assert read_logged_questions([write_log(tmp_path / "b.tfrecord", LISTS)], [TIME], 2).features == []
    with pytest.raises(UserError, match=r"Expected requests for lists in .*, found none"):
        read_logged_questions([write_log(tmp_path / "c.tfrecord", [described])], [], 2)


def test_questions_have_the_inputs_of_events_requests_and_users(tmp_path):
    """Tensors hold text as bytes, which a request does not take."""
    read = [
        event_feature("action", Kind.VALUE),
        Feature("hour", Of.REQUEST, Kind.HOUR),
        Feature("age", Of.USER, Kind.NUMBER),
        Feature("plan", Of.USER, Kind.VALUE),
    ]
    features = {"action": [["buy", None], []], "request_hour": [7, None], "user_age": 0.5, "user_plan": ["free", None]}
    declared = messages.declared_rows(read)
    sent = messages.retrieve_request([["a", "b"], []], 2, features=features, declared=declared)
    found = read_logged_questions([write_log(tmp_path / "a.tfrecord", [sent])], read, most_users=10)
    users = {tuple(history): known for history, known in zip(found.histories, found.known, strict=True)}
    assert users == {
        ("a", "b"): {"history_action": ["buy", ""], "request_hour": 7, "user_age": 0.5, "user_plan": "free"},
        (): {"history_action": [], "request_hour": -1, "user_age": 0.5, "user_plan": ""},
    }
    assert found.features == read
    rows = [found.histories.index(history) for history in (["a", "b"], [])]
    [again] = found.requests(rows, 2, read, 2)
    assert again.inputs == sent.inputs
