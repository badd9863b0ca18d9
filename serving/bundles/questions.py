"""Questions for a comparison of versions: users with their histories and the events that followed, if known."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tensorflow_serving.apis import predict_pb2

from serving import messages
from tfdnc.contracts.features import Feature


class Questions(NamedTuple):
    """U users, each with a history and with the events that followed it, if they are known.

    Attributes:
        histories: [U] item ids, oldest first.
        targets: [U] item ids of the events that followed; none where they are not known.
        known: [U] declared inputs that the log has, by names of tensors, see `features.Feature.asked_at`.
        features: The inputs of the log.
    """

    histories: Sequence[Sequence[str]]
    targets: Sequence[Sequence[str]]
    known: Sequence[Mapping[str, Any]]
    features: Sequence[Feature]

    def requests(
        self, rows: Sequence[int], num_candidates: int, features: Sequence[Feature], batch_size: int
    ) -> Iterator[predict_pb2.PredictRequest]:
        """Yields requests for lists of some users, in order.

        Args:
            rows: Numbers of the users.
            num_candidates: Length of the lists.
            features: Inputs that the model reads.
            batch_size: Most users of a request.
        """
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            known = messages.known_arguments(features, [self.known[row] for row in batch])
            declared = messages.declared_rows(features)
            histories = [self.histories[row] for row in batch]
            yield messages.retrieve_request(histories, num_candidates, declared=declared, **known)
