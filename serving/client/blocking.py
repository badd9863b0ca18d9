"""The blocking client."""

import collections
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc

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


class RetrievalClient(Client):
    """A connection to a server; safe to share between threads, and a context manager that closes it.

    `base.Client` documents the arguments.
    """

    _transport = grpc

    def __enter__(self) -> "RetrievalClient":
        """Returns the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connection."""
        self.close()

    def close(self) -> None:
        """Closes the connection; requests under way are cancelled."""
        self._channel.close()

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
        timeout: float | None = None,
    ) -> list[Retrieval]:
        """Returns candidates for every history.

        Args:
            histories: [B] sequences of raw item ids, oldest first: lists, arrays, series, generators. Unknown ids
                carry no signal, none is a cold start.
            num_candidates: Results wanted, for all users or one number each; None leaves it to the bundle.
            alpha: Exponent of the quota merge (>= 0; 0 shares equally, larger follows the intent more), for all users
                or one number each; None asks for the bundle's own merge. Needs `num_candidates`.
            times: [B] sequences, the time of each item of the history, for a model that reads times. -1 is an unknown
                time, an empty sequence stands for a history of unknown times.
            request_time: Time of the request, for all users or one number each, with `times`.
            features: Other inputs that the model reads, by name. Of events: [B] sequences with a value for each item of
                the history, such as `{"dwell": [[3.5, None], [12]]}`; an empty one stands for a history of unknown
                values. `request_NAME` and `user_NAME`: one value for all histories, or [B]. None is an unknown value,
                as are inputs that are left out. The first such call asks the server for their types.
            joint_alpha: Instead of `alpha`, the exponent (>= 0) of p(cluster) in the joint merge.
            exclude: [B] sequences of item ids that the list must not hold; the model does not read them.
            cluster_quotas: [K] for all users or [B, K] weights by which the clusters share the list.
            cluster_min: [K] or [B, K], least results of each cluster.
            cluster_max: [K] or [B, K], most results of each cluster; negative for no bound.
            seen: "allow" for lists that may hold items of the history, "exclude" for lists without, for all users or
                one each; None, or "", asks for the bundle's own rule. Excluded items never come back.
            minimum: Least results of clusters by name, and of values of the bundle's attributes by column, such as
                `{"Comedy": 0.2, "country": {"local": 10}}`: a count, or a float as a share of the list. One dict for
                all users, or [B] of them. Every call with clusters first asks for their names.
            maximum: Most results, likewise; `{"brand": {"*": 3}}` is for each brand without a maximum of its own.
            quotas: Weights of clusters by name, likewise.
            where: Rule that every result meets, such as `{"in_stock": True, "brand": ["a", "b"], "price": (None, 20)}`:
                by column of the bundle's attributes a value, alternatives, or a range (least, most). Or conditions as
                text, `["in_stock=true"]`. One rule for all users, or [B]; the column `cluster` has names of clusters.
            forbid: Values that no result has, likewise, without ranges.
            allow: [B] sequences of the only item ids that may come back; None for a user of whom all may.
            timeout: Seconds for the whole call, instead of the client's.

        `messages.retrieve_request` documents the arguments by number further, `clusters.numbered` those by name.

        Returns:
            [B] results.

        Raises:
            ValueError: Arguments that no server could answer; nothing was sent.
            RetrievalError: A request was not answered; its `rows` are the histories that it carried.
        """
        deadline = self._deadline(timeout)
        asked = {
            "histories": histories,
            "num_candidates": num_candidates,
            "alpha": alpha,
            "times": times,
            "request_time": request_time,
            "features": features,
            "declared": self._inputs(features, deadline),
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
            return self._retrieve_by_name(named, asked, deadline)
        answered = self._predict(self._retrievals(asked), messages.read_retrievals, deadline)
        return [result for results in answered for result in results]

    def encode(
        self,
        histories: TextRows,
        *,
        times: NumberRows | None = None,
        request_time: WholeNumbers = UNKNOWN_TIME,
        features: Features | None = None,
        timeout: float | None = None,
    ) -> Encoding:
        """Returns user embeddings and intents of [B] histories, B at least 1; the inputs are those of `retrieve`.

        Raises:
            ValueError: No history, or one that is not a sequence of text.
            RetrievalError: See `retrieve`.
        """
        deadline = self._deadline(timeout)
        declared = self._inputs(features, deadline)
        parts = self._encodings(histories, times, request_time, features, declared)
        return batches.join_encodings(self._predict(parts, messages.read_encoding, deadline))

    def cluster_names(self, *, timeout: float | None = None) -> list[str]:
        """Returns the names of the clusters; `Retrieval.cluster_ids` holds indices into this list.

        Raises:
            RetrievalError: The request was not answered, or the model is an older bundle, which has no names.
        """
        return self._describe(self._deadline(timeout))[1]

    def known_conditions(self, *, timeout: float | None = None) -> list[str]:
        """Returns the conditions that `where` may have, such as `in_stock=true`, and the ends of columns of numbers.

        Raises:
            RetrievalError: The request was not answered, or the bundle has no attributes.
        """
        deadline = self._deadline(timeout)
        [known] = self._predict(self._rules_description(), messages.read_known_conditions, deadline)
        return known

    def metadata(self, *, timeout: float | None = None) -> dict[str, Signature]:
        """Returns the signatures of the model by name.

        Raises:
            RetrievalError: The request was not answered.
        """
        deadline = self._deadline(timeout)
        response = self._call(self._prediction.GetModelMetadata, self._metadata_request(), deadline)
        return answers.read_signatures(response)

    def status(self, *, timeout: float | None = None) -> list[VersionStatus]:
        """Returns the state of every version of the model, or of the one that this client asks.

        Raises:
            RetrievalError: The request was not answered.
        """
        deadline = self._deadline(timeout)
        return answers.read_status(self._call(self._model.GetModelStatus, self._status_request(), deadline))

    def wait_until_available(self, timeout: float = 60.0) -> int:
        """Waits for the server and the version that this client asks, or any; returns the highest available version.

        Raises:
            RetrievalError: DEADLINE_EXCEEDED after `timeout` seconds, or an error that does not pass.
        """
        deadline, seen = time.monotonic() + timeout, UNSEEN
        while (left := deadline - time.monotonic()) > 0:
            try:
                versions = self.status(timeout=left)
            except RetrievalError as error:
                self._check_passing(error)
                seen = seen if error.code is grpc.StatusCode.DEADLINE_EXCEEDED else f"the answer was {error.said!r}"
            else:
                if (version := answers.highest_available(versions)) is not None:
                    return version
                seen = ", ".join(map(str, versions))
            time.sleep(min(POLL_SECONDS, left))
        raise self._not_available(timeout, seen)

    def _inputs(self, features: Features | None, deadline: Deadline) -> Sequence[Row] | None:
        """Returns the declared inputs of the model, asked for once; None where a call has no `features`."""
        if features is not None and self._declared is None:
            response = self._call(self._prediction.GetModelMetadata, self._metadata_request(), deadline)
            self._declared = answers.declared_inputs(answers.read_signatures(response))
        return None if features is None else self._declared

    def _retrieve_by_name(self, named: Named, asked: dict[str, Any], deadline: Deadline) -> list[Retrieval]:
        """Asks for the names of the clusters, then for lists; repeats both if another version made the lists."""
        controls, asked = self._repeatable(named, asked)
        if not asked["histories"]:
            return []
        for _ in range(clusters.ATTEMPTS):
            version, names = self._describe(deadline)
            numbered = clusters.numbered(controls, names, asked["num_candidates"])
            parts = self._retrievals(asked | numbered)
            answered = self._predict(parts, messages.read_versioned, deadline)
            if all(answering == version for answering, _ in answered):
                return [result for _, results in answered for result in results]
        raise self._unsettled()

    def _describe(self, deadline: Deadline) -> tuple[int, list[str]]:
        try:
            [described] = self._predict(self._description(), messages.read_cluster_names, deadline)
        except RetrievalError as error:
            raise self._nameless(error) from error
        return described

    def _call(self, method: Callable[..., Any], request: Any, deadline: Deadline) -> Any:
        try:
            return self._start(method, request, deadline)
        except grpc.RpcError as error:
            raise self._refused(error, deadline) from error

    def _predict(self, parts: Iterator[Part], read: Callable[..., Read], deadline: Deadline) -> list[Read]:
        """Returns the results of `read` for the answers in order, with at most `max_in_flight` concurrent requests."""
        results: list[Read] = []
        under_way: collections.deque[tuple[Part, grpc.Future]] = collections.deque()
        try:
            for part in parts:
                if part.concerned is None:  # the only request: a plain call is about 0.2 ms faster than a future
                    return [batches.read_part(part, self._call(self._prediction.Predict, part.request, deadline), read)]
                if len(under_way) == self._max_in_flight:
                    results.append(self._receive(*under_way.popleft(), read, deadline))
                under_way.append((part, self._start(self._prediction.Predict.future, part.request, deadline)))
            while under_way:
                results.append(self._receive(*under_way.popleft(), read, deadline))
        finally:
            for _, call in under_way:  # after a failure: their answers are not read
                call.cancel()
        return results

    def _receive(self, part: Part, call: grpc.Future, read: Callable[..., Read], deadline: Deadline) -> Read:
        try:
            response = call.result()
        except grpc.RpcError as error:
            raise self._refused(error, deadline, part.concerned) from error
        return batches.read_part(part, response, read)
