"""Reads config files in protobuf's text format, also of the messages that tensorflow-serving-api does not ship."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message

from tfdnc.contracts.errors import UserError

M = TypeVar("M", bound=Message)

FieldType = descriptor_pb2.FieldDescriptorProto.Type
"""TYPE_STRING, TYPE_BOOL, ...: numbers of the types of fields."""

Fields: TypeAlias = "Mapping[str, int | list[int] | Fields]"
"""Types by field name, numbered from 1 in order: a mapping is a nested message, a list of one type is repeated."""


def define(name: str, fields: Fields) -> type[Message]:
    """Returns the class of a proto3 message.

    Args:
        name: Name of the message.
        fields: Its fields.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="tensorflow.serving", syntax="proto3")
    _add_fields(file.message_type.add(name=name), f".{file.package}.{name}", fields)
    # A pool of its own avoids a conflict if the API package should ship the message one day.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))


def _add_fields(message: descriptor_pb2.DescriptorProto, path: str, fields: Fields) -> None:
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
