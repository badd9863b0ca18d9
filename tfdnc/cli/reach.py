"""Connection to the server of a query: waits for its start, and explains one that has another model."""

import time
from collections.abc import Iterable
from pathlib import Path

import grpc

from serving.client import RetrievalClient, RetrievalError, Tls
from serving.client.answers import highest_available
from tfdnc.cli import screen
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline import stations

_POLL_SECONDS = 0.2
_ATTEMPT_SECONDS = 5.0
_MOST_NAMES = 50

_NOT_YET = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def await_model(client: RetrievalClient, seconds: float) -> None:
    """Waits until the server has an available version of the model, and prints a line if that takes time.

    Raises:
        RetrievalError: no version within `seconds`, or an error that does not pass, such as NOT_FOUND.
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


def unknown_model(target: str, name: str, guesses: Iterable[str], tls: Tls | None = None) -> UserError:
    """Returns the error for a name that a server does not know, with those of `guesses` that it serves.

    TF Serving has no call that lists its models, so the guesses are tried one by one.

    Args:
        target: address of the server.
        name: the unknown name.
        guesses: names that it may serve.
        tls: encryption of the connection.
    """
    tried = sorted(set(guesses) - {name})[:_MOST_NAMES]
    served = [guess for guess in tried if _is_served(target, guess, tls)]
    found = f"it has {', '.join(served)}" if served else f"nor does it have {', '.join(tried)}; ask who started it"
    return UserError(f"Expected --model-name to be a model that {target} serves, it has none called {name!r}: {found}.")


def other_bundle(target: str, run: Path, difference: str, newest: bool) -> UserError:
    """Returns the error for a server that serves another bundle than that of a run.

    Args:
        target: address of the server.
        run: run with the items and clusters for the screen.
        difference: difference from the bundle of the run, as a clause about the server.
        newest: True if the run was taken as the newest one, without `--run`.
    """
    taken = f" Without --run the newest run is taken, {run}." if newest else ""
    return UserError(
        f"Expected a server of {run / stations.EXPORT.folder} at {target}, but {difference}: start it on this bundle, "
        f"or name its run with --run.{taken}"
    )


def _is_served(target: str, name: str, tls: Tls | None) -> bool:
    with RetrievalClient(target, name, tls=tls) as client:
        try:
            client.status()
        except RetrievalError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                return False
            raise
        return True
