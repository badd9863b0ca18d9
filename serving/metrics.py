"""Metrics of a server, with TF Serving's names and in the text format of Prometheus."""

import time
from pathlib import Path

from serving import text_proto
from serving.list_metrics import ListMetrics
from serving.loaded_version import Load, LoadedVersion
from serving.metric_types import Counter, Histogram, exponential

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
        lists: What versions of bundles answer.
    """

    def __init__(self, path: str = DEFAULT_PATH) -> None:
        self.path = path
        self.lists = ListMetrics()
        self._models: set[str] = set()
        self._request_count = Counter(
            "tensorflow/serving/request_count", "The total number of requests.", "model_name", "status"
        )
        self._request_latency = Histogram(
            "tensorflow/serving/request_latency",
            "Distribution of wall time (in microseconds) for Tensorflow Serving request.",
            ("model_name", "API", "entrypoint"),
            exponential(10, 1.8, 33),
        )
        self._request_log_count = Counter(
            "tensorflow/serving/request_log_count",
            "The total number of requests logged from the model server sliced down by model_name and status code.",
            "model_name",
            "status_code",
        )
        self._load_attempts = Counter(
            "tensorflow/cc/saved_model/load_attempt_count",
            "The number of times a SavedModel was requested to be loaded.",
            "model_path",
            "status",
        )
        self._load_latency = Counter(
            "tensorflow/cc/saved_model/load_latency",
            "Latency in microseconds for SavedModels that were successfully loaded.",
            "model_path",
        )
        self._queuing_latency = Histogram(
            "tensorflow/serving/batching_session/queuing_latency",
            "Distribution of wall time spent (in microseconds) in queuing",
            ("thread_pool_name",),
            exponential(100, 1.2, 52),
        )
        self._batch_size = Histogram(
            "tensorflow/serving/batching_session/processed_batch_size",
            "Tracks the batch size distribution on processing.",
            (),
            exponential(1, 2, 14),
        )
        self._padding_size = Histogram(
            "tensorflow/serving/batching_session/padding_size",
            "Tracks the padding size distribution on batches.",
            ("execution_batch_size",),
            exponential(1, 2, 14),
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
        self.lists.update()
        counters = (self._load_attempts, self._load_latency, self._request_count, self._request_log_count)
        histograms = (self._request_latency, self._queuing_latency, self._batch_size, self._padding_size)
        metrics: tuple[Counter | Histogram, ...] = (*counters, *histograms, *self.lists.metrics())
        return "".join(f"{line}\n" for metric in metrics for line in metric.lines())
