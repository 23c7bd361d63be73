"""
EDGE: messages of the kubelet's sockets, made from tables of the fields that are read or written here.

A table says what the published .proto says, in a form that needs no compiler; a field that it does not name is skipped.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

Table: TypeAlias = Mapping[str, Mapping[str, tuple[int, str]]]
"""Message → field → its number, and "string", "bool" or a message; with "[]" behind it where it is repeated."""

_KINDS: Final = {"string": FieldDescriptorProto.TYPE_STRING, "bool": FieldDescriptorProto.TYPE_BOOL}


def make_messages(package: str, table: Table) -> dict[str, Any]:
    """Make a class for each message of *table*."""
    messages = [DescriptorProto(name=name, field=_fields(package, fields)) for name, fields in table.items()]
    pool = DescriptorPool()
    pool.Add(FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3", message_type=messages))
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in table}


def _fields(package: str, fields: Mapping[str, tuple[int, str]]) -> list[FieldDescriptorProto]:
    made = []
    for name, (number, what) in fields.items():
        kind = what.removesuffix("[]")
        field = FieldDescriptorProto(name=name, number=number, type=_KINDS.get(kind, FieldDescriptorProto.TYPE_MESSAGE))
        field.label = FieldDescriptorProto.LABEL_REPEATED if what != kind else FieldDescriptorProto.LABEL_OPTIONAL
        if kind not in _KINDS:
            field.type_name = f".{package}.{kind}"
        made.append(field)
    return made
