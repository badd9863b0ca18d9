"""The asyncio client: the methods of the blocking client as coroutines."""

import asyncio
import collections
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import grpc.aio

from serving import messages
from serving.arguments import ClusterNumbers, Features, NumberRows, Numbers, TextRows, WholeNumbers, Words
from serving.client import answers, batches, clusters
from serving.client.answers import RetrievalError, Signature, VersionStatus
from serving.client.base import POLL_SECONDS, UNSEEN, Client, Deadline
from serving.client.batches import Part, Read
from serving.client.clusters import Named, NamedLimits, NamedNumbers
from serving.messages import Encoding, Retrieval
from serving.messages.rules import AllowedRows, Rules
from tfdnc.contracts.bundle import Row
from tfdnc.contracts.schema import UNKNOWN_TIME


class AsyncRetrievalClient(Client):
    """A connection to a server for the tasks of one event loop, and an async context manager that closes it.

    Make it while the loop runs. A task that is cancelled cancels its requests. `base.Client` documents the arguments
    of the client, `RetrievalClient` the methods.
    """

    _transport = grpc.aio

    def _check_thread(self) -> None:
        asyncio.get_running_loop()  # without one, gRPC would use an event loop that never runs

    async def __aenter__(self) -> "AsyncRetrievalClient":
        """Returns the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connection."""
        await self.close()

    async def close(self) -> None:
        """Closes the connection; requests under way are cancelled."""
        await self._channel.close()

    async def retrieve(
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
        timeout: float | None = None,
    ) -> list[Retrieval]:
        """Returns candidates for every history; see `RetrievalClient.retrieve`."""
        deadline = self._deadline(timeout)
        asked = {
            "histories": histories,
            "num_candidates": num_candidates,
            "alpha": alpha,
            "times": times,
            "request_time": request_time,
            "features": features,
            "declared": await self._inputs(features, deadline),
            "joint_alpha": joint_alpha,
            "exclude": exclude,
            "cluster_quotas": cluster_quotas,
            "cluster_min": cluster_min,
            "cluster_max": cluster_max,
            "where": where,
            "forbid": forbid,
            "allow": allow,
            "seen": seen,
        }
        named = clusters.given(asked, minimum, maximum, quotas)
        if named:
            return await self._retrieve_by_name(named, asked, deadline)
        answered = await self._predict(self._retrievals(asked), messages.read_retrievals, deadline)
        return [result for results in answered for result in results]

    async def encode(
        self,
        histories: TextRows,
        *,
        times: NumberRows | None = None,
        request_time: WholeNumbers = UNKNOWN_TIME,
        features: Features | None = None,
        timeout: float | None = None,
    ) -> Encoding:
        """Returns user embeddings and intents; see `RetrievalClient.encode`."""
        deadline = self._deadline(timeout)
        declared = await self._inputs(features, deadline)
        parts = self._encodings(histories, times, request_time, features, declared)
        return batches.join_encodings(await self._predict(parts, messages.read_encoding, deadline))

    async def cluster_names(self, *, timeout: float | None = None) -> list[str]:
        """Returns the names of the clusters; see `RetrievalClient.cluster_names`."""
        return (await self._describe(self._deadline(timeout)))[1]

    async def known_conditions(self, *, timeout: float | None = None) -> list[str]:
        """Returns the conditions that `where` may have; see `RetrievalClient.known_conditions`."""
        deadline = self._deadline(timeout)
        [known] = await self._predict(self._rules_description(), messages.read_known_conditions, deadline)
        return known

    async def metadata(self, *, timeout: float | None = None) -> dict[str, Signature]:
        """Returns the signatures of the model by name; see `RetrievalClient.metadata`."""
        deadline = self._deadline(timeout)
        response = await self._call(self._prediction.GetModelMetadata, self._metadata_request(), deadline)
        return answers.read_signatures(response)

    async def status(self, *, timeout: float | None = None) -> list[VersionStatus]:
        """Returns the states of versions; see `RetrievalClient.status`."""
        deadline = self._deadline(timeout)
        return answers.read_status(await self._call(self._model.GetModelStatus, self._status_request(), deadline))

    async def wait_until_available(self, timeout: float = 60.0) -> int:
        """Waits for a version and returns its number; see `RetrievalClient.wait_until_available`."""
        deadline, seen = time.monotonic() + timeout, UNSEEN
        while (left := deadline - time.monotonic()) > 0:
            try:
                versions = await self.status(timeout=left)
            except RetrievalError as error:
                self._check_passing(error)
                seen = seen if error.code is grpc.StatusCode.DEADLINE_EXCEEDED else f"the answer was {error.said!r}"
            else:
                if (version := answers.highest_available(versions)) is not None:
                    return version
                seen = ", ".join(map(str, versions))
            await asyncio.sleep(min(POLL_SECONDS, left))
        raise self._not_available(timeout, seen)

    async def _inputs(self, features: Features | None, deadline: Deadline) -> Sequence[Row] | None:
        """Returns the declared inputs of the model, asked for once; None where a call has no `features`."""
        if features is not None and self._declared is None:
            response = await self._call(self._prediction.GetModelMetadata, self._metadata_request(), deadline)
            self._declared = answers.declared_inputs(answers.read_signatures(response))
        return None if features is None else self._declared

    async def _retrieve_by_name(self, named: Named, asked: dict[str, Any], deadline: Deadline) -> list[Retrieval]:
        """Asks for the names of the clusters, then for lists; repeats both if another version made the lists."""
        controls, asked = self._repeatable(named, asked)
        if not asked["histories"]:
            return []
        for _ in range(clusters.ATTEMPTS):
            version, names = await self._describe(deadline)
            numbered = clusters.numbered(controls, names, asked["num_candidates"])
            parts = self._retrievals(asked | numbered)
            answered = await self._predict(parts, messages.read_versioned, deadline)
            if all(answering == version for answering, _ in answered):
                return [result for _, results in answered for result in results]
        raise self._unsettled()

    async def _describe(self, deadline: Deadline) -> tuple[int, list[str]]:
        try:
            [described] = await self._predict(self._description(), messages.read_cluster_names, deadline)
        except RetrievalError as error:
            raise self._nameless(error) from error
        return described

    async def _call(self, method: Callable[..., Any], request: Any, deadline: Deadline) -> Any:
        try:
            return await self._start(method, request, deadline)
        except grpc.RpcError as error:
            raise self._refused(error, deadline) from error

    async def _predict(self, parts: Iterator[Part], read: Callable[..., Read], deadline: Deadline) -> list[Read]:
        """Returns the results of `read` for the answers in order, with at most `max_in_flight` concurrent requests."""
        results: list[Read] = []
        under_way: collections.deque[tuple[Part, grpc.aio.UnaryUnaryCall]] = collections.deque()
        try:
            for part in parts:
                if len(under_way) == self._max_in_flight:
                    results.append(await self._receive(*under_way.popleft(), read, deadline))
                under_way.append((part, self._start(self._prediction.Predict, part.request, deadline)))
            while under_way:
                results.append(await self._receive(*under_way.popleft(), read, deadline))
        finally:
            for _, call in under_way:  # after a failure: their answers are not read
                call.cancel()
        return results

    async def _receive(
        self, part: Part, call: grpc.aio.UnaryUnaryCall, read: Callable[..., Read], deadline: Deadline
    ) -> Read:
        try:
            response = await call
        except grpc.RpcError as error:
            raise self._refused(error, deadline, part.concerned) from error
        return batches.read_part(part, response, read)
