"""Reaches the server of a query: waits for one that is starting, and explains one that has another model."""

import time
from collections.abc import Iterable
from pathlib import Path

import grpc

from serving.client import RetrievalClient, RetrievalError
from serving.client.answers import highest_available
from tfdnc.cli import screen
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline import stations

_POLL_SECONDS = 0.2
_ATTEMPT_SECONDS = 5.0
_MOST_NAMES = 50

_NOT_YET = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def await_model(client: RetrievalClient, seconds: float) -> None:
    """Returns when the server has a version of the model that answers; says so if that takes a while.

    Raises:
        RetrievalError: none within `seconds`, or what no waiting mends: NOT_FOUND of a model that is not served.
    """
    deadline = time.monotonic() + seconds
    waiting = False
    while True:
        is_last = time.monotonic() >= deadline
        try:
            versions = client.status(timeout=_ATTEMPT_SECONDS)
            break
        except RetrievalError as error:
            if error.code not in _NOT_YET or is_last:
                raise
        if not waiting:
            screen.console.print(f"Waiting for a server at {client.target}, {seconds:g} s at most (--wait) ...")
            waiting = True
        time.sleep(_POLL_SECONDS)
    if highest_available(versions) is None:
        client.wait_until_available(max(deadline - time.monotonic(), _ATTEMPT_SECONDS))


def unknown_model(target: str, name: str, guesses: Iterable[str], **options) -> UserError:
    """Returns the error for a name that a server does not know, with those of `guesses` that it does.

    TF Serving has no call that lists its models, so the names that are known here are tried one by one.

    Args:
        target: address of the server.
        name: that it does not know.
        guesses: names it may have.
        options: of `RetrievalClient`.
    """
    tried = sorted(set(guesses) - {name})[:_MOST_NAMES]
    served = [guess for guess in tried if _is_served(target, guess, options)]
    found = f"it has {', '.join(served)}" if served else f"nor does it have {', '.join(tried)}; ask who started it"
    return UserError(f"Expected --model-name to be a model that {target} serves, it has none called {name!r}: {found}.")


def other_bundle(target: str, run: Path, difference: str, newest: bool) -> UserError:
    """Returns the error for a server that serves another bundle than that of a run.

    Args:
        target: address of the server.
        run: whose items and clusters the screen would show.
        difference: from the bundle of the run, as a clause about the server.
        newest: the run was not named, but taken as the newest.
    """
    taken = f" Without --run the newest run is taken, {run}." if newest else ""
    return UserError(
        f"Expected a server of {run / stations.EXPORT.folder} at {target}, but {difference}: start it on this bundle, "
        f"or name its run with --run.{taken}"
    )


def _is_served(target: str, name: str, options: dict) -> bool:
    with RetrievalClient(target, name, **options) as client:
        try:
            client.status()
        except RetrievalError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                return False
            raise
        return True
