"""The blocking client."""

import collections
import time
from collections.abc import Callable, Iterable, Iterator

import grpc

from serving import messages
from serving.client import answers, batches, clusters
from serving.client.answers import RetrievalError, Signature, VersionStatus
from serving.client.base import POLL_SECONDS, UNSEEN, Client, Deadline
from serving.client.batches import Part
from serving.messages import Encoding, Retrieval


class RetrievalClient(Client):
    """A connection to a server; safe to share between threads, and a context manager that closes it.

    `base.Client` says what it can be made with.
    """

    _transport = grpc

    def __enter__(self) -> "RetrievalClient":
        """Returns the client itself."""
        return self

    def __exit__(self, *_) -> None:
        """Closes the connection."""
        self.close()

    def close(self) -> None:
        """Closes the connection; requests under way are cancelled."""
        self._channel.close()

    def retrieve(
        self,
        histories: Iterable[Iterable[str]],
        num_candidates: int | Iterable[int] | None = None,
        alpha: float | Iterable[float] | None = None,
        *,
        timeout: float | None = None,
        **controls,
    ) -> list[Retrieval]:
        """Returns candidates for every history.

        Args:
            histories: [B] sequences of raw item ids, oldest first: lists, arrays, series, generators. Unknown ids
                carry no signal, none is a cold start.
            num_candidates: Results wanted, for all users or one number each; None leaves it to the bundle.
            alpha: Exponent of the quota merge (>= 0; 0 shares equally, larger follows the intent more), for all users
                or one number each; None asks for the bundle's own merge. Needs `num_candidates`.
            timeout: Seconds for the whole call, instead of the client's.
            **controls: `times` and `request_time` for models that read times, `features` for those that read more of
                an event, by name such as `{"dwell": [[3.5, None], [12]]}`, `joint_alpha`, `exclude`,
                `cluster_quotas`, `cluster_min`, `cluster_max` of `messages.retrieve_request`; `minimum`, `maximum` and
                `quotas` for clusters by name, such as `{"Comedy": 0.2}`, see `clusters.numbered`: the names are asked
                for first, with every call.

        Returns:
            [B] results.

        Raises:
            ValueError: Arguments that say nothing a server could answer; nothing was sent.
            RetrievalError: A request was not answered; its `rows` are the histories that it carried.
        """
        wishes = {"histories": histories, "num_candidates": num_candidates, "alpha": alpha}
        deadline, (named, controls) = self._deadline(timeout), clusters.split(controls)
        if named:
            return self._retrieve_by_name(named, wishes | controls, deadline)
        parts = self._retrievals(**wishes, **controls)
        answered = self._predict(parts, messages.read_retrievals, deadline)
        return [result for results in answered for result in results]

    def encode(self, histories: Iterable[Iterable[str]], *, timeout: float | None = None, **times) -> Encoding:
        """Returns user embeddings and intents of [B] histories, B at least 1; with `times`, `request_time` and
        `features` as of `retrieve`.

        Raises:
            ValueError: No history, or one that is not a sequence of text.
            RetrievalError: See `retrieve`.
        """
        parts, deadline = self._encodings(histories, times), self._deadline(timeout)
        return batches.join_encodings(self._predict(parts, messages.read_encoding, deadline))

    def cluster_names(self, *, timeout: float | None = None) -> list[str]:
        """Returns the names of the clusters: the one at place k belongs to the number k in `Retrieval.cluster_ids`.

        Raises:
            RetrievalError: The request was not answered, or the model is an older bundle, which does not say.
        """
        return self._describe(self._deadline(timeout))[1]

    def metadata(self, *, timeout: float | None = None) -> dict[str, Signature]:
        """Returns the signatures of the model by name.

        Raises:
            RetrievalError: The request was not answered.
        """
        deadline = self._deadline(timeout)
        response = self._call(self._prediction.GetModelMetadata, self._metadata_request(), deadline)
        return answers.read_signatures(response)

    def status(self, *, timeout: float | None = None) -> list[VersionStatus]:
        """Returns the state of every version of the model (or of the one this client asks).

        Raises:
            RetrievalError: The request was not answered.
        """
        deadline = self._deadline(timeout)
        return answers.read_status(self._call(self._model.GetModelStatus, self._status_request(), deadline))

    def wait_until_available(self, timeout: float = 60.0) -> int:
        """Waits for the server, and for the version this client asks or any; returns the highest that is available.

        Raises:
            RetrievalError: DEADLINE_EXCEEDED after `timeout` seconds, or what no waiting mends.
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

    def _retrieve_by_name(self, named: dict, wishes: dict, deadline: Deadline) -> list[Retrieval]:
        """Asks what the clusters are called, then for lists, again if another version has come in between."""
        wishes = self._repeatable(named, wishes)
        if not wishes["histories"]:
            return []
        for _ in range(clusters.ATTEMPTS):
            version, names = self._describe(deadline)
            numbered = clusters.numbered(named, names, len(wishes["histories"]), wishes["num_candidates"])
            parts = self._retrievals(**(wishes | numbered))
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

    def _call(self, method: Callable, request, deadline: Deadline):
        try:
            return self._start(method, request, deadline)
        except grpc.RpcError as error:
            raise self._refused(error, deadline) from error

    def _predict(self, parts: Iterator[Part], read: Callable, deadline: Deadline) -> list:
        """Returns what `read` makes of the answers in order, with at most `max_in_flight` requests under way."""
        results, under_way = [], collections.deque()
        try:
            for part in parts:
                if part.concerned is None:  # alone: a plain call takes some .2 ms less than a future
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

    def _receive(self, part: Part, call: grpc.Future, read: Callable, deadline: Deadline):
        try:
            response = call.result()
        except grpc.RpcError as error:
            raise self._refused(error, deadline, part.concerned) from error
        return batches.read_part(part, response, read)
