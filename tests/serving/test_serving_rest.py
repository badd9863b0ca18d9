"""The REST API over real HTTP: paths, formats, status codes and messages of TF Serving, and what HTTP itself needs."""

import contextlib
import gzip
import http.client
import json
import random
import socket
import threading

import numpy as np
import pytest
import tensorflow as tf
from serving_models import save_half_plus_two

from serving import server as embedded
from serving.rest.server import RestServer
from serving.services import PredictionService
from tfdnc.errors import UserError

MAX_BODY = 1 << 16
TIMEOUT = 30


class Client:
    """One connection to a REST server."""

    def __init__(self, port):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)

    def ask(self, method, path, body=None, **headers):
        """Returns status, body as JSON, and headers; a body that is neither bytes nor None is sent as JSON."""
        self.http.request(method, path, body if isinstance(body, bytes | None) else json.dumps(body), headers)
        response = self.http.getresponse()
        return response.status, json.loads(response.read()), response.headers

    def post(self, path, body, **headers):
        status, answer, _ = self.ask("POST", path, body, **headers)
        return status, answer


def rest_server(server, **options):
    defaults = {"timeout_seconds": TIMEOUT, "num_threads": 4, "metrics": None, "max_body_bytes": MAX_BODY}
    prediction = PredictionService(server.manager)
    return RestServer(prediction, server.manager, "127.0.0.1", 0, **(defaults | options))


@contextlib.contextmanager
def running(server, **options):
    rest = rest_server(server, **options)
    rest.start()
    client = Client(rest.port)
    yield client
    client.http.close()
    rest.stop(TIMEOUT)


class Examples(tf.Module):
    """Both kinds of signatures for examples with one feature, and one whose output is no batch."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs):
        features = {"x": tf.io.FixedLenFeature([], tf.float32), "add": tf.io.FixedLenFeature([], tf.float32, 0.0)}
        parsed = tf.io.parse_example(inputs, features)
        return {"outputs": parsed["x"] + parsed["add"]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        scores = self.regress(inputs)["outputs"]
        return {"classes": tf.fill([tf.size(scores), 1], "x"), "scores": scores[:, tf.newaxis]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def total(self, x):
        return {"sum": tf.reduce_sum(x)}


@pytest.fixture(scope="module")
def models(tmp_path_factory, fake_bundle):
    """A server of `half` (versions 1 and 2, 1 is `stable`), a fake bundle, examples, and a name that needs escapes."""
    folder = tmp_path_factory.mktemp("rest")
    for version, offset in ((1, 2.0), (2, 20.0)):
        save_half_plus_two(folder / "half" / str(version), offset)
    model = Examples()
    signatures = {"regress": model.regress, "classify": model.classify, "total": model.total}
    tf.saved_model.save(model, str(folder / "examples" / "1"), signatures=signatures)
    paths = {"a b/c": folder / "half", "bundle": fake_bundle, "examples": folder / "examples"}
    config = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}' for name, path in paths.items()
    )
    config += f"""config {{ name: "half" base_path: "{folder / "half"}" model_platform: "tensorflow"
        model_version_policy {{ all {{ }} }} version_labels {{ key: "stable" value: 1 }} }}"""
    file = folder / "models.config"
    file.write_text(f"model_config_list {{ {config} }}")
    with embedded.running(
        model_config_file=file, allow_version_labels_for_unavailable_models=True, file_system_poll_wait_seconds=0
    ) as server:
        yield server


@pytest.fixture(scope="module")
def rest(models):
    with running(models) as client:
        yield client


@pytest.fixture
def still_answers(rest):
    """After the test, whatever it sent, the server must answer a good request."""
    yield
    rest.http.close()
    assert rest.post("/v1/models/half:predict", {"inputs": [[1.0]]})[1]["outputs"]["y"] == [[20.5]]


ONE = "1.000000"


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        (
            "half:predict",
            {"instances": [[1.0], [2]]},
            {"predictions": [{"text": [ONE], "y": [20.5]}, {"text": ["2.000000"], "y": [21.0]}]},
        ),
        (
            "half:predict",
            {"inputs": [[1.0], [2]]},
            {"outputs": {"text": [["1.000000"], ["2.000000"]], "y": [[20.5], [21.0]]}},
        ),
        (
            "half/versions/1:predict",
            {"instances": [{"x": [1.0]}]},
            {"predictions": [{"text": ["1.000000"], "y": [2.5]}]},
        ),
        ("half/labels/stable:predict", {"inputs": {"x": [[1.0]]}}, {"outputs": {"text": [["1.000000"]], "y": [[2.5]]}}),
        ("half:predict", {"signature_name": "positive_only", "instances": [3, 4]}, {"predictions": [3, 4]}),
        ("half:predict", {"signature_name": "positive_only", "inputs": [3, 4]}, {"outputs": [3, 4]}),
        (
            "half:predict",
            {"signature_name": "shout", "instances": [["é", {"b64": "YmM="}]]},
            {"predictions": [{"loud": ["é", "BC"], "letters": 4}]},
        ),
        ("a%20b%2Fc:predict", {"signature_name": "positive_only", "inputs": [1]}, {"outputs": [1]}),
        ("examples:predict", {"signature_name": "total", "inputs": [1, 2]}, {"outputs": 3.0}),
        (
            "examples:regress",
            {"signature_name": "regress", "examples": [{"x": 1.5}, {"x": [2.5]}]},
            {"results": [1.5, 2.5]},
        ),
        (
            "examples:regress",
            {"signature_name": "regress", "context": {"add": 10.0}, "examples": [{"x": 1.5}, {"x": 2.5}]},
            {"results": [11.5, 12.5]},
        ),
        ("examples:classify", {"signature_name": "classify", "examples": [{"x": 1.5}]}, {"results": [[["x", 1.5]]]}),
        (
            "bundle:predict",
            {"signature_name": "retrieve", "instances": [{"history": [], "num_candidates": 2, "alpha": 0.5}]},
            {
                "predictions": [
                    {
                        "item_ids": ["i0", "i1", "", ""],
                        "scores": [0.5, -0.5, -1e30, -1e30],
                        "cluster_ids": [0, 1, -1, -1],
                        "num_results": 2,
                        "quotas": [1, 1],
                        "intent": [0.0, 0.0],
                    }
                ]
            },
        ),
    ],
)
def test_answers(rest, path, body, answer):
    status, got, headers = rest.ask("POST", f"/v1/models/{path}", body)
    assert (status, got) == (200, answer)
    assert headers["Content-Type"] == "application/json"


def test_numbers_without_a_name_in_json(rest):
    status, answer = rest.post("/v1/models/half:predict", b'{"inputs": [[NaN], [Infinity], [-Infinity]]}')
    assert status == 200
    np.testing.assert_array_equal(answer["outputs"]["y"], [[np.nan], [np.inf], [-np.inf]])


def test_status(rest):
    ok = {"error_code": "OK", "error_message": ""}
    two, one = ({"version": version, "state": "AVAILABLE", "status": ok} for version in "21")
    for path, versions in (("", [two, one]), ("/versions/1", [one]), ("/labels/stable", [one])):
        status, answer, _ = rest.ask("GET", f"/v1/models/half{path}")
        assert (status, answer) == (200, {"model_version_status": versions})


@pytest.mark.parametrize(("path", "version"), [("", "2"), ("/versions/1", "1"), ("/labels/stable", "1")])
def test_metadata(rest, models, path, version):
    status, answer, _ = rest.ask("GET", f"/v1/models/half{path}/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "half", "signature_name": "", "version": version}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    x = {"dtype": "DT_FLOAT", "name": "serving_default_x:0"}
    x["tensor_shape"] = {"dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}], "unknown_rank": False}
    assert signatures["serving_default"]["inputs"] == {"x": x}
    assert signatures["shout"]["method_name"] == "tensorflow/serving/predict"


BAD, GONE = 400, 404
UNKNOWN_LABEL = "Unrecognized servable version label: no"
SERVABLE = "Servable not found for request: "


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/v1/foo", None, BAD, "Malformed request: GET /v1/foo"),
        ("POST", "/v1/foo", b"", BAD, "Malformed request: POST /v1/foo"),
        ("GET", "/v1/models", None, BAD, "Missing model name in request."),
        ("GET", "/v1/models/a/b", None, BAD, "Malformed request: GET /v1/models/a/b"),
        ("GET", "/v1/models/half:predict", None, BAD, "Malformed request: GET /v1/models/half:predict"),
        ("POST", "/v1/models/half", b"{}", BAD, "Malformed request: POST /v1/models/half"),
        ("POST", "/v1/models/half/metadata", b"", BAD, "Malformed request: POST /v1/models/half/metadata"),
        ("PUT", "/v1/models/half:predict", b"{}", BAD, "Malformed request: PUT /v1/models/half:predict"),
        ("POST", "/v1/models/half:predict?x=1", b"{}", BAD, "Malformed request: POST /v1/models/half:predict?x=1"),
        (
            "POST",
            "/v1/models/half/versions/x:regress",
            b"",
            BAD,
            "Malformed request: POST /v1/models/half/versions/x:",
        ),
        (
            "POST",
            f"/v1/models/half/versions/{2**64}:regress",
            b"",
            BAD,
            f"Failed to convert version: {2**64}",
        ),
        ("GET", "/v1/models/no", None, GONE, "Could not find any versions of model no"),
        ("GET", "/v1/models/half/versions/9", None, GONE, "Could not find version 9 of model half"),
        ("GET", "/v1/models/half/labels/no", None, BAD, UNKNOWN_LABEL),
        ("GET", "/v1/models/no/metadata", None, GONE, SERVABLE + "Latest(no)"),
        ("POST", "/v1/models/no:predict", {"instances": [1]}, GONE, SERVABLE + "Latest(no)"),
        (
            "POST",
            "/v1/models/no:predict",
            b"{",
            BAD,
            "JSON Parse error: Missing a name for object member",
        ),
        ("POST", "/v1/models/no:classify", {"examples": [{}]}, GONE, SERVABLE + "Latest(no)"),
        ("POST", "/v1/models/half/versions/9:predict", {"instances": [1]}, GONE, SERVABLE + "Specific(half, 9)"),
        (
            "POST",
            "/v1/models/half/labels/no:predict",
            {"instances": [1]},
            BAD,
            "Unrecognized servable version label: no",
        ),
        ("POST", "/v1/models/half:predict", b"", BAD, "JSON Parse error: The document is empty"),
        ("POST", "/v1/models/half:predict", {"instances": ["x"]}, BAD, "is not of expected type: float"),
        (
            "POST",
            "/v1/models/half:predict",
            {"signature_name": "no", "instances": [1]},
            BAD,
            'Serving signature name: "no" not found in signature def',
        ),
        (
            "POST",
            "/v1/models/half:predict",
            {"signature_name": "positive_only", "inputs": [0]},
            BAD,
            "n must be positive",
        ),
        (
            "POST",
            "/v1/models/half:predict",
            {"signature_name": "shout", "inputs": ["a"]},
            BAD,
            'input "words" should have shape [?, ?], came [1]: ',
        ),
        ("POST", "/v1/models/half:regress", {"examples": [{}]}, BAD, "Expected one output Tensor."),
        ("POST", "/v1/models/half:classify", {}, BAD, "When method is classify, key 'examples' is expected"),
        (
            "POST",
            "/v1/models/examples:predict",
            {"signature_name": "total", "instances": [1]},
            BAD,
            "Tensor name: sum has no shape information ",
        ),
        ("GET", "/", None, GONE, "Nothing is served on /."),
    ],
)
@pytest.mark.usefixtures("still_answers")
def test_refusals(rest, method, path, body, status, message):
    got, answer, headers = rest.ask(method, path, body)
    assert got == status
    assert set(answer) == {"error"}
    assert message in answer["error"]
    assert headers["Content-Type"] == "application/json"


def test_what_takes_too_long_is_504(models):
    with running(models, timeout_seconds=0) as client:
        assert client.post("/v1/models/half:predict", {"inputs": [[1.0]]})[0] == 504


GOOD = json.dumps({"inputs": [[1.0]]}).encode()


def test_one_connection_takes_many_requests(rest):
    rest.ask("GET", "/v1/models/half")
    connection = rest.http.sock
    for _ in range(3):
        assert rest.post("/v1/models/half:predict", GOOD)[0] == 200
        assert rest.post("/v1/models/half:predict", b"{")[0] == 400
    assert rest.http.sock is connection is not None


def raw(rest, content):
    """Sends bytes on a connection of its own, and returns all that comes until the server closes it."""
    with socket.create_connection((rest.http.host, rest.http.port), timeout=TIMEOUT) as connection:
        connection.sendall(content)
        pieces = []
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.usefixtures("still_answers")
def test_old_clients_and_bytes_that_are_no_http(rest):
    head = b"POST /v1/models/half:predict HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
    assert raw(rest, head + GOOD).startswith(b"HTTP/1.0 200 OK\r\n")
    assert raw(rest, b"\xff\x00\xff\r\n\r\n").startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert raw(rest, b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_chunked_bodies(rest):
    head = (
        b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (GOOD[:5], GOOD[5:])) + b"0\r\n\r\n"
    assert b'"y": [[20.5]]' in raw(rest, head + chunks)


@pytest.mark.usefixtures("still_answers")
def test_bodies_are_bounded(rest):
    body = b'{"inputs": [[1.0]]' + b" " * MAX_BODY
    assert rest.post("/v1/models/half:predict", body[: MAX_BODY - 1] + b"}")[0] == 200
    head = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1)
    assert raw(rest, head).startswith(b"HTTP/1.1 413 Request Entity Too Large\r\n")


@pytest.mark.usefixtures("still_answers")
def test_compressed_bodies(rest):
    def post(body):
        return rest.post("/v1/models/half:predict", body, **{"Content-Encoding": "gzip"})

    assert post(gzip.compress(GOOD))[0] == 200
    bomb = gzip.compress(b'{"inputs": [[1.0]]' + b" " * 100 * MAX_BODY + b"}")
    assert len(bomb) < MAX_BODY
    for broken in (GOOD, gzip.compress(GOOD)[:-5], bomb):
        status, answer = post(broken)
        assert status == 400
        assert answer["error"].startswith("Failed to uncompress the gzipped body: ")


def mutations(seed, count):
    """Yields bodies that were good before somebody sat on the keyboard."""
    good = [
        {"instances": [[1.0], [2.0]]},
        {"inputs": {"x": [[1.0], [2.0]]}},
        {"signature_name": "shout", "instances": [{"words": ["a", {"b64": "YmM="}]}]},
        {"signature_name": "positive_only", "inputs": [1, 2, 3]},
    ]
    odd = [None, True, -1, 2**80, 1e308, "x", "\x00", [], {}, [[[]]], {"b64": 1}, float("nan")]
    dice = random.Random(seed)
    for _ in range(count):
        text = json.dumps(dice.choice(good))
        kind = dice.randrange(4)
        if kind == 0:
            yield text[: dice.randrange(len(text))].encode()
        elif kind == 1:
            yield dice.randbytes(dice.randrange(200))
        elif kind == 2:
            place = dice.randrange(len(text))
            yield (text[:place] + dice.choice('[]{}",:0\\\x00') + text[place + 1 :]).encode()
        else:
            body = json.loads(text)
            body[dice.choice(["instances", "inputs", "signature_name"])] = dice.choice(odd)
            yield json.dumps(body).encode()


@pytest.mark.usefixtures("still_answers")
def test_two_hundred_broken_bodies(rest):
    for body in mutations(seed=1, count=200):
        for call in ("predict", "classify", "regress"):
            status, answer = rest.post(f"/v1/models/half:{call}", body)
            assert status in (200, 400), (body, answer)
            assert "error" in answer if status == 400 else call == "predict"


def test_eight_threads_get_their_own_answers(rest):
    wrong = []

    def ask(thread):
        client = Client(rest.http.port)
        for number in range(thread * 1000, thread * 1000 + 20):
            _, answer = client.post("/v1/models/half/versions/1:predict", {"inputs": [[number]]})
            if answer["outputs"]["y"] != [[number / 2 + 2]]:
                wrong.append((number, answer))
        client.http.close()

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_stopping_server_answers_what_it_has_begun_and_nothing_else(models, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    states = models.manager.states

    def slow_states(spec):
        begun.set()
        assert go_on.wait(TIMEOUT)
        return states(spec)

    monkeypatch.setattr(models.manager, "states", slow_states)
    rest = rest_server(models)
    rest.start()
    waiting, late = Client(rest.port), Client(rest.port)
    late.post("/v1/models/half:predict", GOOD)  # so that it has a connection
    waiting.http.request("GET", "/v1/models/half")
    assert begun.wait(TIMEOUT)
    stopping = threading.Thread(target=rest.stop, args=(TIMEOUT,))
    stopping.start()
    while late.post("/v1/models/half:predict", GOOD)[0] == 200:
        pass
    assert late.post("/v1/models/half:predict", GOOD) == (503, {"error": "The server is shutting down."})
    go_on.set()
    assert waiting.http.getresponse().status == 200
    stopping.join()
    with pytest.raises(ConnectionRefusedError):
        Client(rest.port).ask("GET", "/v1/models/half")
    waiting.http.close()
    late.http.close()


def test_a_port_that_is_taken(models, rest):
    with pytest.raises(UserError, match=f"Expected to listen on 127.0.0.1 port {rest.http.port} for REST"):
        RestServer(PredictionService(models.manager), models.manager, "127.0.0.1", rest.http.port, 1, 1, None, MAX_BODY)


def test_a_server_that_was_never_started_frees_its_port(models):
    rest = rest_server(models)
    rest.stop(0)
    with socket.create_server(("127.0.0.1", rest.port)):
        pass
