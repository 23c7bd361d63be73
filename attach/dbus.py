"""D-Bus messages ↔ bytes, as much as a call with strings, a boolean and pairs of strings needs. Pure."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_METHOD_CALL, _RETURN, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 6, 8
HEADER_BYTES: Final = 16
MAX_BYTES: Final = 1 << 20

Pairs = Sequence[tuple[str, str]]


class DBusError(Exception):
    """
    The other side said no, or nothing that can be understood.

    Attributes:
        name: "org.freedesktop.systemd1.NoSuchUnit"; "" for what can't be understood.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}" if name else message)
        self.name = name


class Writer:
    """A body or header in the making: each value is aligned to its own size."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.signature = ""

    def align(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def number(self, value: int) -> "Writer":
        self.align(4)
        self.data += struct.pack("<I", value)
        return self

    def string(self, value: str) -> "Writer":
        data = value.encode()
        self.number(len(data))
        self.data += data + b"\0"
        return self

    def type(self, signature: str) -> "Writer":
        """Write a signature as a value."""
        self.data += bytes([len(signature)]) + signature.encode() + b"\0"
        return self

    def pairs(self, values: Pairs) -> "Writer":
        """Write an array of two strings each: a(ss)."""
        self.number(0)
        at = len(self.data) - 4
        self.align(8)
        begun = len(self.data)
        for one, other in values:
            self.align(8)
            self.string(one).string(other)
        self.data[at : at + 4] = struct.pack("<I", len(self.data) - begun)
        return self


def property_change(unit: str, name: str, values: Sequence[Pairs]) -> bytes:
    """Write what SetUnitProperties takes, sba(sv): of a running unit, one list after the other; an empty one resets."""
    body = Writer().string(unit).number(1).number(0)
    at = len(body.data) - 4
    body.align(8)
    begun = len(body.data)
    for value in values:
        body.align(8)
        body.string(name).type("a(ss)").pairs(value)
    body.data[at : at + 4] = struct.pack("<I", len(body.data) - begun)
    return bytes(body.data)


def strings(*values: str) -> bytes:
    """Write a body of strings alone."""
    body = Writer()
    for value in values:
        body.string(value)
    return bytes(body.data)


def call(path: str, interface: str, member: str, signature: str, body: bytes) -> bytes:
    """Make a method call to systemd."""
    fields = Writer()
    for code, kind, value in (
        (_PATH, "o", path),
        (_INTERFACE, "s", interface),
        (_MEMBER, "s", member),
        (_DESTINATION, "s", "org.freedesktop.systemd1"),
    ):
        fields.align(8)
        fields.data.append(code)
        fields.type(kind).string(value)
    fields.align(8)
    fields.data.append(_SIGNATURE)
    fields.type("g").type(signature)
    head = struct.pack("<cBBBIII", b"l", _METHOD_CALL, 0, 1, len(body), 1, len(fields.data))
    fields.align(8)
    return head + bytes(fields.data) + body


def rest_length(header: bytes) -> int:
    """
    Tell from a message's first 16 bytes how many follow.

    Raises:
        DBusError: It is no message, or one that is too long.
    """
    order, _, _, version, body, _, fields = struct.unpack("<cBBBIII", header)
    length = int(fields) + -int(fields) % 8 + int(body)
    if order != b"l" or version != 1 or length > MAX_BYTES:
        raise DBusError("", "the answer is no D-Bus message of this machine's byte order, or it is too long")
    return length


@dataclass(slots=True)
class Reader:
    """Values out of bytes."""

    data: bytes
    at: int = 0

    def align(self, size: int) -> None:
        self.at += -self.at % size

    def number(self) -> int:
        self.align(4)
        self.at += 4
        return int(struct.unpack_from("<I", self.data, self.at - 4)[0])

    def string(self) -> str:
        length = self.number()
        self.at += length + 1
        return self.data[self.at - length - 1 : self.at - 1].decode()

    def type(self) -> str:
        length = self.data[self.at]
        self.at += length + 2
        return self.data[self.at - length - 1 : self.at - 1].decode()

    def pairs(self) -> list[tuple[str, str]]:
        length = self.number()
        self.align(8)
        end, found = self.at + length, list[tuple[str, str]]()
        while self.at < end:
            self.align(8)
            found.append((self.string(), self.string()))
        return found


def answer(header: bytes, rest: bytes) -> Reader | None:
    """
    Read an answer's body; None: the message is a signal or another that answers nothing.

    Raises:
        DBusError: It is an error, or can't be understood.
    """
    kind, fields_length = header[1], struct.unpack_from("<I", header, 12)[0]
    body = Reader(rest[fields_length + -fields_length % 8 :])
    if kind == _RETURN:
        return body
    if kind != _ERROR:
        return None
    try:
        fields = Reader(rest[:fields_length])
        while fields.at < fields_length:
            fields.align(8)
            code = rest[fields.at]
            fields.at += 1
            value = {"u": fields.number, "g": fields.type}.get(fields.type(), fields.string)()
            if code == _ERROR_NAME:
                raise DBusError(str(value), body.string() if body.data else "")
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise DBusError("", "an error came that can't be understood") from error
    raise DBusError("", "an error came without a name")
