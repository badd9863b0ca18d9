"""Reads config files in protobuf's text format, also of the messages that tensorflow-serving-api does not ship."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message

from tfdnc.contracts.errors import UserError

M = TypeVar("M", bound=Message)

FieldType = descriptor_pb2.FieldDescriptorProto.Type
"""TYPE_STRING, TYPE_BOOL, ...: what `define` takes."""


def define(name: str, fields: Mapping[str, FieldType | Mapping | list[FieldType]]) -> type[Message]:
    """Returns the class of a proto3 message.

    Args:
        name: Of the message.
        fields: Types by name, numbered from 1 in order: a mapping is a message inside, a list of one type is repeated.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="tensorflow.serving", syntax="proto3")
    _add_fields(file.message_type.add(name=name), f".{file.package}.{name}", fields)
    # A pool of its own: should the API package ship the message one day, the two do not collide.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))


def _add_fields(message: descriptor_pb2.DescriptorProto, path: str, fields: Mapping) -> None:
    for number, (field, kind) in enumerate(fields.items(), 1):
        if isinstance(kind, Mapping):
            inner = f"Message{number}"
            _add_fields(message.nested_type.add(name=inner), f"{path}.{inner}", kind)
            message.field.add(name=field, number=number, type_name=f"{path}.{inner}")
        elif isinstance(kind, list):
            repeated = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
            message.field.add(name=field, number=number, type=kind[0], label=repeated)
        else:
            message.field.add(name=field, number=number, type=kind)


def read(path: Path, message: M) -> M:
    """Fills `message` from the text file at `path`, and returns it.

    Raises:
        UserError: No such file, or not a text of this message.
    """
    kind = message.DESCRIPTOR.full_name
    try:
        return text_format.Parse(path.read_text(), message)
    except OSError as error:
        raise UserError(
            f"Expected a {message.DESCRIPTOR.name} in {path}, could not read it ({error.strerror}). Check the path."
        ) from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise UserError(
            f"Invalid protobuf file: '{path}': Error parsing text-format {kind}: "
            f"{str(error).replace(' : ', ': ', 1).rstrip('.')}. Correct the file."
        ) from error
