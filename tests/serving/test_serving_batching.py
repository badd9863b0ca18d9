"""Dynamic batching: TF Serving's rules and messages; a bad request fails alone. No test measures time."""

import os
import threading
import time
from concurrent import futures

import grpc
import numpy as np
import pytest
from serving_models import predict_request
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving import batching, tensors
from serving import server as embedded
from serving.batching import BatchingServable
from serving.batching_parameters import BatchingParameters
from serving.predict import predict
from serving.servable import Servable
from serving.status import ServingError
from tfdnc.contracts.errors import UserError

HOUR = 3_600_000_000  # microseconds: a batch that waits so long is run only because it is full, or at the end
WAIT = 30
CODE = grpc.StatusCode


class Doubler:
    """A servable that doubles `x`, refuses negative numbers, and remembers what it was asked.

    While `gate` is closed, a run does not end; every run that begins releases `begun` once.
    """

    name, version, path, signatures = "doubler", 1, None, {}

    def __init__(self):
        self.runs, self.closed = [], False
        self.gate, self.begun = threading.Event(), threading.Semaphore(0)
        self.gate.set()

    def signature(self, key):
        return self.signatures[key]

    def run(self, key, feeds, outputs, deadline=None):
        self.runs.append((key, {name: array.tolist() for name, array in feeds.items()}, sorted(outputs)))
        self.begun.release()
        assert self.gate.wait(WAIT)
        x = feeds["x"]
        if x.dtype != object and (x < 0).any():
            raise ValueError("negative")
        known = {"double": x + x, "same": x, "scalar": np.float32(1), "first": x[:1]}
        return {name: known[name] for name in outputs}

    def close(self):
        self.closed = True


class Crowd:
    """A batching servable over a `Doubler`, and threads that ask it."""

    def __init__(self, **parameters):
        self.doubler = Doubler()
        self.servable = BatchingServable(self.doubler, BatchingParameters(**parameters))
        self._threads = futures.ThreadPoolExecutor(16)
        self._scheduled = threading.Semaphore(0)
        self._schedule, self.servable._scheduler.schedule = self.servable._scheduler.schedule, self._note

    def _note(self, kind, task):
        try:
            return self._schedule(kind, task)
        finally:
            self._scheduled.release()

    def ask(self, x, key="serving_default", outputs=("double",), **terms):
        """Sends a request from a thread of its own and returns its future once it has been queued or refused."""
        asked = self._threads.submit(self.servable.run, key, {"x": np.asarray(x)}, outputs, **terms)
        assert self._scheduled.acquire(timeout=WAIT)
        return asked

    def rows_run(self):
        return [run[1]["x"] for run in self.doubler.runs]

    def close(self):
        self.doubler.gate.set()
        self.servable.close()
        self._threads.shutdown()


@pytest.fixture
def crowd():
    crowds = []

    def make(**parameters):
        crowds.append(Crowd(**({"num_batch_threads": 1, "batch_timeout_micros": HOUR} | parameters)))
        return crowds[-1]

    yield make
    for each in crowds:
        each.close()


def doubles(*asked):
    return [future.result(WAIT)["double"].tolist() for future in asked]


def refusal(asked):
    error = asked.exception(WAIT)
    assert isinstance(error, ServingError), error
    return error.code, error.message


def test_requests_share_a_run_and_each_gets_its_own_rows(crowd):
    crowd = crowd(max_batch_size=4)
    asked = [crowd.ask([1]), crowd.ask([2, 3]), crowd.ask([4])]
    assert doubles(*asked) == [[2], [4, 6], [8]]
    assert crowd.rows_run() == [[1, 2, 3, 4]]


def test_a_batch_that_is_not_full_runs_after_its_timeout(crowd):
    crowd = crowd(batch_timeout_micros=1000)
    assert doubles(crowd.ask([1])) == [[2]]


def test_a_request_that_does_not_fit_closes_the_batch_before_it(crowd):
    crowd = crowd(max_batch_size=3)
    first, second = crowd.ask([1, 2]), crowd.ask([3, 4])
    assert doubles(first) == [[2, 4]]
    assert not second.done()
    crowd.ask([5])
    assert doubles(second) == [[6, 8]]
    assert crowd.rows_run() == [[1, 2], [3, 4, 5]]


def test_signatures_do_not_mix(crowd):
    crowd = crowd(max_batch_size=2)
    asked = [crowd.ask([1], "a"), crowd.ask([2], "b"), crowd.ask([3], "a"), crowd.ask([4], "b")]
    assert doubles(*asked) == [[2], [4], [6], [8]]
    assert [(key, feeds["x"]) for key, feeds, _ in crowd.doubler.runs] == [("a", [1, 3]), ("b", [2, 4])]


def test_shapes_that_do_not_fit_do_not_mix(crowd):
    crowd = crowd(max_batch_size=2)
    asked = [crowd.ask([[1]]), crowd.ask([[2, 2]]), crowd.ask([[3]]), crowd.ask([[4, 4]])]
    assert doubles(*asked) == [[[2]], [[4, 4]], [[6]], [[8, 8]]]
    assert crowd.rows_run() == [[[1], [3]], [[2, 2], [4, 4]]]


def test_padding_repeats_the_first_element_of_the_shorter_request_as_upstream(crowd):
    crowd = crowd(max_batch_size=3, pad_variable_length_inputs=True)
    asked = [
        crowd.ask(np.array([[b"a", b"b"], [b"c", b"d"]], object)),
        crowd.ask(np.array([[b"e", b"f", b"g"]], object)),
    ]
    assert doubles(*asked) == [[[b"aa", b"bb", b"aa"], [b"cc", b"dd", b"aa"]], [[b"ee", b"ff", b"gg"]]]


def test_an_empty_tensor_cannot_be_padded_and_runs_alone(crowd):
    crowd = crowd(max_batch_size=2, pad_variable_length_inputs=True)
    asked = [crowd.ask(np.zeros([1, 0])), crowd.ask([[1.0]])]
    assert doubles(*asked) == [[[]], [[2.0]]]


def test_a_long_request_does_not_make_the_short_ones_as_long(crowd, monkeypatch):
    monkeypatch.setattr(batching, "MAX_PADDING", 10)
    crowd = crowd(max_batch_size=4, pad_variable_length_inputs=True)
    asked = [crowd.ask([list(range(9))]), crowd.ask([[1]]), crowd.ask([[2]]), crowd.ask([[3]])]
    assert doubles(*asked) == [[list(range(0, 18, 2))], [[2]], [[4]], [[6]]]
    assert crowd.rows_run() == [[list(range(9))], [[1]], [[2]], [[3]]]


def test_allowed_sizes_are_reached_with_a_row_that_was_sent(crowd):
    crowd = crowd(max_batch_size=8, allowed_batch_sizes=(2, 4, 8), batch_timeout_micros=0)
    assert [doubles(crowd.ask(x)) for x in ([5, 6, 7], [9, 9], [])] == [[[10, 12, 14]], [[18, 18]], [[]]]
    assert crowd.rows_run() == [[5, 6, 7, 5], [9, 9], []]


def test_a_run_computes_what_any_of_its_requests_wants(crowd):
    crowd = crowd(max_batch_size=2)
    asked = [crowd.ask([1], outputs=["same"]), crowd.ask([2], outputs=["double", "same"])]
    got = [{name: array.tolist() for name, array in future.result(WAIT).items()} for future in asked]
    assert got == [{"same": [1]}, {"double": [4], "same": [2]}]
    assert [outputs for _, _, outputs in crowd.doubler.runs] == [["double", "same"]]


def test_only_the_bad_request_fails(crowd):
    crowd = crowd(max_batch_size=3)
    good, bad, other = crowd.ask([1]), crowd.ask([-2]), crowd.ask([3])
    assert doubles(good, other) == [[2], [6]]
    assert isinstance(bad.exception(WAIT), ValueError)
    assert crowd.rows_run() == [[1, -2, 3], [1], [-2], [3]]


def test_a_request_that_fails_alone_is_not_run_again(crowd):
    crowd = crowd(max_batch_size=1)
    assert isinstance(crowd.ask([-1]).exception(WAIT), ValueError)
    assert crowd.rows_run() == [[-1]]


@pytest.mark.parametrize(
    ("feeds", "outputs", "code", "sentence"),
    [
        ({}, ["double"], CODE.INVALID_ARGUMENT, "Batching Run() must have at least one input tensor"),
        ({"x": 1}, ["double"], CODE.INVALID_ARGUMENT, "Batching Run() input tensors must have at least one dimension"),
        (
            {"x": [1], "y": [1, 2]},
            ["double"],
            CODE.INVALID_ARGUMENT,
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        (
            {"x": [1, 2, 3]},
            ["double"],
            CODE.INVALID_ARGUMENT,
            "Task size 3 is larger than maximum input batch size 2",
        ),
        ({"x": [1]}, ["scalar"], CODE.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions"),
        (
            {"x": [1, 2]},
            ["first"],
            CODE.FAILED_PRECONDITION,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
            "tensors",
        ),
    ],
)
def test_refusals_are_upstreams(crowd, feeds, outputs, code, sentence):
    servable = crowd(max_batch_size=2, batch_timeout_micros=0).servable
    with pytest.raises(ServingError) as caught:
        servable.run("serving_default", {name: np.asarray(value) for name, value in feeds.items()}, outputs)
    assert (caught.value.code, caught.value.message) == (code, sentence)


def test_a_full_queue_refuses(crowd):
    crowd = crowd(max_batch_size=1, max_enqueued_batches=1)
    crowd.doubler.gate.clear()
    running = crowd.ask([1])
    assert crowd.doubler.begun.acquire(timeout=WAIT)
    waiting, refused = crowd.ask([2]), crowd.ask([3])
    assert refusal(refused) == (
        CODE.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full; currently 1 batches enqueued and "
        "max_enqueued_batches is 1",
    )
    crowd.doubler.gate.set()
    assert doubles(running, waiting) == [[2], [4]]


def test_splitting_fills_the_open_batch_first(crowd):
    crowd = crowd(max_batch_size=9, enable_large_batch_splitting=True, max_execution_batch_size=3)
    first, large = crowd.ask([1]), crowd.ask([2, 3, 4, 5, 6, 7, 8, 9])
    assert doubles(first, large) == [[2], [4, 6, 8, 10, 12, 14, 16, 18]]
    assert crowd.rows_run() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_splitting_knows_its_capacity(crowd):
    crowd = crowd(
        max_batch_size=9, enable_large_batch_splitting=True, max_execution_batch_size=3, max_enqueued_batches=2
    )
    waiting, refused = crowd.ask([1]), crowd.ask(list(range(6)))
    assert refusal(refused) == (
        CODE.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full; task size is 6 but scheduling capacity "
        "is only 5 (num_enqueued_batches=1, max_enqueued_batches=2, open_batch_size=1, max_execution_batch_size=3)",
    )
    assert not waiting.done()


def test_a_part_that_fails_fails_its_request(crowd):
    crowd = crowd(max_batch_size=4, enable_large_batch_splitting=True, max_execution_batch_size=2)
    assert isinstance(crowd.ask([1, 1, -1, 1]).exception(WAIT), ValueError)


def test_a_request_that_is_late_leaves_the_queue_and_is_not_run(crowd):
    crowd = crowd(max_batch_size=2)
    late = crowd.ask([1], deadline=time.monotonic() + 0.01)
    assert refusal(late) == (CODE.DEADLINE_EXCEEDED, "Run() timeout exceeded while waiting in batching queue")
    assert doubles(crowd.ask([2])) == [[4]]
    assert crowd.rows_run() == [[2]]


def test_a_client_that_left_is_not_run(crowd):
    crowd = crowd(max_batch_size=2)
    left, good = crowd.ask([1], abandoned=lambda: True), crowd.ask([2])
    assert doubles(good) == [[4]]
    assert refusal(left)[0] is CODE.CANCELLED
    assert crowd.rows_run() == [[2]]


def test_no_request_waits_for_a_run_beyond_its_deadline(crowd):
    crowd = crowd(max_batch_size=1)
    crowd.doubler.gate.clear()
    assert refusal(crowd.ask([1], deadline=time.monotonic() + 0.05))[0] is CODE.DEADLINE_EXCEEDED
    crowd.doubler.gate.set()
    assert doubles(crowd.ask([2], deadline=time.monotonic() + WAIT)) == [[4]]


def test_closing_answers_waiting_requests_and_frees_the_version(crowd):
    crowd = crowd()
    asked = [crowd.ask([1], "a"), crowd.ask([2], "b")]
    crowd.close()
    assert doubles(*asked) == [[2], [4]]
    assert crowd.doubler.closed
    with pytest.raises(RuntimeError):
        crowd.servable.run("a", {"x": np.array([1])}, ["double"])


def test_a_real_model_under_eight_threads(half_plus_two):
    """Every answer is what the model says without batching; a request that the graph refuses fails alone."""
    parameters = BatchingParameters(max_batch_size=8, num_batch_threads=2, allowed_batch_sizes=(4, 8))
    servable = BatchingServable(Servable.load("half", 1, half_plus_two / "1"), parameters)

    def ask(number):
        if number % 5 == 0:
            with pytest.raises(Exception, match="n must be positive"):
                predict(servable, predict_request({"n": np.int64([-number])}, "positive_only"))
        request = predict_request({"n": np.int64([number + 1])}, "positive_only")
        assert tensors.decode(predict(servable, request).outputs["n"]).tolist() == [number + 1]
        wanted = ["y"] if number % 2 else ["y", "text"]
        response = predict(servable, predict_request({"x": np.float32([[number], [0]])}, output_filter=wanted))
        assert sorted(response.outputs) == sorted(wanted)
        return tensors.decode(response.outputs["y"]).ravel().tolist()

    with futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(80))) == [[number / 2 + 2, 2] for number in range(80)]
    servable.close()


def test_a_server_batches_by_its_flags(half_plus_two, tmp_path):
    """The timeout of an hour says that only batching can have answered, the full batch that nothing else did."""
    file = tmp_path / "batching.config"
    file.write_text(f"max_batch_size {{ value: 2 }} batch_timeout_micros {{ value: {HOUR} }} allowed_batch_sizes: 2")
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    flags = {
        "enable_batching": True,
        "batching_parameters_file": file,
        "monitoring_config_file": monitoring,
        "enable_model_warmup": False,
    }
    requests = [predict_request({"x": np.float32([[number]])}) for number in (1, 2)]
    with embedded.running(half_plus_two, model_name="half", **flags) as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            calls = [stub.Predict.future(request, timeout=WAIT) for request in requests]
            answers = [tensors.decode(call.result().outputs["y"]).tolist() for call in calls]
        page = server.metrics.page()
    assert answers == [[[20.5]], [[21.0]]]
    assert ":tensorflow:serving:batching_session:processed_batch_size_sum{} 2" in page
    assert ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name="batch_threads"} 2' in page
    assert ':tensorflow:serving:batching_session:padding_size_sum{execution_batch_size="2"} 0' in page


def test_a_server_refuses_a_wrong_file_before_it_loads_a_model(tmp_path):
    file = tmp_path / "batching.config"
    file.write_text("max_batch_size { value: 0 }")
    with pytest.raises(UserError, match="Expected max_batch_size of at least 1"):
        embedded.build_server(tmp_path, enable_batching=True, batching_parameters_file=file)


def test_defaults_are_upstreams():
    threads = os.cpu_count()
    assert BatchingParameters() == BatchingParameters(1000, 0, 10, threads, "batch_threads", (), False, False, None)


def test_the_file_of_tf_serving_is_read(tmp_path):
    file = tmp_path / "batching.txt"
    file.write_text(
        """
        # as in TF Serving's guide
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 500 }
        max_enqueued_batches: { value: 7 }
        num_batch_threads < value: 3 >
        thread_pool_name { value: "mine" }
        allowed_batch_sizes: 32  allowed_batch_sizes: [64]
        pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 64 }
        """
    )
    assert BatchingParameters.read(file) == BatchingParameters(128, 500, 7, 3, "mine", (32, 64), True, True, 64)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("max_batch_size { value: 0 }", "Expected max_batch_size of at least 1"),
        ("num_batch_threads { value: 0 }", "Expected num_batch_threads of at least 1"),
        ("batch_timeout_micros { value: -1 }", "Expected batch_timeout_micros of at least 0"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", r"largest size of a batch, 8, got \[4\]"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [4, 4, 8]", r"to increase .* got \[4, 4, 8\]"),
        (
            "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 9 }",
            "Expected max_execution_batch_size of at most max_batch_size",
        ),
        ("max_batch_size: 8", "Error parsing text-format tensorflow.serving.BatchingParameters"),
        ("max_batch { value: 8 }", 'no field named "max_batch"'),
    ],
)
def test_a_wrong_file_is_refused_with_a_sentence(tmp_path, text, sentence):
    file = tmp_path / "batching.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        BatchingParameters.read(file)
