"""The HTTP server of the REST API: waitress on its own threads, started and stopped with the gRPC server."""

import logging
import math
import socket
import sys
import threading
import time
from typing import Any

import waitress.server
from waitress import wasyncore

from serving.manager import ModelManager
from serving.metrics import Metrics
from serving.rest import connection
from serving.rest.app import Application
from serving.services import PredictionService
from tfdnc.contracts.errors import UserError

_LOG = logging.getLogger(__name__)

MAX_CONNECTIONS = 300
"""Connections, busy or idle, above which new ones wait. A connection takes no thread, but up to three files for a large
request and its answer, and many systems let a process open only 1024."""

# By default waitress warns whenever all threads are busy, which is normal under load.
logging.getLogger("waitress.queue").setLevel(logging.ERROR)

_POLL_SECONDS = 0.01
"""Seconds between two checks of a stopping server for answers that are not yet sent."""


class RestServer:
    """A server bound to its port; requests are answered from `start` to `stop`.

    Args:
        prediction: Answers classify, regress and metadata.
        manager: Holds the models.
        host: Address to bind to.
        port: Port to bind to; 0 picks a free one.
        timeout_seconds: Time limit of an answer, None for no limit.
        num_threads: Threads that answer requests.
        metrics: Counts the calls, and is shown on its path; None for neither.
        max_body_bytes: Larger bodies get 413.
        cors: See `Application`.

    Attributes:
        port: The port that clients use.

    Raises:
        UserError: The address cannot be bound.
    """

    def __init__(
        self,
        prediction: PredictionService,
        manager: ModelManager,
        host: str,
        port: int,
        timeout_seconds: float | None,
        num_threads: int,
        metrics: Metrics | None,
        max_body_bytes: int,
        cors: bool = False,
    ) -> None:
        self._app = Application(prediction, manager, timeout_seconds, metrics, max_body_bytes, cors)
        self._max_body_bytes = max_body_bytes
        self._socket = _bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._options: dict[str, Any] = {
            "threads": num_threads,
            "max_request_body_size": max_body_bytes + 1,  # waitress refuses what reaches it
            "connection_limit": MAX_CONNECTIONS,
            # No thread waits for a client to read. Few bytes are buffered: no request is received before they are sent.
            "outbuf_high_watermark": sys.maxsize,
            "asyncore_use_poll": True,  # select() cannot watch files above 1023
            "ident": None,
        }
        self._server: waitress.server.BaseWSGIServer | None = None
        self._ended: waitress.server.BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to answer requests."""
        self._server = waitress.server.create_server(self._app, sockets=[self._socket], **self._options)
        self._server.channel_class = connection.channel_class(self._app.headers, self._max_body_bytes)
        self._thread = threading.Thread(target=self._server.run, name="rest", daemon=True)
        self._thread.start()
        _LOG.info("REST on port %d", self.port)

    def stop(self, grace: float) -> None:
        """Refuses new requests, waits at most `grace` seconds for running ones, and frees the port."""
        if self._server is None or self._thread is None:
            self._socket.close()
            return
        self._app.stopping = True
        deadline = time.monotonic() + grace
        while _is_busy(self._server) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        self._server.task_dispatcher.shutdown(timeout=max(0.0, deadline - time.monotonic()))
        # The thread that watches the sockets must close them itself; it ends once none is left.
        sockets = self._server._map
        self._server.trigger.pull_trigger(lambda: wasyncore.close_all(sockets))
        self._thread.join()
        self._ended, self._server = self._server, None

    def wait_until_idle(self) -> None:
        """Waits, after `stop`, until no thread answers a request, however long an answer takes.

        Python must not exit before that: a thread that returns from TensorFlow to an exiting Python ends the process
        with an abort.
        """
        if self._ended is not None:
            self._ended.task_dispatcher.shutdown(timeout=math.inf)


def _is_busy(server: waitress.server.BaseWSGIServer) -> bool:
    channels = list(server.active_channels.copy().values())
    return any(channel.requests or channel.total_outbufs_len for channel in channels)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"Expected to listen on {host} port {port} for REST, the system refused ({error}). Stop what uses the "
            "port, choose another one, or let port 0 pick a free one."
        ) from error
