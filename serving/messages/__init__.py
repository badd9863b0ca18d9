"""Messages between a client and a tfdnc bundle: requests from arguments, and results from responses."""

from serving.messages.answers import (
    Encoding,
    ForeignModelError,
    Retrieval,
    read_cluster_names,
    read_encoding,
    read_known_conditions,
    read_retrievals,
    read_versioned,
)
from serving.messages.inputs import history_array, tensor_of
from serving.messages.requests import (
    declared_rows,
    describe_request,
    describe_rules_request,
    encode_request,
    key_of,
    known_arguments,
    retrieve_request,
    search_request,
)

__all__ = [
    "Encoding",
    "ForeignModelError",
    "Retrieval",
    "declared_rows",
    "describe_request",
    "describe_rules_request",
    "encode_request",
    "history_array",
    "key_of",
    "known_arguments",
    "read_cluster_names",
    "read_encoding",
    "read_known_conditions",
    "read_retrievals",
    "read_versioned",
    "retrieve_request",
    "search_request",
    "tensor_of",
]
