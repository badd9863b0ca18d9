"""Users with what they did and what they did next: the questions that versions of a bundle are compared by."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tensorflow_serving.apis import predict_pb2

from serving import messages


class Questions(NamedTuple):
    """U users, each with a history and with the events that followed it.

    Attributes:
        histories: [U] item ids, oldest first.
        targets: [U] item ids of the events that followed, at least one each.
        times: [U] of each history the times of its items, in the unit of the log; None for a log without times.
        request_times: [U] the time of the first event that followed, likewise.
    """

    histories: Sequence[Sequence[str]]
    targets: Sequence[Sequence[str]]
    times: Sequence[Sequence[int]] | None = None
    request_times: Sequence[int] | None = None

    def requests(
        self, rows: Sequence[int], num_candidates: int, reads_times: bool, batch_size: int
    ) -> Iterator[predict_pb2.PredictRequest]:
        """Yields requests for lists of some users, in order.

        Args:
            rows: Numbers of the users.
            num_candidates: Length of the lists.
            reads_times: Whether the model reads times.
            batch_size: Most users of a request.
        """
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            when = {}
            if reads_times and self.times is not None and self.request_times is not None:
                when["times"] = [self.times[row] for row in batch]
                when["request_time"] = [self.request_times[row] for row in batch]
            yield messages.retrieve_request([self.histories[row] for row in batch], num_candidates, **when)
