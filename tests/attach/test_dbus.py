"""D-Bus messages: what is written is read, what can't be understood is refused. node/ asks a real systemd."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attach.dbus import MAX_BYTES, DBusError, Reader, Writer, answer, call, property_change, rest_length, strings

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(pairs=st.lists(st.tuples(words, words), max_size=8), before=words)
def test_pairs_are_read_as_they_were_written(pairs: list[tuple[str, str]], before: str) -> None:
    written = Writer().string(before).type("a(ss)").pairs(pairs)
    reader = Reader(bytes(written.data))
    assert (reader.string(), reader.type(), reader.pairs()) == (before, "a(ss)", pairs)


def test_a_call_is_the_bytes_that_the_specification_has() -> None:
    """By hand, from the specification's section on marshalling."""
    message = call("/o", "i", "m", "s", strings("x"))
    assert message == (
        b"l\1\0\1\x06\0\0\0\1\0\0\0\x5f\0\0\0"
        b"\1\1o\0\2\0\0\0/o\0\0\0\0\0\0"
        b"\2\1s\0\1\0\0\0i\0\0\0\0\0\0\0"
        b"\3\1s\0\1\0\0\0m\0\0\0\0\0\0\0"
        b"\6\1s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0"
        b"\x08\1g\0\1s\0\0"
        b"\1\0\0\0x\0"
    )
    assert rest_length(message[:16]) == len(message) - 16


def test_a_change_resets_the_list_and_then_writes_it() -> None:
    entry = b"\1\0\0\0a\0\0\0\2\0\0\0rw\0"
    assert property_change("u", "P", [[], [("a", "rw")]]) == (
        b"\1\0\0\0u\0\0\0\1\0\0\0\x3f\0\0\0"
        b"\1\0\0\0P\0\5a(ss)\0\0\0\0\0\0\0\0\0\0\0\0"
        b"\1\0\0\0P\0\5a(ss)\0\0\0\0" + struct.pack("<I", len(entry)) + b"\0\0\0\0" + entry
    )


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"B\2\0\1" + bytes(12), id="the other byte order"),
        pytest.param(b"l\2\0\7" + bytes(12), id="another version"),
        pytest.param(b"l\2\0\1" + struct.pack("<III", MAX_BYTES, 1, 8), id="too long"),
    ],
)
def test_what_is_no_message_is_refused(header: bytes) -> None:
    with pytest.raises(DBusError):
        rest_length(header)


@given(fields=st.binary(max_size=64), body=st.binary(max_size=16))
def test_an_error_is_an_error_whatever_is_in_it(fields: bytes, body: bytes) -> None:
    padded = fields + bytes(-len(fields) % 8) + body
    with pytest.raises(DBusError):
        answer(b"l\3\0\1" + struct.pack("<III", len(body), 1, len(fields)), padded)
