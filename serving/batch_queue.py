"""Where requests become batches: queues under TF Serving's rules, emptied by a few threads."""

import collections
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable
from concurrent import futures

import grpc
import numpy as np

from serving import deadline as deadlines
from serving.batching_parameters import BatchingParameters
from serving.status import ServingError, invalid_argument

_FULL = "The batch scheduling queue to which this task was submitted is full; "


@dataclasses.dataclass(eq=False)
class Task:
    """Rows of one request that are run in one piece.

    Attributes:
        feeds: Inputs by name, all with `rows` entries along their first dimension.
        rows: How many.
        outputs: Names of the outputs wanted.
        deadline: See `serving.deadline`.
        abandoned: See `serving.deadline`.
        created: When, in seconds of `time.monotonic`.
        answer: Future of the outputs by name; a task whose answer is cancelled before it begins is not run.
    """

    feeds: dict[str, np.ndarray]
    rows: int
    outputs: frozenset[str]
    deadline: float | None = None
    abandoned: deadlines.Abandoned | None = None
    created: float = dataclasses.field(default_factory=time.monotonic)
    answer: futures.Future = dataclasses.field(default_factory=futures.Future)

    def cut(self, sizes: list[int]) -> list["Task"]:
        """Returns tasks of so many rows each, which together are this one."""
        if len(sizes) == 1:
            return [self]
        parts, start = [], 0
        for rows in sizes:
            feeds = {name: array[start : start + rows] for name, array in self.feeds.items()}
            parts.append(dataclasses.replace(self, feeds=feeds, rows=rows, answer=futures.Future()))
            start += rows
        return parts

    def begin(self) -> bool:
        """Claims the task for a run; returns whether it is to be in it."""
        return self.answer.set_running_or_notify_cancel() and self.is_wanted()

    def is_wanted(self) -> bool:
        """Returns whether somebody waits for the answer; if not, the task is settled without one."""
        try:
            deadlines.check(self.deadline, self.abandoned)
        except ServingError as error:
            self.answer.set_exception(error)
            return False
        return True


class _Batch:
    """Tasks that will run together, in the order they came, and the time the first one did."""

    def __init__(self):
        self.tasks: list[Task] = []
        self.rows, self.opened = 0, time.monotonic()

    def add(self, task: Task) -> None:
        self.tasks.append(task)
        self.rows += task.rows


class BatchScheduler:
    """Collects tasks into batches and hands these to threads.

    As in TF Serving's SharedBatchScheduler, tasks of one kind wait in one queue of batches of which the last is open.
    A batch that is full, or has another behind it, or has waited for `batch_timeout_micros`, goes to the next idle
    thread, the one that has waited longest first.

    Args:
        parameters: When a batch is full, ready, or one too many.
        process: Called in a thread with the kind and the tasks of a batch; settles all their answers, never raises.
    """

    def __init__(self, parameters: BatchingParameters, process: Callable[[Hashable, list[Task]], None]):
        self._parameters, self._process = parameters, process
        self._timeout = parameters.batch_timeout_micros / 1e6
        self._queues: dict[Hashable, collections.deque[_Batch]] = {}  # only queues with a batch, no batch is empty
        self._changed = threading.Condition()
        self._closing = False
        names = [f"{parameters.thread_pool_name}_{number}" for number in range(parameters.num_batch_threads)]
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    def schedule(self, kind: Hashable, task: Task) -> list[Task]:
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
        """Returns the sizes of the parts that a task of `rows` enters the queue as: what fills up the open batch first.

        Without splitting the check is as loose as TF Serving's, which looks at the open batch only.
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

    def _take(self) -> tuple[Hashable, list[Task]] | None:
        """Waits for a batch that is ready and takes it out of its queue; None once closed and empty."""
        with self._changed:
            while self._queues or not self._closing:
                kind, wait = self._ripest()
                if kind is not None and wait == 0:
                    batch = self._queues[kind].popleft()
                    if not self._queues[kind]:
                        del self._queues[kind]
                    # The one call of `notify` for this batch may have taken the thread that watched another one.
                    self._changed.notify()
                    return kind, batch.tasks
                self._changed.wait(wait)
        return None

    def _ripest(self) -> tuple[Hashable | None, float | None]:
        """Returns the kind whose first batch is ready first, and the seconds until then; None, None if none waits."""
        if not self._queues:
            return None, None
        kind = min(self._queues, key=self._ready)
        return kind, min(max(0.0, self._ready(kind) - time.monotonic()), threading.TIMEOUT_MAX)

    def _ready(self, kind: Hashable) -> float:
        """Returns the time from which the first batch of a kind may run."""
        queue = self._queues[kind]
        first = queue[0]
        closed = self._closing or len(queue) > 1 or first.rows >= self._parameters.execution_size
        return first.opened if closed else first.opened + self._timeout

    def close(self) -> None:
        """Runs what still waits, at once, and ends the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()


def _unavailable(reason: str) -> ServingError:
    return ServingError(grpc.StatusCode.UNAVAILABLE, _FULL + reason)
