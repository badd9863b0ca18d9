"""A bundle in this process: the arguments and answers of the client, without a server and without a port."""

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import predict_pb2

from serving.arguments import ClusterNumbers, Features, NumberRows, Numbers, TextRows, WholeNumbers, Words
from serving.bundles import bundle
from serving.bundles.verify import check_manifest
from serving.client import answers
from serving.client.base import Deadline
from serving.client.blocking import RetrievalClient
from serving.client.clusters import NamedLimits, NamedNumbers
from serving.messages import Encoding, Retrieval
from serving.messages.rules import AllowedRows, Rules
from serving.predict import predict
from serving.servable import Servable
from serving.status import status_of
from tfdnc.contracts.bundle import MODEL_NAME, Row
from tfdnc.contracts.schema import UNKNOWN_TIME


def load_bundle(path: str | PathLike[str]) -> "Bundle":
    """Returns a bundle, loaded into this process.

    Args:
        path: Folder of a version, or folder with numbered versions, such as `runs/mine/bundle`, for the latest one.

    Raises:
        UserError: No version of a tfdnc bundle exists there, or it cannot be loaded here.
    """
    versions = bundle.find_versions(Path(path))
    version = max(versions)
    manifest = check_manifest(versions[version])
    return Bundle(Servable.load(MODEL_NAME, version, versions[version]), manifest)


class Bundle:
    """A loaded version of a bundle; safe to share between threads, and a context manager that frees it.

    Args:
        servable: The version.
        manifest: Manifest of the export: config, metrics, library versions, names of the clusters.
    """

    def __init__(self, servable: Servable, manifest: dict[str, Any]) -> None:
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
        """Frees the bundle; no request may follow."""
        self._client.close()

    def cluster_names(self) -> list[str]:
        """Returns the names of the clusters; `Retrieval.cluster_ids` holds indices into this list."""
        return self._client.cluster_names()

    def known_conditions(self) -> list[str]:
        """Returns the conditions that `where` may have, such as `in_stock=true`."""
        return self._client.known_conditions()

    def retrieve(
        self,
        histories: TextRows,
        num_candidates: WholeNumbers | None = None,
        alpha: Numbers | None = None,
        *,
        times: NumberRows | None = None,
        request_time: WholeNumbers = UNKNOWN_TIME,
        features: Features | None = None,
        joint_alpha: Numbers | None = None,
        exclude: TextRows | None = None,
        cluster_quotas: ClusterNumbers | None = None,
        cluster_min: ClusterNumbers | None = None,
        cluster_max: ClusterNumbers | None = None,
        seen: Words | None = None,
        minimum: NamedLimits | None = None,
        maximum: NamedLimits | None = None,
        quotas: NamedNumbers | None = None,
        where: Rules | None = None,
        forbid: Rules | None = None,
        allow: AllowedRows | None = None,
    ) -> list[Retrieval]:
        """Returns candidates for every history; arguments, answers and errors are those of `RetrievalClient.retrieve`.

        Args:
            histories: [B] sequences of raw item ids, oldest first. Unknown ids carry no signal, none is a cold start.
            num_candidates: Results wanted, for all users or one number each; None leaves it to the bundle.
            alpha: Exponent of the quota merge, for all users or one number each; None asks for the bundle's own merge.
            times: [B] sequences, the time of each item of the history, for a model that reads times.
            request_time: Time of the request, for all users or one number each, with `times`.
            features: Other inputs that the model reads, by name: of events [B] sequences with a value for each item of
                the history, of requests and users one value for all, or [B].
            joint_alpha: Instead of `alpha`, the exponent of p(cluster) in the joint merge.
            exclude: [B] sequences of item ids that the list must not hold.
            cluster_quotas: [K] for all users or [B, K] weights by which the clusters share the list.
            cluster_min: [K] or [B, K], least results of each cluster.
            cluster_max: [K] or [B, K], most results of each cluster; negative for no bound.
            seen: "allow" or "exclude" items of the history; None asks for the bundle's own rule.
            minimum: Least results of clusters by name, and of values of attributes by column, such as
                `{"Comedy": 0.2, "country": {"local": 10}}`: a count, or a float as a share of the list. One dict for
                all users, or [B] of them.
            maximum: Most results, likewise; `{"brand": {"*": 3}}` is for each brand without a maximum of its own.
            quotas: Weights of clusters by name, likewise.
            where: Rule that every result meets, such as `{"in_stock": True, "price": (None, 20)}`.
            forbid: Values that no result has, likewise.
            allow: [B] sequences of the only item ids that may come back; None for a user of whom all may.

        Returns:
            [B] results.

        Raises:
            ValueError: Arguments that no bundle could answer.
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
            seen=seen,
            minimum=minimum,
            maximum=maximum,
            quotas=quotas,
            where=where,
            forbid=forbid,
            allow=allow,
        )

    def encode(
        self,
        histories: TextRows,
        *,
        times: NumberRows | None = None,
        request_time: WholeNumbers = UNKNOWN_TIME,
        features: Features | None = None,
    ) -> Encoding:
        """Returns user embeddings `[B, V, D]` and intents `[B, K]` of B histories; arguments as those of `retrieve`.

        Raises:
            ValueError: No history, or one that is no sequence of text.
            RetrievalError: See `retrieve`.
        """
        return self._client.encode(histories, times=times, request_time=request_time, features=features)


class _Client(RetrievalClient):
    """The client with a channel to a servable in this process, without a time limit."""

    def __init__(self, servable: Servable) -> None:
        self._transport = _Transport(servable)
        super().__init__(str(servable.path), servable.name, timeout=math.inf)
        self._signatures = answers.signatures_of(servable.signatures)

    def _inputs(self, features: Features | None, deadline: Deadline) -> Sequence[Row] | None:
        """See `RetrievalClient`; a bundle in this process needs no request for them."""
        del deadline
        return None if features is None else answers.declared_inputs(self._signatures)


class _Transport:
    """Replacement of the module `grpc` for the base class."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    def insecure_channel(self, target: str, options: object) -> "_Channel":
        """Returns the channel to the servable; it has no network, so it needs neither target nor options."""
        del target, options
        return _Channel(self._servable)


class _Channel:
    """A channel for Predict, the only method that a bundle is asked by."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    def unary_unary(self, method: str, *serializers: object, **more: object) -> "_Predict":
        """Returns the method; messages are not serialized."""
        del method, serializers, more
        return _Predict(self._servable)

    def close(self) -> None:
        """Frees the servable."""
        self._servable.close()


class _Predict:
    """The method Predict of a stub."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    def __call__(self, request: predict_pb2.PredictRequest, **beside: object) -> predict_pb2.PredictResponse:
        """Answers a request; deadline and headers have no effect."""
        del beside
        try:
            return predict(self._servable, request)
        except Exception as error:  # as the server does
            raise _Refusal(*status_of(error)) from error

    def future(self, request: predict_pb2.PredictRequest, **beside: object) -> "_Answer":
        """Returns an answer that is computed when the client receives it."""
        return _Answer(self, request)


class _Answer:
    """An answer that is computed on demand, in the role of `grpc.Future`."""

    def __init__(self, method: _Predict, request: predict_pb2.PredictRequest) -> None:
        self._method, self._request = method, request

    def result(self) -> predict_pb2.PredictResponse:
        """Returns the answer; raises the errors of the method."""
        return self._method(self._request)

    def cancel(self) -> None:
        """Does nothing: the answer is not computed without `result`."""


class _Refusal(grpc.RpcError):
    """A refused request, as an error of gRPC."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        """Status code."""
        return self._code

    def details(self) -> str:
        """Message of the bundle."""
        return self._details
