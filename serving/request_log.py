"""The request log: a sample of the Predict calls of each model, written as TF Serving's `PredictionLog` records."""

import contextlib
import logging
import os
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tensorflow_serving.config import logging_config_pb2

from serving.loaded_version import LoadedVersion
from serving.record_files import RecordFiles
from serving.status import invalid_argument, status_of

_LOG = logging.getLogger(__name__)

MAX_QUEUED_BYTES = 64 << 20
"""Bytes of records that may wait for the disk; further ones are dropped and counted."""

_BATCH = 256
"""Records that are written between two flushes while others wait."""

Observe = Callable[[str, str, int], None]
"""Counts records: name of the model, status as in gRPC, how many."""


class _Record(NamedTuple):
    prefix: Path
    model: str
    content: bytes


class _Keep(NamedTuple):
    """Finishes the files of all other prefixes."""

    prefixes: frozenset[Path]


class RequestLogs:
    """Samples the requests of models, and writes them on a thread of its own: no request waits for a disk.

    Args:
        tags: Tags of the graphs that answer, for the records.
        observe: Told of every sampled request: OK when it is in a file, RESOURCE_EXHAUSTED when the queue was full, or
            the status of the disk's refusal.
        max_queued_bytes: Bytes of records that may wait.
        files: Makes the files of a prefix.
    """

    def __init__(
        self,
        tags: tuple[str, ...] = (),
        observe: Observe | None = None,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
        files: Callable[[Path], RecordFiles] = RecordFiles,
    ) -> None:
        self._tags, self._observe, self._max_queued_bytes, self._make_files = tags, observe, max_queued_bytes, files
        self._configs: dict[str, logging_config_pb2.LoggingConfig] = {}
        self._tasks: queue.SimpleQueue[_Record | _Keep | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued_bytes = 0
        self._files: dict[Path, RecordFiles] = {}  # of the thread alone, as is the next
        self._refusing: set[Path] = set()
        self._thread: threading.Thread | None = None

    def update(self, configs: Mapping[str, logging_config_pb2.LoggingConfig]) -> None:
        """Replaces the configs of all models; those that are missing are not logged any more.

        Raises:
            ServingError: INVALID_ARGUMENT: files cannot be made under a prefix. Nothing was changed.
        """
        for model, config in configs.items():
            _check_folder(model, _prefix(config).parent)
        self._configs = dict(configs)
        if self._thread is None and configs:
            self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
            self._thread.start()
        self._tasks.put(_Keep(frozenset(map(_prefix, configs.values()))))

    def sample(
        self, servable: LoadedVersion, request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse
    ) -> None:
        """Hands a request with its answer to the writer, or does not, as the sampling rate of the model has it."""
        config = self._configs.get(servable.name)
        if config is None or random.random() >= config.sampling_config.sampling_rate:
            return
        try:
            record = self._record(config, request, response)
        except Exception as error:  # of more than 2 GB: the client gets its answer all the same
            self._count(servable.name, status_of(error)[0].name, 1)
            return
        with self._lock:
            is_full = self._queued_bytes + len(record) > self._max_queued_bytes
            self._queued_bytes += 0 if is_full else len(record)
        if is_full:
            self._count(servable.name, "RESOURCE_EXHAUSTED", 1)
        else:
            self._tasks.put(_Record(_prefix(config), servable.name, record))

    def close(self, seconds: float) -> bool:
        """Writes what waits and finishes all files; returns whether that took at most `seconds`."""
        if self._thread is None:
            return True
        self._tasks.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _record(
        self,
        config: logging_config_pb2.LoggingConfig,
        request: predict_pb2.PredictRequest,
        response: predict_pb2.PredictResponse,
    ) -> bytes:
        log = prediction_log_pb2.PredictionLog()
        log.log_metadata.model_spec.CopyFrom(response.model_spec)  # names the version that answered
        log.log_metadata.sampling_config.CopyFrom(config.sampling_config)
        log.log_metadata.saved_model_tags.extend(self._tags)
        log.log_metadata.timestamp_secs = int(time.time())
        log.predict_log.request.CopyFrom(request)
        log.predict_log.response.CopyFrom(response)
        return log.SerializeToString()

    def _count(self, model: str, status: str, records: int) -> None:
        if self._observe is not None:
            self._observe(model, status, records)

    def _run(self) -> None:
        """Does the work of the thread, until `close`."""
        closing = False
        while not closing:
            tasks = self._take()
            closing = None in tasks
            records = [task for task in tasks if isinstance(task, _Record)]
            for prefix in dict.fromkeys(record.prefix for record in records):
                self._write(prefix, [record for record in records if record.prefix == prefix])
            with self._lock:
                self._queued_bytes -= sum(len(record.content) for record in records)
            for task in tasks:
                if isinstance(task, _Keep):
                    self._finish(self._files.keys() - task.prefixes)
            now = time.monotonic()
            self._finish({prefix for prefix, due in self._due().items() if closing or due <= now})

    def _take(self) -> list[_Record | _Keep | None]:
        """Returns the tasks that wait, at most a batch; waits for one, but not beyond the time when a file is due."""
        due = min(self._due().values(), default=None)
        tasks: list[_Record | _Keep | None] = []
        with contextlib.suppress(queue.Empty):
            tasks.append(self._tasks.get(timeout=None if due is None else max(0.0, due - time.monotonic())))
            while len(tasks) < _BATCH:
                tasks.append(self._tasks.get_nowait())
        return tasks

    def _due(self) -> dict[Path, float]:
        """Returns when the files that are being written are to be finished, by prefix."""
        return {prefix: files.due for prefix, files in self._files.items() if files.due is not None}

    def _write(self, prefix: Path, records: list[_Record]) -> None:
        files = self._files.setdefault(prefix, self._make_files(prefix))
        status = "OK"
        try:
            for record in records:
                files.write(record.content)
            files.flush()
        except Exception as error:  # counted and logged; the thread goes on, for a disk may have room again
            status = self._refused(prefix, error)
        else:
            self._refusing.discard(prefix)
        for model, count in Counter(record.model for record in records).items():
            self._count(model, status, count)

    def _finish(self, prefixes: Iterable[Path]) -> None:
        for prefix in prefixes:
            try:
                self._files.pop(prefix).finish()
            except Exception as error:  # the records are in a file under its unfinished name
                self._refused(prefix, error)

    def _refused(self, prefix: Path, error: Exception) -> str:
        """Returns the status of an error of the disk, and logs the first one of a prefix since the last success."""
        code, message = status_of(error) if isinstance(error, tf.errors.OpError) else (grpc.StatusCode.UNKNOWN, error)
        if prefix not in self._refusing:
            _LOG.error("requests cannot be logged under %s: %s", prefix, message, exc_info=error)
        self._refusing.add(prefix)
        return code.name


def _prefix(config: logging_config_pb2.LoggingConfig) -> Path:
    return Path(config.log_collector_config.filename_prefix)


def _check_folder(model: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        may_write = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        raise invalid_argument(
            f"Could not make the folder {folder} for the request log of model {model}: {error}"
        ) from error
    if not may_write:
        raise invalid_argument(f"Could not write into the folder {folder} for the request log of model {model}")
