"""Connection of a client to its server: encryption, retries, and the gRPC channel arguments for them."""

import dataclasses
import ipaddress
import json
import os
import re
from pathlib import Path
from typing import Any

import grpc

from tfdnc.contracts.errors import UserError

_MOST_ATTEMPTS = 5
"""Limit of gRPC."""

_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXEMPT_VARIABLES = ("no_grpc_proxy", "no_proxy")
"""Environment variables that gRPC reads, in this order; it ignores those in capital letters."""

_RETRY_BUFFER_BYTES = 64 << 20
"""Size above which gRPC does not retry a request; its own default is 256 KB, about 100 users."""


@dataclasses.dataclass(frozen=True)
class Tls:
    """Files (PEM) of an encrypted connection.

    Attributes:
        root_certificates: Trusted root certificates; None for those of gRPC.
        client_key: Key of the client with its `client_certificate`, for servers that verify clients (`client_verify`).
        client_certificate: See `client_key`.
    """

    root_certificates: Path | None = None
    client_key: Path | None = None
    client_certificate: Path | None = None

    def __post_init__(self) -> None:
        if (self.client_key is None) != (self.client_certificate is None):
            raise UserError("Expected a client key and its certificate, got one of them. Give both, or neither.")

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns the credentials for gRPC, read from the files.

        Raises:
            UserError: One of them cannot be read.
        """
        files = (self.root_certificates, self.client_key, self.client_certificate)
        return grpc.ssl_channel_credentials(*(path if path is None else _read(path) for path in files))


@dataclasses.dataclass(frozen=True)
class Retry:
    """Retry policy for a server that is UNAVAILABLE; every other status code is final.

    gRPC retries within the deadline of the call. It waits `initial` seconds, then `multiplier` times longer after every
    attempt, at most `maximum`. It varies each pause by 20 %, so that clients do not retry at the same time. A server
    may ask for another pause, or for none (`grpc-retry-pushback-ms`).

    Attributes:
        attempts: Attempts in all, 1 (no retry) to 5.
        initial: Seconds before the second attempt.
        multiplier: Growth of the pause.
        maximum: Longest pause in seconds.
    """

    attempts: int = _MOST_ATTEMPTS
    initial: float = 0.1
    multiplier: float = 2.0
    maximum: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= _MOST_ATTEMPTS:
            raise ValueError(f"Expected 1 to {_MOST_ATTEMPTS} attempts, got {self.attempts}.")
        if min(self.initial, self.multiplier, self.maximum) <= 0:
            raise ValueError(f"Expected pauses and multiplier above 0, got {self}.")

    def arguments(self) -> dict[str, Any]:
        """Returns the channel arguments for this policy."""
        if self.attempts == 1:
            return {}
        policy = {
            "maxAttempts": self.attempts,
            "initialBackoff": f"{self.initial:.9f}s",
            "backoffMultiplier": self.multiplier,
            "maxBackoff": f"{self.maximum:.9f}s",
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        return {
            "grpc.service_config": json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]}),
            "grpc.per_rpc_retry_buffer_size": _RETRY_BUFFER_BYTES,
            # By default gRPC reconnects after 1 s to 2 min; attempts before that would fail without being sent.
            "grpc.initial_reconnect_backoff_ms": max(int(1000 * self.initial), 1),
            "grpc.max_reconnect_backoff_ms": max(int(1000 * self.maximum), 1),
        }


def connect(transport: Any, target: str, tls: Tls | None, retry: Retry, options: dict[str, Any]) -> Any:
    """Returns a channel of `transport` (`grpc` or `grpc.aio`) to `target`; `options` win over the defaults.

    Connections to this machine use no proxy. For other machines gRPC uses the proxy of the environment.

    Raises:
        UserError: A file of `tls` cannot be read.
    """
    direct = {"grpc.enable_http_proxy": 0} if _is_this_machine(target) else {}
    arguments = list(({"grpc.max_receive_message_length": -1} | direct | retry.arguments() | options).items())
    if tls is None:
        return transport.insecure_channel(target, arguments)
    return transport.secure_channel(target, tls.credentials(), arguments)


def proxy_variable(target: str) -> str | None:
    """Returns the environment variable with the proxy that gRPC uses for `target`; None for a direct connection."""
    if target.startswith("unix:") or _is_this_machine(target):
        return None
    exempt = next(filter(None, map(os.environ.get, _EXEMPT_VARIABLES)), "")
    names = filter(None, map(str.strip, exempt.split(",")))
    if any(_host(target).endswith(name) for name in names):
        return None
    return next(filter(os.environ.get, _PROXY_VARIABLES), None)


def _is_this_machine(target: str) -> bool:
    host = _host(target)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost" or host.endswith(".localhost")


def _host(target: str) -> str:
    """Returns the host, such as `127.0.0.1` of `127.0.0.1:8500` or `::1` of `dns:///[::1]:8500`."""
    address = re.sub(r"^(dns:(//[^/]*/)?|ipv[46]:)", "", target)
    bracketed = re.match(r"\[(.*)\]", address)
    if bracketed:
        return bracketed.group(1)
    return address.rpartition(":")[0] if address.count(":") == 1 else address


def _read(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"Expected a PEM file at {path} ({error.strerror}). Check the path.") from error
