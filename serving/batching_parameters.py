"""Parameters of batching: TF Serving's text file, with its names, its defaults and its rules."""

import dataclasses
import os
from pathlib import Path

from serving import text_proto
from serving.text_proto import FieldType
from tfdnc.contracts.errors import UserError

_NUMBER, _TEXT, _FLAG = ({"value": kind} for kind in (FieldType.TYPE_INT64, FieldType.TYPE_STRING, FieldType.TYPE_BOOL))
_MESSAGE = text_proto.define(
    "BatchingParameters",
    {
        "max_batch_size": _NUMBER,
        "batch_timeout_micros": _NUMBER,
        "max_enqueued_batches": _NUMBER,
        "num_batch_threads": _NUMBER,
        "thread_pool_name": _TEXT,
        "allowed_batch_sizes": [FieldType.TYPE_INT64],
        "pad_variable_length_inputs": FieldType.TYPE_BOOL,
        "enable_large_batch_splitting": _FLAG,
        "max_execution_batch_size": _NUMBER,
    },
)
"""`tensorflow.serving.BatchingParameters`, which the API package does not ship; optional numbers are wrapped."""

_LEAST = {
    "max_batch_size": 1,
    "batch_timeout_micros": 0,
    "max_enqueued_batches": 0,
    "num_batch_threads": 1,
    "max_execution_batch_size": 1,
}


@dataclasses.dataclass(frozen=True)
class BatchingParameters:
    """The parameters of `tensorflow_model_server --enable_batching`; see its guide to batching for how to choose.

    Attributes:
        max_batch_size: Rows of a batch, and of the largest request that is accepted.
        batch_timeout_micros: Microseconds that a batch waits for more rows while a thread is idle.
        max_enqueued_batches: Batches of one kind that wait for a thread before requests are refused.
        num_batch_threads: Batches that run at the same time.
        thread_pool_name: Beginning of the threads' names.
        allowed_batch_sizes: If given, a batch is filled up to the next of these sizes; the last is the size of a
            batch.
        pad_variable_length_inputs: Requests of different inner shapes share a batch. A shorter tensor is padded with
            its own first element.
        enable_large_batch_splitting: A request may be cut into several batches.
        max_execution_batch_size: With splitting, rows of a batch, while `max_batch_size` only bounds the request;
            None makes them equal.

    Raises:
        UserError: A value out of range.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    def __post_init__(self) -> None:
        """Checks the values."""
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"Expected {name} of at least {least} for batching, got {value}. Raise it.")
        if self.execution_size > self.max_batch_size:
            raise UserError(
                f"Expected max_execution_batch_size of at most max_batch_size for batching, got {self.execution_size} "
                f"and {self.max_batch_size}. Lower the first or raise the second."
            )
        sizes = self.allowed_batch_sizes
        if sizes and (sizes[-1] != self.execution_size or sizes[0] < 1 or sorted(set(sizes)) != list(sizes)):
            raise UserError(
                f"Expected allowed_batch_sizes to increase from 1 or more to the largest size of a batch, "
                f"{self.execution_size}, got {list(sizes)}. Change the list, or max_batch_size."
            )

    @property
    def execution_size(self) -> int:
        """Rows of the largest batch that is run."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    def padded_size(self, rows: int) -> int:
        """Returns the rows that a batch of `rows` is padded to; 0 stays 0, because there is no row to repeat."""
        return rows and next((size for size in self.allowed_batch_sizes if size >= rows), rows)

    @classmethod
    def read(cls, path: Path) -> "BatchingParameters":
        """Reads a text-format `tensorflow.serving.BatchingParameters`, such as `max_batch_size { value: 32 }`.

        Raises:
            UserError: See `text_proto.read`; or a value out of range.
        """
        message = text_proto.read(path, _MESSAGE())
        values = {field.name: value.value if field.message_type else value for field, value in message.ListFields()}
        sizes = tuple(values.pop("allowed_batch_sizes", ()))
        return cls(allowed_batch_sizes=sizes, **values)
