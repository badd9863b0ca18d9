"""Questions for a comparison of versions: users with their histories and the events that followed."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tensorflow_serving.apis import predict_pb2

from serving import messages


class Questions(NamedTuple):
    """U users, each with a history and with the events that followed it.

    Attributes:
        histories: [U] item ids, oldest first.
        targets: [U] item ids of the events that followed, at least one each.
        times: [U] times of the items of each history, in the unit of the log; None for a log without times.
        request_times: [U] times of the first events that followed, likewise.
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
            reads_times: True for a model that reads times.
            batch_size: Most users of a request.
        """
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            histories = [self.histories[row] for row in batch]
            if not reads_times or self.times is None or self.request_times is None:
                yield messages.retrieve_request(histories, num_candidates)
                continue
            times, request_times = [self.times[row] for row in batch], [self.request_times[row] for row in batch]
            yield messages.retrieve_request(histories, num_candidates, times=times, request_time=request_times)
