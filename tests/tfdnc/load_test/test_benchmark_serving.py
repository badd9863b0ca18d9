"""The serving benchmark: figures from samples by hand, its clients against a server of bytes, and the whole command."""

import functools
import json
import threading
import time
from concurrent import futures

import grpc
import pytest
from tensorflow_serving.apis import predict_pb2

from serving import messages
from serving.bundles.recorded import write_recorded
from serving.server import running
from tests.quick_exports import exporting
from tfdnc.benchmark import pages
from tfdnc.cli import serving_results
from tfdnc.cli.main import main
from tfdnc.contracts.errors import UserError
from tfdnc.load_test import load as load_module
from tfdnc.load_test import report, subjects
from tfdnc.load_test.bundle import Size, make_bundle, make_histories
from tfdnc.load_test.client import closed_loop
from tfdnc.load_test.figures import BATCHING, GRPC, IN_PROCESS, REST, figures, rates
from tfdnc.load_test.load import PREDICT, Processes, Threads
from tfdnc.load_test.measurements import long_load, measure, reloads


def sample(*milliseconds, seconds=1.0, errors=None):
    latencies = [each / 1e3 for each in milliseconds]
    return {"seconds": seconds, "latencies": latencies, "requests": len(latencies), "errors": errors or {}}


def row(interface, clients, *rounds):
    return {"interface": interface, "clients": clients, "rounds": list(rounds)}


@pytest.fixture
def measured():
    return [
        row(IN_PROCESS, 1, sample(1, 2, 3), sample(5, 5, 5)),
        row(IN_PROCESS, 8, sample(*[4] * 10), sample(*[8] * 5)),
        row(GRPC, 1, sample(1.5, 2.5, 3.5), sample(5.7, 5.7, 5.7)),
        row(GRPC, 8, sample(*[4] * 8), sample(*[8] * 3, errors={"UNAVAILABLE: ": 2})),
        row(BATCHING, 8, sample(*[4] * 12), sample(*[4] * 9)),
        row(REST, 1, sample(3, 3, 3), sample(9, 9, 9)),
    ]


def test_rates_are_medians_over_rounds(measured):
    by_row = {(row["interface"], row["clients"]): row for row in rates(measured)}
    in_process = by_row[IN_PROCESS, 1]
    assert in_process["throughput"] == 3
    assert in_process["p50"] == pytest.approx(3.5)  # 2 and 5
    assert in_process["p99"] == pytest.approx((2.98 + 5) / 2)
    assert by_row[GRPC, 8]["throughput"] == 5.5
    assert by_row[GRPC, 8]["errors"] == 2


def test_figures_compare_inside_a_round(measured):
    found = {figure["figure"]: figure for figure in figures(measured, None, None)}
    added = found["ms that gRPC adds to the median at 1 client"]
    assert added["value"] == pytest.approx(0.6)  # .5 and .7
    assert (added["wanted"], added["reached"]) == ("at most 0.7", True)
    assert found["ms that REST adds to the median at 1 client"]["value"] == pytest.approx(2.5)  # 1 and 4
    assert found["ms that REST adds to the median at 1 client"]["reached"] is None
    share = found["throughput of gRPC by that in process at 8 clients"]
    assert (share["value"], share["lowest"], share["highest"]) == pytest.approx((0.7, 0.6, 0.8))  # 3/5, 8/10
    assert share["reached"] is False
    gain = found["throughput with batching by that without at 8 clients"]
    assert gain["value"] == pytest.approx(2.25)  # 12/8, 9/3
    assert gain["reached"] is True


def test_errors_and_growth_are_judged(measured):
    load = {"clients": 8, "seconds": 300, "p50": [2, 3], "memory": [100, 130, 105], "requests": 9, "errors": {}}
    reloaded = {
        "reloads": 20,
        "clients": 4,
        "seconds": [1.5, 2.5, 9],
        "memory": [100, 90, 111],
        "p99": 12,
        "slowest": 40,
        "requests": 50_000,
        "errors": {"NOT_FOUND: gone": 3},
    }
    found = {figure["figure"]: figure for figure in figures(measured, load, reloaded)}
    assert found["errors in 9 requests, 300 s at 8 clients"]["reached"] is True
    assert found["growth of memory in this time"]["value"] == pytest.approx(0.05)
    assert found["errors in 50,000 requests, 20 reloads under 4 clients"]["reached"] is False
    assert found["growth of memory by these reloads"]["reached"] is False
    assert list(report.describe(load, reloaded)) == [
        "Long load: median 2.00 ms in the first tenth, 3.00 ms in the last; "
        "memory 100 MB before, 105 MB after, 130 MB at most.",
        "Reloads: 2.5 s from the new version's folder to the old version's end (slowest 9.0 s); "
        "under them p99 12.0 ms, slowest request 40 ms; memory 100 MB before, 111 MB after.",
        "3 times: NOT_FOUND: gone",
    ]


def test_pages_hold_tables_picture_and_every_sample(measured, tmp_path):
    results = {"bundle": "A bundle.", "rates": rates(measured), "figures": figures(measured, None, None)}
    results["measured"] = measured
    report.write_pages(tmp_path, pages.describe_machine("tfdnc benchmark serving"), results, ["Note."])
    page = (tmp_path / "serving.md").read_text()
    assert "| gRPC | 1 | 3 | 4.10 | 4.55 | 4.59 | 0 |\n" in page
    assert "| throughput of gRPC by that in process at 8 clients | 0.7 | 0.6 to 0.8 | at least 0.75 | NO |\n" in page
    assert json.loads((tmp_path / "serving.json").read_text())["measured"] == measured
    assert (tmp_path / "serving.png").read_bytes().startswith(b"\x89PNG")


class Interface:
    """Notes the order of measurements."""

    def __init__(self, name, notes):
        self.name, self.notes = name, notes

    def measure(self, clients, seconds):
        self.notes.append((clients, self.name))
        return sample(1, seconds=seconds)


def test_interfaces_are_neighbours_and_take_turns():
    notes = []
    measured = measure({name: Interface(name, notes) for name in "ab"}, counts=[1, 8], rounds=2, seconds=3)
    first = [(1, "a"), (1, "b"), (8, "a"), (8, "b")]
    assert notes == [*first, (1, "b"), (1, "a"), (8, "b"), (8, "a")]
    assert [(row["interface"], row["clients"], len(row["rounds"])) for row in measured] == [
        (interface, clients, 2) for interface in "ab" for clients in (1, 8)
    ]


def test_a_closed_loop_counts_what_is_answered_after_the_ramp():
    now = time.monotonic()
    sent = []

    def ask(request):
        sent.append(request)
        return "odd" if request % 2 else ""

    order = {"start": now, "from": now + 60, "end": now + 120}
    in_ramp = closed_loop(ask, [0, 1, 2], order, stopped=lambda: len(sent) == 5)
    assert sent == [0, 1, 2, 0, 1]
    assert in_ramp == {"latencies": [], "requests": 5, "errors": {"odd": 2}}
    counted = closed_loop(ask, [0, 1, 2], order | {"from": now}, stopped=lambda: len(sent) == 10)
    assert len(counted["latencies"]) == 3
    assert closed_loop(ask, [0], order | {"end": now})["requests"] == 0


def test_threads_ask_at_the_same_time():
    barrier, met = threading.Barrier(3), threading.local()

    def ask(request):
        if not hasattr(met, "others"):
            met.others = barrier.wait(30)
        return ""

    together = Threads(ask, ["a", "b"]).measure(clients=3, seconds=0.1)
    assert together["seconds"] == 0.1
    assert together["requests"] >= len(together["latencies"]) >= 3


class Echo(grpc.GenericRpcHandler):
    """Answers any bytes with themselves, and refuses `bad`."""

    def __init__(self):
        self.answered, self.enough = 0, threading.Event()

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.answer) if details.method == PREDICT else None

    def answer(self, request, context):
        if request == b"bad":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        self.answered += 1
        if self.answered > 20:
            self.enough.set()
        return request


@pytest.fixture
def echo(monkeypatch):
    """The handler of a server, and its address; loads on it count from their first request."""
    monkeypatch.setattr(load_module, "RAMP", 0.0)
    handler = Echo()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, f"127.0.0.1:{port}"
    server.stop(None)


def test_clients_ask_for_a_time_or_until_they_are_told(echo):
    handler, target = echo
    with Processes(target, [b"one", b"two"], clients=2) as clients:
        timed = clients.measure(1, 0.2)
        assert timed["requests"] >= len(timed["latencies"]) > 0
        handler.answered = 0
        handler.enough.clear()
        clients.begin(2)
        assert handler.enough.wait(60)
        told = clients.end()
        assert told["requests"] == len(told["latencies"]) == handler.answered
        assert told["errors"] == {}


def test_a_server_that_refuses_is_not_measured(echo):
    with pytest.raises(UserError, match=r"Expected answers from .*, got NOT_FOUND: no such thing"):
        Processes(echo[1], [b"good", b"bad"], clients=1)


class Server:
    """A server that grows by 1 MB per look at its memory."""

    def __init__(self):
        self.megabytes, self.published = 100, 0

    def memory(self):
        self.megabytes += 1
        return self.megabytes

    def publish(self):
        self.published += 1


def test_a_long_load_is_measured_in_parts():
    notes = []
    load = long_load(Server(), Interface("gRPC", notes), clients=8, seconds=300)
    assert notes == [(8, "gRPC")] * 11  # the first one warms up
    assert load["memory"] == list(range(101, 112))
    assert load["p50"] == [pytest.approx(1)] * 10
    assert (load["clients"], load["seconds"], load["requests"], load["errors"]) == (8, 300, 10, {})


def test_reloads_happen_under_load():
    server, notes = Server(), []

    class Load(Interface):
        def begin(self, clients):
            notes.append(f"{clients} clients")

        def end(self):
            notes.append(f"{server.published} published")
            return sample(1, 2, 9, errors={"NOT_FOUND: gone": 1})

    reloaded = reloads(server, Load("gRPC", notes), times=3)
    assert notes == [(4, "gRPC"), "4 clients", "3 published"]
    assert reloaded["memory"] == [101, 102, 103, 104]
    assert len(reloaded["seconds"]) == reloaded["reloads"] == 3
    assert reloaded["slowest"] == pytest.approx(9)
    assert reloaded["errors"] == {"NOT_FOUND: gone": 1}


SIZE = Size(items=60, clusters=3, dim=8, history_length=6, max_candidates=20, encoder="item_counts")
"""The encoder with the smallest graph: each of six processes and loads of a bundle waits for TensorFlow to plan it."""


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    """A synthetic bundle with the one signature that is measured, and recorded requests, whose answers are not read."""
    folder = tmp_path_factory.mktemp("bundle")
    with exporting("retrieve", "encode"):
        version = make_bundle(SIZE, folder)
    requests = [messages.retrieve_request([history], 20) for history in make_histories(SIZE, 3)]
    write_recorded(version, [(request, predict_pb2.PredictResponse()) for request in requests])
    return folder


def test_the_command_measures_a_synthetic_bundle(base_path, tmp_path, monkeypatch):
    """The whole command except the export, which `base_path` tests."""
    made = []
    monkeypatch.setattr(serving_results, "Size", functools.partial(Size, history_length=6, max_candidates=20))
    monkeypatch.setattr(subjects, "make_bundle", lambda size, folder: made.append(size) or base_path / "1")
    monkeypatch.setattr(load_module, "RAMP", 0.1)
    size = ["--items", "60", "--clusters", "3", "--dim", "8", "--encoder", "item_counts"]
    load = ["--clients", "1", "--rounds", "1", "--round-seconds", "0.5", "--seconds", "0.5", "--reloads", "1"]
    assert main(["benchmark", "serving", *size, *load, "--output", str(tmp_path)]) == 0

    assert made == [SIZE]
    results = json.loads((tmp_path / "serving.json").read_text())
    interfaces = {row["interface"]: row["errors"] for row in results["rates"]}
    assert interfaces == {IN_PROCESS: 0, GRPC: 0, BATCHING: 0, REST: 0}
    assert results["load"]["errors"] == results["reloads"]["errors"] == {}
    assert results["reloads"]["requests"] > 0
    assert "60 items, 3 clusters" in (tmp_path / "serving.md").read_text()


def test_the_command_measures_a_running_server_with_recorded_requests(base_path, tmp_path):
    with running(base_path, model_name="theirs") as server:
        target = ["--target", server.address, "--model-name", "theirs"]
        load = ["--clients", "1", "--rounds", "1", "--round-seconds", "0.5"]
        assert main(["benchmark", "serving", str(base_path), *target, *load, "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "serving.json").read_text())
    assert [(row["interface"], row["errors"]) for row in results["rates"]] == [(IN_PROCESS, 0), (GRPC, 0)]
    assert results["load"] is results["reloads"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "127.0.0.1:1"], "Expected the bundle that --target serves"),
        (["nowhere"], "Expected the folder of a bundle, found nothing at nowhere"),
    ],
)
def test_arguments_that_cannot_be_measured_are_refused(arguments, sentence, capsys):
    assert main(["benchmark", "serving", *arguments]) == 2
    assert sentence in capsys.readouterr().err
