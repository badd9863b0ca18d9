"""A client of the REST API for tests, and REST servers over the models of a running gRPC server."""

import contextlib
import http.client
import json
import socket

from serving.rest.http_server import RestServer
from serving.services import PredictionService

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


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


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
