"""Dynamic batching: a servable that answers many requests with one run, as TF Serving's BatchingSession does.

`BatchingServable` lists the differences; everything else, with its limits and error messages, is TF Serving's.
"""

import dataclasses
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import grpc
import numpy as np

from serving import deadline as deadlines
from serving.batch_queue import BatchScheduler, Task
from serving.batching_parameters import BatchingParameters
from serving.loaded_version import Load, LoadedVersion
from serving.metrics import Metrics
from serving.status import ServingError, invalid_argument

MAX_PADDING = 1 << 20
"""Elements of padding that one tensor of a batch may hold; more only if more elements were sent. Otherwise one request
with a history of a million items would pad the 31 other requests of its batch to a million items too."""

PARAMETERS_FILE = "batching_params.pbtxt"
"""`BatchingParameters` in the folder of a version, TF Serving's name."""

Arrays = dict[str, np.ndarray]

Kind = tuple[str, tuple[tuple[str, int | tuple[int, ...]], ...]]
"""Signature, and rank or inner shape of each input by name: equal for requests that may share a batch."""


class BatchingServable:
    """A loaded version whose `run` waits for other requests, to answer them in one batch; made by a manager's `load`.

    Differences from TF Serving:

    - A batch that fails, or would mostly be padding, is run request by request: only the bad one gets the error.
    - Requests whose shapes do not fit together go into different batches instead of failing together.
    - Requests for different outputs share a batch, which computes all of these outputs.
    - A request that is late is dropped from its batch.
    - `num_batch_threads` counts for each version, not for the server.

    Args:
        servable: Answers the batches; closed with this.
        parameters: See `BatchingParameters`.
        metrics: Measures every batch; None for no measurement.
    """

    def __init__(self, servable: LoadedVersion, parameters: BatchingParameters, metrics: Metrics | None = None) -> None:
        self.name, self.version, self.path = servable.name, servable.version, servable.path
        self.signatures, self.signature = servable.signatures, servable.signature
        self._servable, self._parameters, self._metrics = servable, parameters, metrics
        self._scheduler: BatchScheduler[Kind] = BatchScheduler(parameters, self._process)

    def run(
        self,
        key: str,
        feeds: Mapping[str, np.ndarray],
        outputs: Iterable[str],
        deadline: float | None = None,
        abandoned: deadlines.Abandoned | None = None,
    ) -> Arrays:
        """Returns the wanted outputs of signature `key`, as `Servable.run` does.

        Raises:
            ServingError: INVALID_ARGUMENT for inputs without one batch dimension, or too large; UNAVAILABLE if the
                queue is full; FAILED_PRECONDITION if an output has no batch dimension; else as `Servable.run`.
            tf.errors.OpError: The graph could not answer this request.
        """
        task = Task(dict(feeds), _batch_size(feeds), frozenset(outputs), deadline, abandoned)
        parts = self._scheduler.schedule(self._kind(key, feeds), task)
        try:
            answers = [part.answer.result(deadlines.remaining(deadline)) for part in parts]
        except TimeoutError as error:
            raise deadlines.exceeded("Run() timeout exceeded while waiting in batching queue") from error
        finally:
            for part in parts:
                part.answer.cancel()  # has no effect, unless another part failed or was too late
        if len(answers) == 1:
            return answers[0]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _kind(self, key: str, feeds: Mapping[str, np.ndarray]) -> Kind:
        padding = self._parameters.pad_variable_length_inputs
        shapes = ((name, array.ndim if padding else array.shape[1:]) for name, array in feeds.items())
        return key, tuple(sorted(shapes))

    def _process(self, kind: Kind, tasks: list[Task]) -> None:
        key, _ = kind
        begun = [task for task in tasks if task.begin()]
        if not begun:
            return
        if self._metrics is not None:
            self._observe(self._metrics, begun)
        self._settle(key, begun)

    def _observe(self, metrics: Metrics, tasks: list[Task]) -> None:
        now, rows = time.monotonic(), sum(task.rows for task in tasks)
        queued = [now - task.created for task in tasks]
        metrics.observe_batch(self._parameters.thread_pool_name, queued, rows, self._parameters.padded_size(rows))

    def _settle(self, key: str, tasks: list[Task]) -> None:
        """Answers a batch; if it fails, runs each task alone, so that only a bad one gets an error."""
        try:
            answers = self._run_together(key, tasks)
        except Exception as error:
            if len(tasks) == 1:
                tasks[0].answer.set_exception(error)
                return
            for task in tasks:
                if task.is_wanted():
                    self._settle(key, [task])
            return
        for task, answer in zip(tasks, answers, strict=True):
            task.answer.set_result(answer)

    def _run_together(self, key: str, tasks: list[Task]) -> list[Arrays]:
        rows = sum(task.rows for task in tasks)
        total = self._parameters.padded_size(rows)
        feeds = {name: _merged([task.feeds[name] for task in tasks], total) for name in tasks[0].feeds}
        outputs = {name for task in tasks for name in task.outputs}
        results = self._servable.run(key, feeds, outputs, _last_deadline(tasks))
        for array in results.values():
            _check_output(array, total)
        answers, start = [], 0
        for task in tasks:
            answers.append({name: results[name][start : start + task.rows] for name in sorted(task.outputs)})
            start += task.rows
        return answers

    def interrupt(self) -> None:
        """See `Servable.interrupt`; the tasks in the queues fail as well."""
        self._servable.interrupt()

    def close(self) -> None:
        """Answers the tasks in the queues, then frees the version; no request may come after."""
        self._scheduler.close()
        self._servable.close()


def loader(load: Load, parameters: BatchingParameters, metrics: Metrics | None = None, per_model: bool = False) -> Load:
    """Returns `load` with every version wrapped in a `BatchingServable`.

    Args:
        load: Loads a version.
        parameters: Parameters of every version.
        metrics: Measures every batch; None for no measurement.
        per_model: Read the parameters of a version from `PARAMETERS_FILE` in its folder, except the number of threads
            and their name. A version without the file is not batched.
    """

    def load_batching(name: str, version: int, path: Path) -> LoadedVersion:
        if not per_model:
            return BatchingServable(load(name, version, path), parameters, metrics)
        file = path / PARAMETERS_FILE
        if not file.is_file():
            return load(name, version, path)
        own = dataclasses.replace(
            BatchingParameters.read(file),
            num_batch_threads=parameters.num_batch_threads,
            thread_pool_name=parameters.thread_pool_name,
        )
        return BatchingServable(load(name, version, path), own, metrics)

    return load_batching


def _last_deadline(tasks: list[Task]) -> float | None:
    """Returns the latest deadline of the tasks, None if one has none."""
    ends = [task.deadline for task in tasks if task.deadline is not None]
    return max(ends) if len(ends) == len(tasks) else None


def _batch_size(feeds: Mapping[str, np.ndarray]) -> int:
    if not feeds:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in feeds.values()):
        raise invalid_argument("Batching Run() input tensors must have at least one dimension")
    sizes = {array.shape[0] for array in feeds.values()}
    if len(sizes) > 1:
        raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _merged(arrays: list[np.ndarray], total: int) -> np.ndarray:
    """Returns the arrays as one batch: padded to one inner shape, and a row repeated until there are `total` rows."""
    widest = np.max([array.shape[1:] for array in arrays], axis=0)
    sent, size = sum(array.size for array in arrays), sum(len(array) for array in arrays) * math.prod(widest.tolist())
    if size - sent > max(sent, MAX_PADDING):
        raise ServingError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"A batch of {size} elements, {sent} of them sent")
    arrays = [_padded(array, widest) for array in arrays]
    missing = total - sum(len(array) for array in arrays)
    if missing:
        valid = next(array for array in arrays if len(array))  # a row of a request is valid input for the model
        arrays.append(np.repeat(valid[:1], missing, axis=0))
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _padded(array: np.ndarray, inner_shape: np.ndarray) -> np.ndarray:
    """Returns `array` padded at the end to `inner_shape`, with its own first element as in TF Serving."""
    shape = (len(array), *inner_shape)
    if array.shape == shape:
        return array
    if not array.size:
        raise invalid_argument("Got empty tensor in batch of non-empty tensors.")
    padded = np.full(shape, array.flat[0], array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


def _check_output(array: np.ndarray, rows: int) -> None:
    if np.ndim(array) == 0:
        raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
    if len(array) != rows:
        raise ServingError(
            grpc.StatusCode.FAILED_PRECONDITION,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
            "input tensors",
        )
