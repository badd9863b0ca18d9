"""The blocking client."""

import collections
import time
from collections.abc import Callable, Iterator, Sequence

import grpc

from serving import messages
from serving.client import answers, batches
from serving.client.answers import RetrievalError, Signature, VersionStatus
from serving.client.base import POLL_SECONDS, UNSEEN, Client
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
        histories: Sequence[Sequence[str]],
        num_candidates: int | Sequence[int] | None = None,
        alpha: float | Sequence[float] | None = None,
        *,
        timeout: float | None = None,
        **controls,
    ) -> list[Retrieval]:
        """Returns candidates for every history.

        Args:
            histories: [B] sequences of raw item ids, oldest first; unknown ids carry no signal, none is a cold start.
            num_candidates: Results wanted, for all users or one number each; None leaves it to the bundle.
            alpha: Exponent of the quota merge (>= 0; 0 shares equally, larger follows the intent more), for all users
                or one number each; None asks for the bundle's own merge. Needs `num_candidates`.
            timeout: Seconds for the whole call, instead of the client's.
            **controls: `times` and `request_time` for models that read times, `joint_alpha`, `exclude`,
                `cluster_quotas`, `cluster_min`, `cluster_max` of `messages.retrieve_request`.

        Returns:
            [B] results.

        Raises:
            ValueError: Arguments that say nothing a server could answer; nothing was sent.
            RetrievalError: A request was not answered; its `rows` are the histories that it carried.
        """
        parts = self._retrievals(histories, num_candidates, alpha, controls)
        return [result for results in self._predict(parts, messages.read_retrievals, timeout) for result in results]

    def encode(self, histories: Sequence[Sequence[str]], *, timeout: float | None = None, **times) -> Encoding:
        """Returns user embeddings and intents of [B] histories, B at least 1; `times`, `request_time` as `retrieve`.

        Raises:
            ValueError: No history, or one that is not a sequence of text.
            RetrievalError: See `retrieve`.
        """
        parts = self._encodings(histories, times)
        return batches.join_encodings(self._predict(parts, messages.read_encoding, timeout))

    def metadata(self, *, timeout: float | None = None) -> dict[str, Signature]:
        """Returns the signatures of the model by name.

        Raises:
            RetrievalError: The request was not answered.
        """
        response = self._call(self._prediction.GetModelMetadata, self._metadata_request(), timeout)
        return answers.read_signatures(response)

    def status(self, *, timeout: float | None = None) -> list[VersionStatus]:
        """Returns the state of every version of the model (or of the one this client asks).

        Raises:
            RetrievalError: The request was not answered.
        """
        return answers.read_status(self._call(self._model.GetModelStatus, self._status_request(), timeout))

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
                seen = seen if error.code is grpc.StatusCode.DEADLINE_EXCEEDED else error.message
            else:
                if (version := answers.highest_available(versions)) is not None:
                    return version
                seen = ", ".join(map(str, versions))
            time.sleep(min(POLL_SECONDS, left))
        raise self._not_available(timeout, seen)

    def _call(self, method: Callable, request, timeout: float | None = None):
        try:
            return self._start(method, request, self._deadline(timeout))
        except grpc.RpcError as error:
            raise self._refused(error, timeout) from error

    def _predict(self, parts: Iterator[Part], read: Callable, timeout: float | None) -> list:
        """Returns what `read` makes of the answers in order, with at most `max_in_flight` requests under way."""
        deadline = self._deadline(timeout)
        results, under_way = [], collections.deque()
        try:
            for part in parts:
                if part.concerned is None:  # alone: a plain call takes some .2 ms less than a future
                    return [batches.read_part(part, self._call(self._prediction.Predict, part.request, timeout), read)]
                if len(under_way) == self._max_in_flight:
                    results.append(self._receive(*under_way.popleft(), read, timeout))
                under_way.append((part, self._start(self._prediction.Predict.future, part.request, deadline)))
            while under_way:
                results.append(self._receive(*under_way.popleft(), read, timeout))
        finally:
            for _, call in under_way:  # after a failure: nobody will read them
                call.cancel()
        return results

    def _receive(self, part: Part, call: grpc.Future, read: Callable, timeout: float | None):
        try:
            response = call.result()
        except grpc.RpcError as error:
            raise self._refused(error, timeout, part.concerned) from error
        return batches.read_part(part, response, read)
