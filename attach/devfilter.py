"""
Device rules ↔ the instructions of a BPF_PROG_TYPE_CGROUP_DEVICE program. Pure: bytes in, bytes out.

A program of ours is a prologue, one instruction for each device, and then, word for word, the program that stood there
before: what ours does not allow falls through to it. Scratch is r0, since that program starts by reading r1.
A second branch for each device would cost the kernel's verifier four times as much.
"""

import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import lru_cache
from typing import Final

CHARACTER: Final = 2  # of the context's device types; 1 is a block device
SIZE: Final = 8
_MINOR_BITS: Final = 20  # of a device's number in the kernel; 12 are the major's
_LOAD_WORD: Final = 0x61
_EXIT: Final = 0x95
_GOTO: Final = 0x05
NAME_PATTERN: Final = re.compile(r"podsla_(\d{1,7})")


class AccessType(IntFlag):
    """What a process wants to do with a device, as the kernel numbers it."""

    MKNOD = 1
    READ = 2
    WRITE = 4


READ_WRITE: Final = AccessType.READ | AccessType.WRITE


class FilterError(Exception):
    """A program is not what it is taken for, or has an instruction that no device filter needs."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One BPF instruction; the fields' names are the kernel's."""

    code: int
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0

    def encode(self) -> bytes:
        """Render the eight bytes, little-endian."""
        return struct.pack("<BBhi", self.code, self.src << 4 | self.dst, self.off, self.imm)


def decode(program: bytes) -> tuple[Instruction, ...]:
    """
    Read a program's instructions.

    Raises:
        FilterError: The length is no multiple of eight.
    """
    if len(program) % SIZE:
        raise FilterError(f"{len(program)} bytes are no whole number of instructions")
    fields = struct.iter_unpack("<BBhi", program)
    return tuple(Instruction(code, registers & 15, registers >> 4, off, imm) for code, registers, off, imm in fields)


def _encode(code: Iterable[Instruction]) -> bytes:
    return b"".join(each.encode() for each in code)


_LOADS: Final = (
    Instruction(0x61, 2, 1, 0),  # r2 = device type
    Instruction(0x54, 2, imm=0xFFFF),
    Instruction(0x61, 3, 1, 0),  # r3 = access
    Instruction(0x74, 3, imm=16),
    Instruction(0x61, 4, 1, 4),  # r4 = major
    Instruction(0x61, 5, 1, 8),  # r5 = minor
)
_JOIN: Final = (
    Instruction(0x64, 4, imm=_MINOR_BITS),
    Instruction(0x4C, 5, 4),  # r5 = both, as the kernel puts them into one word
)
_GUARD_BYTES: Final = 4 * SIZE
_ALLOW: Final = _encode((Instruction(_GOTO, off=2), Instruction(0xB7, 0, imm=1), Instruction(_EXIT)))


@dataclass(frozen=True, slots=True)
class _Form:
    """
    How our part of a program is laid out.

    Attributes:
        rule: One rule, or the part of it that tells the device.
        write: The rules that allow devices.
        read: The device of one rule, by its fields.
    """

    prologue: bytes
    rule: struct.Struct
    write: Callable[[struct.Struct, Sequence[int]], Iterator[bytes]]
    read: Callable[[tuple[int, ...]], int]

    def guard(self, count: int) -> bytes:
        """Go on behind our rules at once unless a character device is to be read or written, or both, and no more."""
        behind = (count * self.rule.size + len(_ALLOW)) // SIZE
        return _encode(
            (
                Instruction(0x55, 2, off=behind + 3, imm=CHARACTER),
                Instruction(0xBC, 0, 3),
                Instruction(0x54, 0, imm=int(READ_WRITE)),
                Instruction(0x5D, 0, 3, off=behind),
            )
        )

    def assemble(self, ordered: Sequence[int], tail: bytes) -> bytes:
        """Put rules before *tail*."""
        return b"".join((self.prologue, self.guard(len(ordered)), *self.write(self.rule, ordered), _ALLOW, tail))

    def split(self, count: int, program: bytes) -> tuple[frozenset[int], bytes] | None:
        """Take a program apart; None: it is not laid out so."""
        head = len(self.prologue) + _GUARD_BYTES
        rules = program[head : head + count * self.rule.size]
        if len(rules) < count * self.rule.size:
            return None
        rdevs, tail = (
            frozenset(map(self.read, self.rule.iter_unpack(rules))),
            program[head + len(rules) + len(_ALLOW) :],
        )
        whole = len(rdevs) == count and self.assemble(sorted(rdevs), tail) == program
        return (rdevs, tail) if whole else None


def _words(rule: struct.Struct, rdevs: Sequence[int]) -> Iterator[bytes]:
    """If the device is this one, allow."""
    for at, rdev in enumerate(rdevs):
        yield rule.pack(0x16, 5, len(rdevs) - at, os.major(rdev) << _MINOR_BITS | os.minor(rdev))


def _pairs(rule: struct.Struct, rdevs: Sequence[int]) -> Iterator[bytes]:
    """If the major is another, leave one out; if the minor is this, allow."""
    for at, rdev in enumerate(rdevs):
        yield rule.pack(0x55, 4, 1, os.major(rdev), 0x15, 5, 2 * (len(rdevs) - at) - 1, os.minor(rdev))


_FORM: Final = _Form(
    _encode((*_LOADS, *_JOIN)),
    struct.Struct("<BBhI"),
    _words,
    lambda fields: os.makedev(fields[3] >> _MINOR_BITS, fields[3] % (1 << _MINOR_BITS)),
)
# What agents wrote until November 2026: it may be on a node still, and is taken away or written anew as well.
_EARLIER: Final = _Form(
    _encode(_LOADS), struct.Struct("<BBhIBBhI"), _pairs, lambda fields: os.makedev(fields[3], fields[7])
)


def assemble(rdevs: Iterable[int], tail: bytes) -> bytes:
    """Put the rules that allow *rdevs* before *tail*; with none, it is *tail* itself."""
    ordered = sorted(set(rdevs))
    return _FORM.assemble(ordered, tail) if ordered else tail


def name_of(rdevs: Iterable[int]) -> str:
    """Name a program, so that it is known again without a record: how many rules of ours are in it; "" for none."""
    count = len(set(rdevs))
    return f"podsla_{count}" if count else ""


@lru_cache(maxsize=256)
def split(name: str, program: bytes) -> tuple[frozenset[int], bytes]:
    """
    Take a program apart: the devices that rules of ours in it allow, and what stood there before.

    Raises:
        FilterError: It has our name and yet was not made here.
    """
    match = NAME_PATTERN.fullmatch(name)
    if match is None:
        return frozenset(), program
    count = int(match[1])
    for form in (_FORM, _EARLIER) if count else ():
        if (found := form.split(count, program)) is not None:
            return found
    raise FilterError(f"program {name!r} does not begin with the {count} rules that its name promises")


_ALU: Final[dict[int, tuple[str, Callable[[int, int], int]]]] = {
    0x0: ("+=", lambda a, b: a + b),
    0x1: ("-=", lambda a, b: a - b),
    0x2: ("*=", lambda a, b: a * b),
    0x4: ("|=", lambda a, b: a | b),
    0x5: ("&=", lambda a, b: a & b),
    0x6: ("<<=", lambda a, b: a << b),
    0x7: (">>=", lambda a, b: a >> b),
    0xA: ("^=", lambda a, b: a ^ b),
    0xB: ("=", lambda a, b: b),
}
_JUMPS: Final[dict[int, tuple[str, Callable[[int, int], bool]]]] = {
    0x1: ("==", lambda a, b: a == b),
    0x2: (">", lambda a, b: a > b),
    0x3: (">=", lambda a, b: a >= b),
    0x4: ("&", lambda a, b: bool(a & b)),
    0x5: ("!=", lambda a, b: a != b),
    0xA: ("<", lambda a, b: a < b),
    0xB: ("<=", lambda a, b: a <= b),
}
_CLASSES_ALU: Final = {0x04: 0xFFFFFFFF, 0x07: 0xFFFFFFFFFFFFFFFF}
_CLASSES_JUMP: Final = {0x06: 0xFFFFFFFF, 0x05: 0xFFFFFFFFFFFFFFFF}


@lru_cache(maxsize=4096)  # the same few programs are read over and over
def evaluate(program: bytes, rdev: int, access: AccessType = READ_WRITE, kind: int = CHARACTER) -> bool:
    """
    Say what the program answers when a device is opened: True allows.

    Raises:
        FilterError: It has an instruction that is not understood here: a map, a call, a store.
    """
    code = decode(program)
    context = {0: int(access) << 16 | kind, 4: os.major(rdev), 8: os.minor(rdev)}
    registers: dict[int, int] = {}
    at = 0
    try:
        while (now := code[at]).code != _EXIT:
            if (left_out := _step(now, registers, context)) < 0:
                raise FilterError(f"instruction {at} jumps back")
            at += 1 + left_out
    except (IndexError, KeyError) as error:
        raise FilterError(f"instruction {at} is none that a device filter needs") from error
    return bool(registers.get(0, 0) & 0xFFFFFFFF)


def _step(now: Instruction, registers: dict[int, int], context: dict[int, int]) -> int:
    """Do one instruction; the answer is how many to leave out after it."""
    kind, operation, by_register = now.code & 7, now.code >> 4, now.code & 8
    if now.code == _LOAD_WORD and now.src == 1:
        registers[now.dst] = context[now.off]
    elif now.code == _GOTO:
        return now.off
    elif mask := _CLASSES_ALU.get(kind):
        value = (registers[now.src] if by_register else now.imm) & mask
        before = 0 if operation == 0xB else registers[now.dst] & mask
        registers[now.dst] = _ALU[operation][1](before, value) & mask
    elif mask := _CLASSES_JUMP.get(kind):
        value = (registers[now.src] if by_register else now.imm) & mask
        return now.off if _JUMPS[operation][1](registers[now.dst] & mask, value) else 0
    else:
        raise KeyError(now.code)
    return 0


def listing(name: str, program: bytes) -> str:
    """Render a program for a person: the rules of ours by name, the rest by instruction."""
    rdevs, tail = split(name, program)
    ours = [f"allow c {os.major(rdev)}:{os.minor(rdev)} rw" for rdev in sorted(rdevs)]
    return "\n".join([*ours, *_lines(decode(tail))]) + "\n"


def _lines(code: tuple[Instruction, ...]) -> Iterator[str]:
    for at, now in enumerate(code):
        yield f"{at:4}: {_text(at, now)}"


def _text(at: int, now: Instruction) -> str:
    kind, operation = now.code & 7, now.code >> 4
    value = f"r{now.src}" if now.code & 8 else str(now.imm)
    if now.code == _EXIT:
        return "exit"
    if now.code == _LOAD_WORD:
        return f"r{now.dst} = *(u32 *)(r{now.src} + {now.off})"
    if now.code == _GOTO:
        return f"goto {at + 1 + now.off}"
    if kind in _CLASSES_ALU and operation in _ALU:
        register = "w" if kind == 0x04 else "r"
        value = value.replace("r", register)
        return f"{register}{now.dst} {_ALU[operation][0]} {value}"
    if kind in _CLASSES_JUMP and operation in _JUMPS:
        return f"if r{now.dst} {_JUMPS[operation][0]} {value} goto {at + 1 + now.off}"
    return now.encode().hex(" ")
