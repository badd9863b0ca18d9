"""Metrics of a server, with TF Serving's names and in the text format of Prometheus."""

import abc
import bisect
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

from serving import text_proto
from serving.loaded_version import Load, LoadedVersion

DEFAULT_PATH = "/monitoring/prometheus/metrics"
"""HTTP path of the metrics in TF Serving, unless configured."""

MonitoringConfig = text_proto.define(
    "MonitoringConfig",
    {"prometheus_config": {"enable": text_proto.FieldType.TYPE_BOOL, "path": text_proto.FieldType.TYPE_STRING}},
)
"""`tensorflow.serving.MonitoringConfig`, which the API package does not ship."""


class Metrics:
    """Counts and times, from the start of the server on; may be called from many threads.

    `prometheus_client` would call a counter `request_count_total`; dashboards ask for TF Serving's names.

    Args:
        path: HTTP path on which the REST server shows them.

    Attributes:
        path: As given.
    """

    def __init__(self, path: str = DEFAULT_PATH):
        self.path = path
        self._models: set[str] = set()
        self._request_count = _Counter(
            "tensorflow/serving/request_count", "The total number of requests.", "model_name", "status"
        )
        self._request_latency = _Histogram(
            "tensorflow/serving/request_latency",
            "Distribution of wall time (in microseconds) for Tensorflow Serving request.",
            ("model_name", "API", "entrypoint"),
            _exponential(10, 1.8, 33),
        )
        self._request_log_count = _Counter(
            "tensorflow/serving/request_log_count",
            "The total number of requests logged from the model server sliced down by model_name and status code.",
            "model_name",
            "status_code",
        )
        self._load_attempts = _Counter(
            "tensorflow/cc/saved_model/load_attempt_count",
            "The number of times a SavedModel was requested to be loaded.",
            "model_path",
            "status",
        )
        self._load_latency = _Counter(
            "tensorflow/cc/saved_model/load_latency",
            "Latency in microseconds for SavedModels that were successfully loaded.",
            "model_path",
        )
        self._queuing_latency = _Histogram(
            "tensorflow/serving/batching_session/queuing_latency",
            "Distribution of wall time spent (in microseconds) in queuing",
            ("thread_pool_name",),
            _exponential(100, 1.2, 52),
        )
        self._batch_size = _Histogram(
            "tensorflow/serving/batching_session/processed_batch_size",
            "Tracks the batch size distribution on processing.",
            (),
            _exponential(1, 2, 14),
        )
        self._padding_size = _Histogram(
            "tensorflow/serving/batching_session/padding_size",
            "Tracks the padding size distribution on batches.",
            ("execution_batch_size",),
            _exponential(1, 2, 14),
        )

    @classmethod
    def configured(cls, file: Path) -> "Metrics | None":
        """Returns the metrics that a `MonitoringConfig` file in text format enables, None if it enables none.

        Raises:
            UserError: The file cannot be read.
        """
        prometheus = text_proto.read(file, MonitoringConfig()).prometheus_config
        return cls(prometheus.path or DEFAULT_PATH) if prometheus.enable else None

    def observe_request(self, model: str, api: str, entrypoint: str, status: str, seconds: float) -> None:
        """Counts a request; the latency of those that were answered goes into the histogram.

        Args:
            model: Name of the model, as asked for.
            api: `Predict`, `Classify`, `Regress` or `MultiInference`; for REST in lower case.
            entrypoint: `GRPC` or `REST`.
            status: Name of the gRPC status, such as `OK`.
            seconds: Duration of the request.
        """
        if status == "OK":
            self._models.add(model)
            self._request_latency.observe(seconds * 1e6, model, api, entrypoint)
        # A client may send any name, and a series is never removed: names that never answered share one series.
        self._request_count.add(1, model if model in self._models else "", status)

    def observe_logged(self, model: str, status: str, requests: int) -> None:
        """Counts sampled requests by what became of them in the request log; see `RequestLogs`."""
        self._request_log_count.add(requests, model, status)

    def observe_batch(self, thread_pool: str, queued: list[float], rows: int, padded_rows: int) -> None:
        """Measures a batch that is about to run.

        Args:
            thread_pool: Its `thread_pool_name`.
            queued: Waiting time of each of its requests, in seconds.
            rows: Rows of its requests.
            padded_rows: Rows of the batch, padding included.
        """
        for seconds in queued:
            self._queuing_latency.observe(seconds * 1e6, thread_pool)
        self._batch_size.observe(padded_rows)
        self._padding_size.observe(padded_rows - rows, str(padded_rows))

    def timed(self, load: Load) -> Load:
        """Returns `load` with its attempts counted and its successes timed."""

        def timed_load(name: str, version: int, path: Path) -> LoadedVersion:
            started = time.perf_counter()
            self._models.add(name)
            try:
                servable = load(name, version, path)
            except Exception:
                self._load_attempts.add(1, str(path), "fail")
                raise
            self._load_attempts.add(1, str(path), "success")
            self._load_latency.add(int((time.perf_counter() - started) * 1e6), str(path))
            return servable

        return timed_load

    def page(self) -> str:
        """Returns all metrics as text."""
        counters = (self._load_attempts, self._load_latency, self._request_count, self._request_log_count)
        histograms = (self._request_latency, self._queuing_latency, self._batch_size, self._padding_size)
        metrics: tuple[_Counter | _Histogram, ...] = (*counters, *histograms)
        return "".join(f"{line}\n" for metric in metrics for line in metric.lines())


Series = TypeVar("Series")
"""Measurements under one combination of label values."""


class _Metric(abc.ABC, Generic[Series]):
    """Named series, one per combination of label values."""

    kind = ""

    def __init__(self, name: str, text: str, labels: tuple[str, ...]):
        self._name = ":" + name.replace("/", ":")
        self._text, self._labels = text, labels
        self._lock = threading.Lock()
        self._series: dict[tuple[str, ...], Series] = {}

    def lines(self) -> Iterable[str]:
        """Yields the metric in the text format; nothing before the first measurement."""
        with self._lock:
            samples = [self._samples(values, series) for values, series in sorted(self._series.items())]
        if samples:
            yield f"# HELP {self._name} {self._text}"
            yield f"# TYPE {self._name} {self.kind}"
        for lines in samples:
            yield from lines

    @abc.abstractmethod
    def _samples(self, values: tuple[str, ...], series: Series) -> list[str]:
        """Returns the lines of one series."""

    def _sample(self, suffix: str, values: tuple[str, ...], number: float, **more: str) -> str:
        labels = dict(zip(self._labels, values, strict=True)) | more
        inside = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels.items())
        return f"{self._name}{suffix}{{{inside}}} {number:.17g}"


class _Counter(_Metric[int]):
    kind = "counter"

    def __init__(self, name: str, text: str, *labels: str):
        super().__init__(name, text, labels)

    def add(self, amount: int, *values: str) -> None:
        with self._lock:
            self._series[values] = self._series.get(values, 0) + amount

    def _samples(self, values: tuple[str, ...], series: int) -> list[str]:
        return [self._sample("", values, series)]


class _Histogram(_Metric[tuple[list[int], float]]):
    kind = "histogram"

    def __init__(self, name: str, text: str, labels: tuple[str, ...], limits: list[float]):
        super().__init__(name, text, labels)
        self._limits = limits

    def observe(self, number: float, *values: str) -> None:
        with self._lock:
            counts, total = self._series.get(values) or ([0] * (len(self._limits) + 1), 0.0)
            counts[bisect.bisect_left(self._limits, number)] += 1
            self._series[values] = (counts, total + number)

    def _samples(self, values: tuple[str, ...], series: tuple[list[int], float]) -> list[str]:
        counts, total = series
        lines, cumulative = [], 0
        for limit, count in zip([*(f"{limit:g}" for limit in self._limits), "+Inf"], counts, strict=True):
            cumulative += count
            lines.append(self._sample("_bucket", values, cumulative, le=limit))
        return [*lines, self._sample("_sum", values, total), self._sample("_count", values, cumulative)]


def _exponential(first: float, growth: float, count: int) -> list[float]:
    """Returns the limits of TF Serving's `Buckets::Exponential`; one more bucket counts larger values."""
    return [first * growth**step for step in range(count)]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
