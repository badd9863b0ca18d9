"""Clients of a tfdnc bundle, blocking and asyncio, for the embedded server or any tensorflow_model_server.

Importing this package imports TensorFlow (about 3 s), because the TF Serving stubs need `tensorflow.core.framework`.
A program that must start fast imports it late.
"""

from serving.client.answers import RetrievalError, Signature, Tensor, VersionStatus
from serving.client.asynchronous import AsyncRetrievalClient
from serving.client.base import DEFAULT_TARGET, DEFAULT_TIMEOUT
from serving.client.blocking import RetrievalClient
from serving.client.connection import Retry, Tls
from serving.messages import Encoding, Retrieval

__all__ = [
    "DEFAULT_TARGET",
    "DEFAULT_TIMEOUT",
    "AsyncRetrievalClient",
    "Encoding",
    "Retrieval",
    "RetrievalClient",
    "RetrievalError",
    "Retry",
    "Signature",
    "Tensor",
    "Tls",
    "VersionStatus",
]
