"""Metrics of what versions of tfdnc bundles answer, beside TF Serving's: lists, clusters, and histories."""

from collections.abc import Callable, Iterator, Sequence

from serving.metric_types import Counter, Histogram
from serving.observations import Histories, Lists

_LIMITS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_VERSION = ("model_name", "version")
_CLUSTER = (*_VERSION, "cluster", "cluster_name")


class ListMetrics:
    """Counts by model and version; may be called from many threads."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], Callable[[], None]] = {}

        def counter(name: str, text: str, labels: tuple[str, ...] = _VERSION) -> Counter:
            return Counter(f"tfdnc/serving/{name}", text, *labels)

        self._users = counter("user_count", "Users who were answered with a list.")
        self._entries = counter("list_entry_count", "Results in lists, by the cluster they came from.", _CLUSTER)
        self._below_minimum = counter(
            "cluster_min_shortfall_count", "Results missing to reach cluster_min, by cluster.", _CLUSTER
        )
        self._lengths = Histogram("tfdnc/serving/list_length", "Results in a list.", _VERSION, _LIMITS)
        self._shortfalls = Histogram(
            "tfdnc/serving/list_shortfall", "Results that were asked for and are not in the list.", _VERSION, _LIMITS
        )
        self._histories = (
            counter("history_count", "Histories that were read."),
            counter("empty_history_count", "Histories without any id."),
            counter("unknown_history_count", "Histories with ids, of which the version knows none."),
            counter("history_id_count", "Ids in histories."),
            counter("unknown_id_count", "Ids in histories that the version does not know."),
        )
        self._unmonitored = counter("unmonitored_request_count", "Answered requests that are in none of these metrics.")

    def metrics(self) -> Iterator[Counter | Histogram]:
        """Yields all metrics."""
        yield from (self._users, self._entries, self._lengths, self._shortfalls, self._below_minimum)
        yield from (*self._histories, self._unmonitored)

    def begin(self, model: str, version: str, count: Callable[[], None]) -> None:
        """Begins the series of a version with 0: without it, the first event would be no increase.

        Args:
            model: Name of the model.
            version: Number of the version.
            count: Counts what waits to be counted.
        """
        self._versions[model, version] = count
        for counter in (self._users, *self._histories, self._unmonitored):
            counter.add(0, model, version)

    def update(self) -> None:
        """Counts all that has been answered until now."""
        for count in list(self._versions.values()):
            count()

    def forget(self, model: str, version: str) -> None:
        """Ends the series of a version: a server that lives for months would show those of every version it had."""
        del self._versions[model, version]
        for metric in self.metrics():
            metric.forget(model, version)

    def observe_lists(self, model: str, version: str, cluster_names: Sequence[str], lists: Lists) -> None:
        """Counts lists; a cluster that `cluster_names` does not reach has the name ""."""
        self._users.add(len(lists.lengths), model, version)
        self._lengths.observe_all(lists.lengths, model, version)
        self._shortfalls.observe_all(lists.shortfalls, model, version)
        names = [*cluster_names, *[""] * len(lists.entries)]
        series = [(model, version, str(cluster), names[cluster]) for cluster in range(len(lists.entries))]
        self._entries.add_each(lists.entries, series)
        if lists.below_minimum:
            self._below_minimum.add_each(lists.below_minimum, series)

    def observe_histories(self, model: str, version: str, histories: Histories) -> None:
        """Counts histories and their ids."""
        for counter, amount in zip(self._histories, histories, strict=True):
            counter.add(amount, model, version)

    def observe_unmonitored(self, model: str, version: str) -> None:
        """Counts a request whose answer is not what a bundle answers, or lacks outputs."""
        self._unmonitored.add(1, model, version)
