"""Metrics of bundles: what lists and histories show, counted for each version, whatever a version answers."""

import json
import shutil

import numpy as np
import pytest
import rest_client
import serving_models
from metric_pages import labels, samples
from serving_models import predict_request

from serving import known_items, messages, monitoring
from serving import server as embedded
from serving.known_items import KnownItems, hashes_of
from serving.metrics import Metrics
from serving.monitoring import MonitoredVersion, monitored, unmonitored
from serving.observations import Observation, read_histories, read_lists
from serving.predict import predict
from serving.servable import Servable
from tfdnc.contracts import bundle as contract

NAMES = ["comedy", "drama"]
VERSION = {"model_name": "tfdnc", "version": "7"}


def counts(page, **of):
    """Values of the page by the short name of a metric and the labels beside `of`."""
    wanted = labels(**of)
    return {
        (name.removeprefix(":tfdnc:serving:"), *(value for label, value in key if (label, value) not in wanted)): value
        for (name, key), value in samples(page)[0].items()
        if name.startswith(":tfdnc:serving:") and set(wanted) <= set(key)
    }


def ids(*rows):
    """Histories of one request as an array [B, L] of bytes."""
    array = np.full([len(rows), max(map(len, rows))], b"", object)
    for row, given in zip(array, rows, strict=True):
        row[: len(given)] = given
    return array


@pytest.fixture(scope="module")
def version(fake_bundle, tmp_path_factory):
    """A version with a manifest and with the ids i0 to i3."""
    version = shutil.copytree(fake_bundle / "7", tmp_path_factory.mktemp("monitored") / "7")
    for name, content in (
        (contract.ITEM_IDS_ASSET, "".join(f"{item.decode()}\n" for item in serving_models.ITEMS)),
        (contract.MANIFEST_ASSET, json.dumps({"bundle_format": contract.BUNDLE_FORMAT, "cluster_names": NAMES})),
    ):
        (version / name).parent.mkdir(exist_ok=True)
        (version / name).write_text(content)
    return version


@pytest.fixture(scope="module")
def servable(version):
    servable = Servable.load("tfdnc", 7, version)
    yield servable
    servable.close()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def loaded(servable, metrics):
    """The version as a server loads it, in a load of its own metrics."""
    return monitored(lambda *_: servable, metrics.lists)("tfdnc", 7, servable.path)


def test_a_server_shows_what_it_answers_but_not_what_warms_it_up(version, tmp_path, connect):
    served = shutil.copytree(version, tmp_path / "7")
    serving_models.write_warmup(served, [messages.retrieve_request([["i0"]])])
    (tmp_path / "monitoring.config").write_text("prometheus_config { enable: true }")
    flags = {"rest_api_port": rest_client.free_port(), "monitoring_config_file": tmp_path / "monitoring.config"}
    with embedded.running(served, enable_batching=True, **flags) as server:
        begun = counts(server.metrics.page(), **VERSION)
        assert begun
        assert set(begun.values()) == {0}
        request = messages.retrieve_request([["i0", "new", "i1"], ["new"], []], [1, 4, 9], alpha=1.0)
        request.model_spec.name = "tfdnc"
        connect(server.address).Predict(request)
        rest = rest_client.Client(server.rest.port)
        body = {"instances": [{"history": ["i2"], "num_candidates": 2, "alpha": 1.0}], "signature_name": "retrieve"}
        assert rest.post("/v1/models/tfdnc:predict", body)[0] == 200
        rest.http.request("GET", server.metrics.path)
        shown = counts(rest.http.getresponse().read().decode(), **VERSION)
        rest.http.close()
    assert shown["user_count",] == shown["history_count",] == 4
    assert shown["list_entry_count", "0", "comedy"] == 1 + 2 + 2 + 1
    assert shown["list_entry_count", "1", "drama"] == 0 + 2 + 2 + 1
    assert (shown["list_length_sum",], shown["list_length_count",]) == (11, 4)
    assert (shown["list_shortfall_bucket", "0"], shown["list_shortfall_bucket", "5"]) == (3, 4)  # 9 - 4
    assert (shown["empty_history_count",], shown["unknown_history_count",]) == (1, 1)
    assert (shown["history_id_count",], shown["unknown_id_count",]) == (5, 2)
    assert shown["unmonitored_request_count",] == 0


def test_the_default_signature_is_asked_for_lists_as_wide_as_its_answer(loaded, metrics):
    predict(loaded, messages.retrieve_request([["i0"]]))
    shown = counts(metrics.page(), **VERSION)
    assert (shown["list_length_sum",], shown["list_shortfall_sum",]) == (3, 1)  # this model answers 3 in 4 columns


def test_results_that_are_missing_to_reach_a_minimum_are_counted_by_cluster(loaded, metrics):
    request = messages.retrieve_request(
        [["i0"], ["i0"]], 4, cluster_min=[[3, 0], [-1, 4]]
    )  # this model gives 2 of each
    predict(loaded, request)
    shown = counts(metrics.page(), **VERSION)
    assert (
        shown["cluster_min_shortfall_count", "0", "comedy"],
        shown["cluster_min_shortfall_count", "1", "drama"],
    ) == (
        1,
        2,
    )


def test_encode_shows_histories_and_search_shows_lists(loaded, metrics):
    encoding = messages.read_encoding(predict(loaded, messages.encode_request([["i0"], []])))
    predict(loaded, messages.search_request(encoding, [[], []], 2))
    predict(loaded, messages.describe_request(1))
    shown = counts(metrics.page(), **VERSION)
    assert (shown["history_count",], shown["empty_history_count",], shown["user_count",]) == (2, 1, 2)
    assert shown["unmonitored_request_count",] == 0


def test_answers_are_counted_in_batches_and_when_they_are_shown(loaded, metrics, monkeypatch):
    monkeypatch.setattr(monitoring, "BATCH", 3)
    for expected in (0, 0, 3, 3):
        predict(loaded, messages.retrieve_request([["i0"]], 2))
        assert metrics.lists._users._series[tuple(VERSION.values())] == expected
    assert counts(metrics.page(), **VERSION)["user_count",] == 4
    monkeypatch.setattr(monitoring, "_BATCH_IDS", 10)
    predict(loaded, messages.retrieve_request([["i0"] * 10], 2))
    assert metrics.lists._users._series[tuple(VERSION.values())] == 5


class Answering:
    """A version of a bundle that answers what it is told to."""

    def __init__(self, servable):
        self.name, self.version, self.path, self.signatures = "tfdnc", 7, servable.path, servable.signatures
        self.signature, self.interrupt, self.results = servable.signature, servable.interrupt, None

    def run(self, key, feeds, outputs, deadline=None, abandoned=None):
        return self.results

    def close(self):
        self.closed = True


GOOD = {
    contract.ITEM_IDS: ids([b"i0", b"i1"]),
    contract.NUM_RESULTS: np.int32([2]),
    contract.QUOTAS: np.int32([[1, 1]]),
}
FEEDS = {contract.HISTORY: ids([b"i0"]), contract.NUM_CANDIDATES: np.int32([3])}


@pytest.mark.parametrize(
    "results",
    [
        {},
        {contract.ITEM_IDS: GOOD[contract.ITEM_IDS]},  # of a client that wants nothing else
        GOOD | {contract.QUOTAS: np.int32([[1, 0]])},
        GOOD | {contract.QUOTAS: np.int32([[3, -1]])},
        GOOD | {contract.QUOTAS: np.int32([2])},
        GOOD | {contract.NUM_RESULTS: np.int32([4]), contract.QUOTAS: np.int32([[2, 2]])},
        GOOD | {contract.NUM_RESULTS: np.int32([2, 2]), contract.QUOTAS: np.int32([[1, 1], [1, 1]])},
        GOOD | {contract.NUM_RESULTS: "two"},
    ],
)
def test_an_unexpected_answer_reaches_the_client_and_is_counted_as_such(servable, metrics, results, caplog):
    answering = Answering(servable)
    version = monitored(lambda *_: answering, metrics.lists)("tfdnc", 7, servable.path)
    for answering.results in (GOOD, results, GOOD, results):
        assert version.run("retrieve", FEEDS, list(answering.results)) is answering.results
    shown = counts(metrics.page(), **VERSION)
    assert shown["unmonitored_request_count",] == 2
    assert shown["user_count",] == shown["history_count",] == 2
    assert shown["list_entry_count", "0", "comedy"] == 2
    assert [
        record.getMessage().partition(":")[0] for record in caplog.records if record.name == monitoring.__name__
    ] == ["an answer of model tfdnc version 7 was not monitored"]


def test_the_series_of_a_version_end_with_it(servable, metrics):
    answering = Answering(servable)
    version = monitored(lambda *_: answering, metrics.lists)("tfdnc", 7, servable.path)
    answering.results = GOOD
    version.run("retrieve", FEEDS, list(GOOD))
    assert counts(metrics.page(), **VERSION)["user_count",] == 1
    version.close()
    assert answering.closed
    assert metrics.page() == ""


def test_other_models_are_left_alone(half_plus_two, metrics):
    servable = Servable.load("half", 1, half_plus_two / "1")
    version = monitored(lambda *_: servable, metrics.lists)("half", 1, servable.path)
    assert version is unmonitored(version) is servable
    predict(version, predict_request({"x": np.float32([[1.0]])}))
    assert metrics.page() == ""
    servable.close()


def test_a_bundle_without_manifest_and_ids_is_counted_without_names(fake_bundle, metrics):
    servable = Servable.load("tfdnc", 7, fake_bundle / "7")
    version = monitored(lambda *_: servable, metrics.lists)("tfdnc", 7, servable.path)
    assert isinstance(version, MonitoredVersion)
    predict(version, messages.retrieve_request([["i0", "new"]], 2))
    shown = counts(metrics.page(), **VERSION)
    assert shown["list_entry_count", "1", ""] == 1
    assert (shown["history_id_count",], shown["unknown_id_count",]) == (2, 0)
    version.close()


def test_known_ids_are_read_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(known_items, "_CHUNK", 7)
    assert KnownItems.read(tmp_path) is None
    file = tmp_path / contract.ITEM_IDS_ASSET
    file.parent.mkdir()
    known = [f"item {number} ü".encode() for number in range(100)]
    file.write_bytes(b"".join(item + b"\n" for item in known))
    items = KnownItems.read(tmp_path)
    assert items.contain(hashes_of(known)).all()
    assert not items.contain(hashes_of([b"", b"item 100 \xc3\xbc", b"item", b"zzz", b"\xff"])).any()


def test_histories():
    known = KnownItems(hashes_of([b"a", b"b"]))
    requests = [ids([b"", b"a", b"x"], [b"x"], []), np.empty([2, 0], object), ids([b"b"])]
    rows = {"rows": 6, "empty": 3, "ids": 4}
    assert read_histories(requests, known)._asdict() == rows | {"unknown": 1, "unknown_ids": 2}
    assert read_histories(requests, None)._asdict() == rows | {"unknown": 0, "unknown_ids": 0}
    with pytest.raises(ValueError, match="unpack"):
        read_histories([np.array([b"a"], object)], known)


def test_lists():
    def answer(asked, quotas, minimum=None):
        quotas = np.int32(quotas)
        return Observation("", None, asked, minimum, quotas.sum(axis=1), quotas)

    lists = read_lists(
        [
            answer(np.int32([3, 5]), [[1, 2], [0, 4]], np.int32([[2, -1], [1, 9]])),
            answer(2, [[1, 1]], np.int32([[0]])),
            answer(np.int32([2]), [[0, 0]], np.empty([1, 0], np.int32)),
        ]
    )
    assert lists._asdict() == {
        "lengths": [3, 4, 2, 0],
        "shortfalls": [0, 1, 0, 2],
        "entries": [2, 7],
        "below_minimum": [2, 5],
    }
    assert read_lists([answer(2, [[1, 1]])]).below_minimum == []
