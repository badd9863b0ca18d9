"""What HTTP itself asks of the REST server: connections, bounds, broken requests, many clients, a clean stop."""

import contextlib
import gzip
import json
import random
import socket
import threading
from concurrent import futures

import pytest
import rest_client
from rest_client import MAX_BODY, TIMEOUT, Client

from serving import server as embedded
from serving.rest import connection
from serving.rest.server import RestServer
from serving.services import PredictionService
from tfdnc.contracts.errors import UserError


@pytest.fixture(scope="module")
def server(half_plus_two):
    with embedded.running(half_plus_two, model_name="half") as server:
        yield server


@pytest.fixture(scope="module")
def rest(server):
    with rest_client.running(server) as client:
        yield client


@pytest.fixture
def still_answers(rest):
    """After the test, whatever it sent, the server must answer a good request."""
    yield
    rest.http.close()
    assert rest.post("/v1/models/half:predict", GOOD)[1]["outputs"]["y"] == [[20.5]]


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
    for broken, status in (
        (b"\xff\x00\xff\r\n\r\n", b"HTTP/1.0 400 Bad Request"),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n", b"HTTP/1.1 501 Not Implemented"),
    ):
        assert error_of(raw(rest, broken), status)


def error_of(answer, status):
    """Returns the sentence of an answer that HTTP itself refused, which is JSON as all others (it was plain text)."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(status + b"\r\n")
    assert b"Content-Type: application/json\r\n" in head
    return json.loads(body)["error"]


def test_a_connection_holds_no_thread(server):
    with rest_client.running(server, num_threads=1) as client, contextlib.ExitStack() as stack:
        for content in (b"", b"POST /v1/mod", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"):
            connection = socket.create_connection(("127.0.0.1", client.http.port))
            stack.callback(connection.close)
            connection.sendall(content)
        assert client.post("/v1/models/half:predict", GOOD)[0] == 200


def test_a_client_that_reads_nothing_holds_no_thread(server):
    class Large:
        path = "/metrics"

        @staticmethod
        def page():
            pages.release()
            return "x" * (20 << 20)

    pages = threading.Semaphore(0)
    with (
        rest_client.running(server, num_threads=1, metrics=Large) as client,
        socket.create_connection(("127.0.0.1", client.http.port)) as deaf,
    ):
        deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        assert all(pages.acquire(timeout=TIMEOUT) for _ in range(2))
        assert client.ask("GET", "/v1/models/half")[0] == 200


def test_chunked_bodies(rest):
    head = (
        b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (GOOD[:5], GOOD[5:])) + b"0\r\n\r\n"
    assert b'"y": [[20.5]]' in raw(rest, head + chunks)


CORS = {"Origin": "*", "Methods": "POST, GET", "Headers": "Content-Type"}


def options(client, path="/v1/models/half:predict", **headers):
    """Returns status, body and CORS headers of the answer to a preflight."""
    client.http.request("OPTIONS", path, headers=headers)
    response = client.http.getresponse()
    return response.status, response.read(), allowed(response.headers)


def allowed(headers):
    start = "Access-Control-Allow-"
    return {name.removeprefix(start): value for name, value in headers.items() if name.startswith(start)}


def test_a_preflight_without_cors_says_nothing(rest):
    assert options(rest, Origin="https://shop.example") == (200, b"", {})
    status, body, headers = options(rest)
    assert (status, headers) == (400, {})
    assert json.loads(body) == {"error": "Origin header is missing in CORS preflight"}


def test_with_cors_every_answer_says_who_may_read_it(server):
    with rest_client.running(server, cors=True) as client:
        assert options(client, Origin="http://shop.example") == (200, b"", CORS)
        assert options(client, Origin="null")[::2] == (400, CORS)
        for status, body in ((200, GOOD), (400, b"{"), (413, b" " * (MAX_BODY + 1))):
            got, _, headers = client.ask("POST", "/v1/models/half:predict", body)
            assert (got, allowed(headers)) == (status, CORS)


@pytest.mark.usefixtures("still_answers")
def test_bodies_are_bounded(rest):
    body = b'{"inputs": [[1.0]]' + b" " * MAX_BODY
    assert rest.post("/v1/models/half:predict", body[: MAX_BODY - 1] + b"}")[0] == 200
    head = b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1)
    message = error_of(raw(rest, head), b"HTTP/1.1 413 Request Entity Too Large")
    assert message == f"Request Entity Too Large: the body has more than {MAX_BODY} bytes"


@pytest.fixture
def refusing(server):
    """A server with a limit far above what the system's buffers hold."""
    with rest_client.running(server, max_body_bytes=8 << 20) as client:
        yield client


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_before_it_listens_reads_the_413(refusing, chunked):
    """Its connection was reset: what a server leaves unread goes out as a reset, which overtakes the answer."""
    piece = b" " * (1 << 20)
    body = (piece for _ in range(20)) if chunked else piece * 20
    refusing.http.request("POST", "/v1/models/half:predict", body, encode_chunked=chunked)
    response = refusing.http.getresponse()
    assert response.status == 413
    assert json.loads(response.read())["error"].endswith(f"the body has more than {8 << 20} bytes")
    assert response.headers["Connection"] == "close"
    assert refusing.post("/v1/models/half:predict", GOOD)[0] == 200


def test_a_refused_body_is_dropped_up_to_a_bound(refusing, monkeypatch):
    monkeypatch.setattr(connection, "DROPPED_BODIES", 1)
    body = (b" " * (1 << 20) for _ in range(100))
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        refusing.http.request("POST", "/v1/models/half:predict", body, encode_chunked=True)
    assert next(body, None) is not None  # not all of it was sent


def test_a_refused_body_is_dropped_for_a_while(refusing, monkeypatch):
    monkeypatch.setattr(connection, "DROPPING_SECONDS", 0.0)
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        refusing.http.request("POST", "/v1/models/half:predict", (b" " * (1 << 20) for _ in range(100)))


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
    def ask(thread):
        client = Client(rest.http.port)
        for number in range(thread * 1000, thread * 1000 + 20):
            _, answer = client.post("/v1/models/half:predict", {"inputs": [[number]]})
            assert answer["outputs"]["y"] == [[number / 2 + 20]]
        client.http.close()

    with futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(8)))


def test_a_stopping_server_answers_what_it_has_begun_and_nothing_else(server, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    states = server.manager.states

    def slow_states(spec):
        begun.set()
        assert go_on.wait(TIMEOUT)
        return states(spec)

    monkeypatch.setattr(server.manager, "states", slow_states)
    rest = rest_client.rest_server(server)
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


def test_a_port_that_is_taken(server, rest):
    with pytest.raises(UserError, match=f"Expected to listen on 127.0.0.1 port {rest.http.port} for REST"):
        RestServer(
            PredictionService(server.manager),
            server.manager,
            "127.0.0.1",
            rest.http.port,
            1,
            1,
            None,
            MAX_BODY,
        )


def test_a_server_that_was_never_started_frees_its_port(server):
    rest = rest_client.rest_server(server)
    rest.stop(0)
    with socket.create_server(("127.0.0.1", rest.port)):
        pass
