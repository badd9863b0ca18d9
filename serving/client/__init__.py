"""Clients of a tfdnc bundle, blocking and asyncio, for the embedded server or any tensorflow_model_server.

Importing this imports TensorFlow (about 3 s): the TF Serving stubs need `tensorflow.core.framework`, and Python
imports the whole package on the way there. A face that must start fast imports this module late.
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
