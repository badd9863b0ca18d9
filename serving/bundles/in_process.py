"""A bundle in this process: the arguments and answers of the client, without a server and without a port."""

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import predict_pb2

from serving.arguments import ClusterNumbers, EventFeatures, NumberRows, Numbers, TextRows, WholeNumbers
from serving.bundles import bundle
from serving.bundles.verify import check_manifest
from serving.client.blocking import RetrievalClient
from serving.messages import Encoding, Retrieval
from serving.predict import predict
from serving.servable import Servable
from serving.status import status_of
from tfdnc.contracts import bundle as contract
from tfdnc.contracts import schema

Wish = Mapping[str | int, float]
"""Name or number of a cluster -> a count of results, or a share of the list."""


def load_bundle(path: str | PathLike[str]) -> "Bundle":
    """Returns a bundle, loaded into this process.

    Args:
        path: Folder with numbered versions, such as `runs/mine/bundle`, of which the latest is taken; or of a version.

    Raises:
        UserError: There is no version of a tfdnc bundle, or it cannot be loaded here.
    """
    versions = bundle.find_versions(Path(path))
    version = max(versions)
    manifest = check_manifest(versions[version])
    return Bundle(Servable.load(contract.MODEL_NAME, version, versions[version]), manifest)


class Bundle:
    """A loaded version of a bundle; safe to share between threads, and a context manager that frees it.

    Args:
        servable: The version.
        manifest: The notes of its export: config, metrics, library versions, names of the clusters.
    """

    def __init__(self, servable: Servable, manifest: dict[str, Any]):
        self.manifest = manifest
        self._servable = servable
        self._client = _Client(servable)

    @property
    def version(self) -> int:
        """Number of the version."""
        return self._servable.version

    @property
    def path(self) -> Path:
        """Folder of the version."""
        return self._servable.path

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r})"

    def __enter__(self) -> "Bundle":
        """Returns the bundle itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Frees the bundle."""
        self.close()

    def close(self) -> None:
        """Frees the bundle; no request may come after."""
        self._client.close()

    def cluster_names(self) -> list[str]:
        """Returns the names of the clusters: the one at place k belongs to the number k in `Retrieval.cluster_ids`."""
        return self._client.cluster_names()

    def retrieve(
        self,
        histories: TextRows,
        num_candidates: WholeNumbers | None = None,
        alpha: Numbers | None = None,
        *,
        times: NumberRows | None = None,
        request_time: WholeNumbers = schema.UNKNOWN_TIME,
        features: EventFeatures | None = None,
        joint_alpha: Numbers | None = None,
        exclude: TextRows | None = None,
        cluster_quotas: ClusterNumbers | None = None,
        cluster_min: ClusterNumbers | None = None,
        cluster_max: ClusterNumbers | None = None,
        minimum: Wish | Sequence[Wish] | None = None,
        maximum: Wish | Sequence[Wish] | None = None,
        quotas: Wish | Sequence[Wish] | None = None,
    ) -> list[Retrieval]:
        """Returns candidates for every history; arguments, answers and errors are those of `RetrievalClient.retrieve`.

        Args:
            histories: [B] sequences of raw item ids, oldest first. Unknown ids carry no signal, none is a cold start.
            num_candidates: Results wanted, for all users or one number each; None leaves it to the bundle.
            alpha: Exponent of the quota merge, for all users or one number each; None asks for the bundle's own merge.
            times: [B] sequences, when each item of the history was, for a model that reads times.
            request_time: When the candidates are asked for, for all users or one number each, with `times`.
            features: Other inputs of events that the model reads, by name, such as `{"dwell": [[3.5, None]]}`.
            joint_alpha: Instead of `alpha`, the exponent of p(cluster) in the joint merge.
            exclude: [B] sequences of item ids that must not come back.
            cluster_quotas: [K] for all users or [B, K] weights by which the clusters share the list.
            cluster_min: [K] or [B, K], least results of each cluster.
            cluster_max: [K] or [B, K], most results of each cluster; negative for no bound.
            minimum: Least results of clusters by name, such as `{"Comedy": 0.2}`: a count, or a float as a share of the
                list. One dict for all users, or [B] of them.
            maximum: Most results of clusters by name, likewise.
            quotas: Weights of clusters by name, likewise.

        Returns:
            [B] results.

        Raises:
            ValueError: Arguments that say nothing a bundle could answer.
            RetrievalError: The bundle refused a request; its `rows` are the histories that it carried.
        """
        return self._client.retrieve(
            histories,
            num_candidates,
            alpha,
            times=times,
            request_time=request_time,
            features=features,
            joint_alpha=joint_alpha,
            exclude=exclude,
            cluster_quotas=cluster_quotas,
            cluster_min=cluster_min,
            cluster_max=cluster_max,
            minimum=minimum,
            maximum=maximum,
            quotas=quotas,
        )

    def encode(
        self,
        histories: TextRows,
        *,
        times: NumberRows | None = None,
        request_time: WholeNumbers = schema.UNKNOWN_TIME,
        features: EventFeatures | None = None,
    ) -> Encoding:
        """Returns user embeddings `[B, V, D]` and intents `[B, K]` of B histories, B at least 1; inputs as `retrieve`.

        Raises:
            ValueError: No history, or one that is no sequence of text.
            RetrievalError: See `retrieve`.
        """
        return self._client.encode(histories, times=times, request_time=request_time, features=features)


class _Client(RetrievalClient):
    """The client over a channel that ends in this process, without a time limit."""

    def __init__(self, servable: Servable):
        self._transport = _Transport(servable)
        super().__init__(str(servable.path), servable.name, timeout=math.inf)


class _Transport:
    """Stands in the place of the module `grpc`."""

    def __init__(self, servable: Servable):
        self._servable = servable

    def insecure_channel(self, target: str, options: object) -> "_Channel":
        """Returns the channel to the servable; the others are no network."""
        del target, options
        return _Channel(self._servable)


class _Channel:
    """A channel that carries Predict; nothing else is asked of a bundle."""

    def __init__(self, servable: Servable):
        self._servable = servable

    def unary_unary(self, method: str, *serializers: object, **more: object) -> "_Predict":
        """Returns the method; messages go as they are."""
        del method, serializers, more
        return _Predict(self._servable)

    def close(self) -> None:
        """Frees the servable."""
        self._servable.close()


class _Predict:
    """The method Predict of a stub."""

    def __init__(self, servable: Servable):
        self._servable = servable

    def __call__(self, request: predict_pb2.PredictRequest, **beside: object) -> predict_pb2.PredictResponse:
        """Answers a request; neither deadline nor headers mean anything here."""
        del beside
        try:
            return predict(self._servable, request)
        except Exception as error:  # as the server does, which also logs what is a bug
            raise _Refusal(*status_of(error)) from error

    def future(self, request: predict_pb2.PredictRequest, **beside: object) -> "_Answer":
        """Answers one of several requests of a call, when its turn to be received comes."""
        return _Answer(self, request)


class _Answer:
    """An answer that is made when it is wanted."""

    def __init__(self, method: _Predict, request: predict_pb2.PredictRequest):
        self._method, self._request = method, request

    def result(self) -> predict_pb2.PredictResponse:
        """Returns the answer; raises as the method."""
        return self._method(self._request)

    def cancel(self) -> None:
        """Leaves the answer unmade."""


class _Refusal(grpc.RpcError):
    """A refused request, as gRPC tells it."""

    def __init__(self, code: grpc.StatusCode, details: str):
        super().__init__(details)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        """The status."""
        return self._code

    def details(self) -> str:
        """The words of the bundle."""
        return self._details
