"""Deadlines: no run is spent on a request that is late, or whose client has left."""

import threading
import time
from collections.abc import Callable

import grpc

from serving.status import ServingError

Abandoned = Callable[[], bool]
"""Returns True if the client has left; called right before work that only this client needs."""


def of(context: grpc.ServicerContext) -> float | None:
    """Returns the deadline of an RPC in seconds of `time.monotonic`, None if it has none."""
    left = context.time_remaining()
    # gRPC gives a call without a deadline centuries, more than any lock can wait.
    return None if left is None or left > threading.TIMEOUT_MAX else time.monotonic() + left


def remaining(deadline: float | None) -> float | None:
    """Returns the seconds that are left, 0 if none are, None without a deadline."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def check(deadline: float | None, abandoned: Abandoned | None = None) -> None:
    """Checks that the client still waits for the answer.

    Raises:
        ServingError: DEADLINE_EXCEEDED or CANCELLED.
    """
    if remaining(deadline) == 0:
        raise exceeded("Run() timeout exceeded before the run could start")
    if abandoned is not None and abandoned():
        raise ServingError(grpc.StatusCode.CANCELLED, "the client cancelled the request before the run could start")


def exceeded(message: str) -> ServingError:
    """Returns the error of a request that could not be answered in time."""
    return ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, message)
