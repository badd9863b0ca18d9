"""The gRPC status, TF Serving's one, for every kind of failure."""

import logging

import grpc
import tensorflow as tf

_LOG = logging.getLogger(__name__)

MESSAGE_LIMIT = 1024
"""Bytes of an error message that are sent, as in TF Serving; gRPC's header holds 8 KB, and may need 3 for each."""

_TRUNCATED = "...TRUNCATED"
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class ServingError(Exception):
    """A request that cannot be answered.

    Attributes:
        code: The `grpc.StatusCode` of the answer.
        message: The sentence for the client.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid_argument(message: str) -> ServingError:
    """Returns the error for a request that is wrong in any state of the server."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Returns the status code and the message, cut to `MESSAGE_LIMIT`, that answer a request after `error`.

    TensorFlow numbers its error codes as gRPC does, so they pass unchanged. Any other error is a bug of the server:
    it is logged with its traceback, and the client gets only its type.
    """
    if isinstance(error, ServingError):
        return error.code, truncated(error.message)
    if isinstance(error, tf.errors.OpError):
        return _BY_NUMBER.get(error.error_code, grpc.StatusCode.UNKNOWN), truncated(error.message)
    _LOG.error("a request failed inside the server", exc_info=error)
    return grpc.StatusCode.INTERNAL, f"internal error of the server: {type(error).__name__}; its log has more"


def truncated(message: str) -> str:
    """Returns `message`, cut to `MESSAGE_LIMIT` bytes of UTF-8 and marked if that cut it."""
    content = message.encode(errors="replace")
    if len(content) <= MESSAGE_LIMIT:
        return message
    return content[:MESSAGE_LIMIT].decode(errors="ignore") + _TRUNCATED
