"""Queues that collect requests into batches under TF Serving's rules, and the threads that run these batches."""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable
from concurrent import futures
from typing import Generic, TypeVar

import grpc
import numpy as np

from serving import deadline as deadlines
from serving.batching_parameters import BatchingParameters
from serving.status import ServingError, invalid_argument

K = TypeVar("K", bound=Hashable)
"""Kind of a task: tasks of one kind may share a batch."""

_FULL = "The batch scheduling queue to which this task was submitted is full; "


@dataclasses.dataclass(eq=False)
class Task:
    """Rows of one request that are run in one batch.

    Attributes:
        feeds: Inputs by name, all with `rows` entries along their first dimension.
        rows: Number of rows.
        outputs: Names of the requested outputs.
        deadline: See `serving.deadline`.
        abandoned: See `serving.deadline`.
        created: Time of its creation, in seconds of `time.monotonic`.
        answer: Future of the outputs by name; a task whose answer is cancelled before it begins is not run.
    """

    feeds: dict[str, np.ndarray]
    rows: int
    outputs: frozenset[str]
    deadline: float | None = None
    abandoned: deadlines.Abandoned | None = None
    created: float = dataclasses.field(default_factory=time.monotonic)
    answer: futures.Future[dict[str, np.ndarray]] = dataclasses.field(default_factory=futures.Future)

    def cut(self, sizes: list[int]) -> list["Task"]:
        """Returns this task cut into tasks of `sizes` rows, in order."""
        if len(sizes) == 1:
            return [self]
        parts, start = [], 0
        for rows in sizes:
            feeds = {name: array[start : start + rows] for name, array in self.feeds.items()}
            parts.append(dataclasses.replace(self, feeds=feeds, rows=rows, answer=futures.Future()))
            start += rows
        return parts

    def begin(self) -> bool:
        """Claims the task for a run; returns False if it must not be run."""
        return self.answer.set_running_or_notify_cancel() and self.is_wanted()

    def is_wanted(self) -> bool:
        """Returns whether the client still waits for the answer; if not, the answer is set to an error."""
        try:
            deadlines.check(self.deadline, self.abandoned)
        except ServingError as error:
            self.answer.set_exception(error)
            return False
        return True


class _Batch:
    """Tasks that will run together, in order of arrival, and the time of the first arrival."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.rows, self.opened = 0, time.monotonic()

    def add(self, task: Task) -> None:
        self.tasks.append(task)
        self.rows += task.rows


class BatchScheduler(Generic[K]):
    """Collects tasks into batches and runs these on threads.

    As in TF Serving's SharedBatchScheduler, tasks of one kind wait in one queue of batches, of which the last is open.
    A batch is ready if it is full, if another one follows it, or after `batch_timeout_micros`. An idle thread takes the
    batch that has been ready longest.

    Args:
        parameters: Limits of batches and queues.
        process: Called in a thread with the kind and the tasks of a batch; sets all their answers, never raises.
    """

    def __init__(self, parameters: BatchingParameters, process: Callable[[K, list[Task]], None]) -> None:
        self._parameters, self._process = parameters, process
        self._timeout = parameters.batch_timeout_micros / 1e6
        self._queues: dict[K, collections.deque[_Batch]] = {}  # without empty queues and empty batches
        self._changed = threading.Condition()
        self._closing = False
        names = [f"{parameters.thread_pool_name}_{number}" for number in range(parameters.num_batch_threads)]
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    def schedule(self, kind: K, task: Task) -> list[Task]:
        """Puts a task into the queue of its kind; returns it, or the parts it was cut into, in order.

        Raises:
            ServingError: INVALID_ARGUMENT if the task is larger than allowed, UNAVAILABLE if the queue is full.
        """
        with self._changed:
            if self._closing:
                raise RuntimeError("a version was asked after it had been closed")
            queue = self._queues.get(kind, collections.deque())
            parts = task.cut(self._admit(queue, task.rows))
            for part in parts:
                if not queue or queue[-1].rows + part.rows > self._parameters.execution_size:
                    queue.append(_Batch())
                queue[-1].add(part)
            self._queues[kind] = queue
            self._changed.notify()
        return parts

    def _admit(self, queue: collections.deque[_Batch], rows: int) -> list[int]:
        """Returns the sizes of the parts into which a task of `rows` is cut; the first part fills up the open batch.

        Without splitting, only the open batch is checked, as in TF Serving.
        """
        most, enqueued = self._parameters.max_enqueued_batches, max(1, len(queue))
        limit, open_rows = self._parameters.execution_size, queue[-1].rows if queue else 0
        if rows > self._parameters.max_batch_size:
            raise invalid_argument(
                f"Task size {rows} is larger than maximum input batch size {self._parameters.max_batch_size}"
            )
        if not self._parameters.enable_large_batch_splitting:
            if open_rows + rows > limit and enqueued >= most:
                raise _unavailable(f"currently {enqueued} batches enqueued and max_enqueued_batches is {most}")
            return [rows]
        capacity = (most - enqueued) * limit + limit - open_rows
        if rows > capacity:
            raise _unavailable(
                f"task size is {rows} but scheduling capacity is only {capacity} (num_enqueued_batches={enqueued}, "
                f"max_enqueued_batches={most}, open_batch_size={open_rows}, max_execution_batch_size={limit})"
            )
        first = min(rows, limit - open_rows)
        starts = range(first, rows, limit)
        return ([first] if first or not starts else []) + [min(limit, rows - start) for start in starts]

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            self._process(*taken)

    def _take(self) -> tuple[K, list[Task]] | None:
        """Waits for a batch that is ready and removes it from its queue; None once closed and empty."""
        with self._changed:
            while self._queues or not self._closing:
                kind, wait = self._next_ready()
                if kind is not None and wait == 0:
                    batch = self._queues[kind].popleft()
                    if not self._queues[kind]:
                        del self._queues[kind]
                    # This thread may have been the one that waited for another batch: wake one that will.
                    self._changed.notify()
                    return kind, batch.tasks
                self._changed.wait(wait)
        return None

    def _next_ready(self) -> tuple[K | None, float | None]:
        """Returns the kind whose first batch is ready first, and the seconds until then; None, None if none waits."""
        if not self._queues:
            return None, None
        kind = min(self._queues, key=self._ready)
        return kind, min(max(0.0, self._ready(kind) - time.monotonic()), threading.TIMEOUT_MAX)

    def _ready(self, kind: K) -> float:
        """Returns the time from which the first batch of a kind may run."""
        queue = self._queues[kind]
        first = queue[0]
        closed = self._closing or len(queue) > 1 or first.rows >= self._parameters.execution_size
        return first.opened if closed else first.opened + self._timeout

    def close(self) -> None:
        """Runs all batches of the queues at once, and ends the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()


def _unavailable(reason: str) -> ServingError:
    return ServingError(grpc.StatusCode.UNAVAILABLE, _FULL + reason)
