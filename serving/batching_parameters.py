"""What an operator may set about batching: TF Serving's text file, with its names, its defaults and its rules."""

import dataclasses
import os
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from tfdnc.errors import UserError

# The Python package of TF Serving's API ships without this message; text format needs its names and types only.
_PROTO = """
name: "tensorflow_serving/servables/tensorflow/session_bundle_config.proto" package: "tensorflow.serving"
syntax: "proto3" dependency: "google/protobuf/wrappers.proto"
message_type { name: "BatchingParameters"
  field { number: 1 name: "max_batch_size" type_name: ".google.protobuf.Int64Value" }
  field { number: 2 name: "batch_timeout_micros" type_name: ".google.protobuf.Int64Value" }
  field { number: 3 name: "max_enqueued_batches" type_name: ".google.protobuf.Int64Value" }
  field { number: 4 name: "num_batch_threads" type_name: ".google.protobuf.Int64Value" }
  field { number: 5 name: "thread_pool_name" type_name: ".google.protobuf.StringValue" }
  field { number: 6 name: "allowed_batch_sizes" type: TYPE_INT64 label: LABEL_REPEATED }
  field { number: 7 name: "pad_variable_length_inputs" type: TYPE_BOOL }
  field { number: 8 name: "enable_large_batch_splitting" type_name: ".google.protobuf.BoolValue" }
  field { number: 9 name: "max_execution_batch_size" type_name: ".google.protobuf.Int64Value" }
}
"""
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
        batch_timeout_micros: How long a batch waits for more rows while a thread is idle.
        max_enqueued_batches: Batches of one kind that wait for a thread before requests are refused.
        num_batch_threads: Batches that run at the same time.
        thread_pool_name: Beginning of the threads' names.
        allowed_batch_sizes: If given, a batch is filled up to the next of these sizes; the last is the size of a
            batch.
        pad_variable_length_inputs: Whether requests of different inner shapes share a batch. A shorter tensor is
            filled up with its own first element, whatever that is.
        enable_large_batch_splitting: Whether a request may be cut into several batches.
        max_execution_batch_size: With splitting, rows of a batch, while `max_batch_size` only bounds the request;
            None makes them equal.

    Raises:
        UserError: A value that cannot be.
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

    def __post_init__(self):
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
        """Returns the rows that a batch of `rows` is run with."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)

    @classmethod
    def read(cls, path: Path) -> "BatchingParameters":
        """Reads a text-format `tensorflow.serving.BatchingParameters`, such as `max_batch_size { value: 32 }`.

        Raises:
            UserError: No such file, not such a message, or values that cannot be.
        """
        message = _message_class()()
        try:
            text_format.Parse(Path(path).read_text(), message)
        except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
            known = ", ".join(field.name for field in dataclasses.fields(cls))
            raise UserError(
                f"Expected batching parameters, such as `max_batch_size {{ value: 32 }}`, in {path}, could not read "
                f"them: {error}. Correct the file; it may set {known}."
            ) from error
        values = {field.name: value.value if field.message_type else value for field, value in message.ListFields()}
        sizes = tuple(values.pop("allowed_batch_sizes", ()))
        return cls(allowed_batch_sizes=sizes, **values)


def _message_class():
    pool = descriptor_pool.DescriptorPool()  # of our own: a release that ships the message must not meet a second one
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(text_format.Parse(_PROTO, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.BatchingParameters"))
