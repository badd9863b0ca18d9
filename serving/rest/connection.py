"""Connections of the REST server: waitress's, with errors in JSON and without a reset under a refused body."""

import contextlib
import socket
import time

from waitress import channel, task, utilities

from serving.rest import responses

DROPPED_BODIES = 4
"""Times `max_body_bytes` that are read and dropped of a refused body. A client that sends before it listens, as those
of Python do, would otherwise find its connection reset instead of the 413."""

DROPPING_SECONDS = 30.0
"""Seconds after which a refused body is read no further."""


def channel_class(headers: list[tuple[str, str]], max_body_bytes: int) -> type[channel.HTTPChannel]:
    """Returns the class of the connections.

    Args:
        headers: Of every answer.
        max_body_bytes: Larger bodies get 413.
    """

    class ErrorTask(task.ErrorTask):
        """An error that waitress finds itself, as JSON like all others."""

        def execute(self) -> None:
            error = self.request.error
            is_large = isinstance(error, utilities.RequestEntityTooLarge)
            reason = f"the body has more than {max_body_bytes} bytes" if is_large else error.body
            body = responses.encoded(responses.error(f"{error.reason}: {reason}"))
            self.status, self.content_length = f"{error.code} {error.reason}", len(body)
            self.response_headers.extend(headers)
            self.channel.refused_body = is_large
            self.set_close_on_finish()
            self.write(body)

    class Channel(channel.HTTPChannel):
        """A connection that reads what it drops of a refused body, and only then closes.

        Attributes:
            refused_body: Set with an answer that the rest of the body stays behind.
        """

        error_task_class = ErrorTask
        close_when_flushed: bool  # of waitress
        refused_body = False
        _dropping_since: float | None = None
        _dropped = 0

        def handle_write(self) -> None:
            """Sends; after the last bytes of a 413 it ends this direction only."""
            if not (self.refused_body and self.close_when_flushed):
                super().handle_write()
                return
            if self.total_outbufs_len:
                self._flush_exception(self._flush_some)
            if self.will_close:
                self.handle_close()
            elif not self.total_outbufs_len:
                self.close_when_flushed = False
                self._dropping_since = time.monotonic()
                with contextlib.suppress(OSError):  # the client is gone; reading will find that out
                    self.socket.shutdown(socket.SHUT_WR)

        def received(self, data: bytes) -> bool:
            """Takes in what came, or drops it."""
            if self._dropping_since is None:
                return super().received(data)
            self._dropped += len(data)
            late = time.monotonic() - self._dropping_since > DROPPING_SECONDS
            self.will_close = late or self._dropped > DROPPED_BODIES * max_body_bytes
            return True

    return Channel
