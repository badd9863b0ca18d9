"""Addresses of listeners: their text, and the error for one that cannot be bound."""

from collections.abc import Callable

from tfdnc.contracts.errors import UserError


def join(host: str, port: int) -> str:
    """Returns `host:port`, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(bind: Callable[[str], int], address: str) -> int:
    """Binds an address with a method of gRPC, and returns the port.

    Raises:
        UserError: The system refused.
    """
    try:
        bound = bind(address)
    except RuntimeError as error:
        raise _cannot_listen(address) from error
    if not bound:  # how grpcio before 1.60 reports it
        raise _cannot_listen(address)
    return bound


def _cannot_listen(address: str) -> UserError:
    return UserError(
        f"Expected to listen on {address}, the system refused. Stop what uses the address, choose another one, "
        "let port 0 pick a free one, or check the key and the certificate if there are any."
    )
