"""TLS for gRPC, configured by TF Serving's SSLConfig: keys and certificates as PEM in a text file."""

from pathlib import Path

import grpc

from serving import text_proto
from tfdnc.contracts.errors import UserError

SSLConfig = text_proto.define(
    "SSLConfig",
    {
        "server_key": text_proto.FieldType.TYPE_STRING,
        "server_cert": text_proto.FieldType.TYPE_STRING,
        "custom_ca": text_proto.FieldType.TYPE_STRING,
        "client_verify": text_proto.FieldType.TYPE_BOOL,
    },
)
"""`tensorflow.serving.SSLConfig`, which the API package does not ship."""


def server_credentials(ssl_config_file: Path) -> grpc.ServerCredentials:
    """Returns the credentials of a server; with `client_verify` it asks clients for a certificate of `custom_ca`.

    Raises:
        UserError: The file cannot be read, or lacks a key or a certificate.
    """
    config = text_proto.read(ssl_config_file, SSLConfig())
    missing = [name for name in ("server_key", "server_cert") if not getattr(config, name)]
    if config.client_verify and not config.custom_ca:
        missing.append("custom_ca")
    if missing:
        raise UserError(f"Expected {' and '.join(missing)} as PEM in {ssl_config_file}, found none. Add it.")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
