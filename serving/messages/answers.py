"""Responses of a tfdnc bundle, decoded into results by the declarations of its signatures."""

import dataclasses

import numpy as np
from tensorflow_serving.apis import predict_pb2

from serving import tensors
from tfdnc.contracts import bundle


@dataclasses.dataclass(frozen=True, eq=False)
class Retrieval:
    """Results of one user, best first; n is the number of results.

    Attributes:
        item_ids: [n] raw item ids.
        scores: float32 [n] merge keys, never increasing.
        cluster_ids: int32 [n] cluster of each item.
        quotas: int32 [K] results per cluster.
        intent: float32 [K] probability that the next item is in the cluster.
    """

    item_ids: list[str]
    scores: np.ndarray
    cluster_ids: np.ndarray
    quotas: np.ndarray
    intent: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Encoding:
    """Encoded users of one request.

    Attributes:
        user_embeddings: float32 [B, V, D].
        intent: float32 [B, K] probabilities.
    """

    user_embeddings: np.ndarray
    intent: np.ndarray


class ForeignModelError(ValueError):
    """An answer without an output that every tfdnc bundle has, so the model is of another kind."""


def read_retrievals(response: predict_pb2.PredictResponse) -> list[Retrieval]:
    """Returns the results of a retrieve response, one per history.

    Raises:
        ForeignModelError: An output is missing.
    """
    outputs = _outputs(response, "retrieve")
    results = []
    for row, count in enumerate(outputs[bundle.NUM_RESULTS].tolist()):
        results.append(
            Retrieval(
                item_ids=[item.decode() for item in outputs[bundle.ITEM_IDS][row, :count].tolist()],
                scores=outputs[bundle.SCORES][row, :count],
                cluster_ids=outputs[bundle.CLUSTER_IDS][row, :count],
                quotas=outputs[bundle.QUOTAS][row],
                intent=outputs[bundle.INTENT][row],
            )
        )
    return results


def read_versioned(response: predict_pb2.PredictResponse) -> tuple[int, list[Retrieval]]:
    """Returns the version that answered, and the results as `read_retrievals`."""
    return response.model_spec.version.value, read_retrievals(response)


def read_cluster_names(response: predict_pb2.PredictResponse) -> tuple[int, list[str]]:
    """Returns the version that answered, and the names of its clusters in order of their numbers.

    Raises:
        ForeignModelError: An output is missing.
    """
    names = _outputs(response, "describe")[bundle.CLUSTER_NAMES][0]
    return response.model_spec.version.value, [name.decode() for name in names.tolist()]


def read_known_conditions(response: predict_pb2.PredictResponse) -> list[str]:
    """Returns the conditions that a bundle with attributes knows.

    Raises:
        ForeignModelError: An output is missing.
    """
    known = _outputs(response, "describe_rules")[bundle.KNOWN_CONDITIONS][0]
    return [condition.decode() for condition in known.tolist()]


def read_encoding(response: predict_pb2.PredictResponse) -> Encoding:
    """Returns the results of an encode response.

    Raises:
        ForeignModelError: An output is missing.
    """
    outputs = _outputs(response, "encode")
    return Encoding(outputs[bundle.USER_EMBEDDINGS], outputs[bundle.INTENT])


def _outputs(response: predict_pb2.PredictResponse, signature: str) -> dict[str, np.ndarray]:
    wanted = bundle.signature(signature).output_names
    missing = [name for name in wanted if name not in response.outputs]
    if missing:
        raise ForeignModelError(
            f"Expected the outputs of a tfdnc bundle, found {sorted(response.outputs)} without {missing}. "
            "Ask for the model by the name it is served under."
        )
    return {name: tensors.decode(response.outputs[name]) for name in wanted}
