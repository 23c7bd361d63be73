"""
EDGE: bpf(2) by ctypes, as much of it as device filters need. Raises OSError with the kernel's errno.

Attributes are passed whole: kernels 6.17 to 7.1 write past a short one of BPF_PROG_QUERY.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from attach.points import Hook, nowhere, point

_SYSCALL: Final = {"x86_64": 321, "aarch64": 280}
_LOAD, _ATTACH, _DETACH, _FD_BY_ID, _INFO, _QUERY = 5, 8, 9, 13, 15, 16
_CGROUP_DEVICE: Final = 15  # of program types
_ATTACH_DEVICE: Final = 6  # of attach types
_MULTI, _REPLACE, _EFFECTIVE = 2, 4, 1
_LOG_BYTES: Final = 1 << 16
_INFO_BYTES: Final = 256
_QUERY_TRIES: Final = 6  # 64 programs fit on one cgroup; the effective ones are those of every level

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Program:
    """A program that is attached: what it is called, whether it uses maps, and its instructions where it does not."""

    number: int
    name: str
    has_maps: bool
    code: bytes


@dataclass(frozen=True, slots=True)
class Attached:
    """The programs on a cgroup, in the kernel's order, and the flags with which they were attached."""

    flags: int
    numbers: tuple[int, ...]


def call(command: int, attribute: bytes, doing: str) -> tuple[int, bytes]:
    """Do one command; gives its result, and the attribute as the kernel left it."""
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf: no system call number is known for {platform.machine()}")
    buffer = ctypes.create_string_buffer(attribute, len(attribute))
    result = _libc.syscall(number, command, ctypes.byref(buffer), len(attribute))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{doing}: {os.strerror(code)}")
    return result, buffer.raw


class Bpf:
    """The kernel's device filters."""

    def __init__(self, at: Hook = nowhere) -> None:
        self.at = at

    def query(self, cgroup_fd: int, *, effective: bool = False) -> Attached:
        """List what is attached to a cgroup, or with *effective* all that has a say in it."""
        flags = _EFFECTIVE if effective else 0
        room = 64
        for left in reversed(range(_QUERY_TRIES)):
            numbers = (ctypes.c_uint32 * room)()
            attribute = struct.pack(
                "<IIIIQII4Q", cgroup_fd, _ATTACH_DEVICE, flags, 0, ctypes.addressof(numbers), room, 0, 0, 0, 0, 0
            )
            try:
                _, out = call(_QUERY, attribute, "query the programs of a cgroup")
            except OSError as error:
                if error.errno != errno.ENOSPC or not left:
                    raise
                room *= 4
                continue
            attach_flags, count = struct.unpack_from("<I", out, 12)[0], struct.unpack_from("<I", out, 24)[0]
            return Attached(attach_flags, tuple(numbers[:count]))
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def opened(self, number: int) -> Iterator[int]:
        """Hold a program by its number, so that the number can't come to mean another one."""
        fd, _ = call(_FD_BY_ID, struct.pack("<III", number, 0, 0), f"open program {number}")
        try:
            yield fd
        finally:
            os.close(fd)

    def read(self, program_fd: int) -> Program:
        """Read a program back; the instructions of one without maps can be loaded again."""
        info = ctypes.create_string_buffer(_INFO_BYTES)
        self._info(program_fd, info)
        number, length = struct.unpack_from("<I", info.raw, 4)[0], struct.unpack_from("<I", info.raw, 20)[0]
        name = info.raw[64:80].split(b"\0")[0].decode("ascii", "replace")
        if struct.unpack_from("<I", info.raw, 52)[0]:
            return Program(number, name, has_maps=True, code=b"")
        code = ctypes.create_string_buffer(length)
        info = ctypes.create_string_buffer(_INFO_BYTES)
        struct.pack_into("<I", info, 20, length)
        struct.pack_into("<Q", info, 32, ctypes.addressof(code))
        self._info(program_fd, info)
        return Program(number, name, has_maps=False, code=code.raw[:length])

    def _info(self, program_fd: int, info: ctypes.Array[ctypes.c_char]) -> None:
        attribute = struct.pack("<IIQ", program_fd, len(info), ctypes.addressof(info))
        call(_INFO, attribute, "read a program")

    @contextmanager
    def loaded(self, code: bytes, name: str) -> Iterator[int]:
        """
        Load a program; it lives on where it is attached before the block ends.

        Raises:
            OSError: The verifier's last words are in it.
        """
        try:
            fd = self._load(code, name, None)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EACCES):
                raise
            log = ctypes.create_string_buffer(_LOG_BYTES)
            try:
                fd = self._load(code, name, log)
            except OSError as again:
                words = log.value.decode("ascii", "replace").strip().splitlines()[-3:]
                raise OSError(again.errno, f"load a program: {'; '.join(words) or error.strerror}") from error
        try:
            yield fd
        finally:
            os.close(fd)

    @point("load a program")
    def _load(self, code: bytes, name: str, log: ctypes.Array[ctypes.c_char] | None) -> int:
        instructions = ctypes.create_string_buffer(code, len(code))
        licence = ctypes.create_string_buffer(b"Apache-2.0")
        attribute = struct.pack(
            "<IIQQIIQII16sII",
            *(_CGROUP_DEVICE, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence)),
            *((1, len(log), ctypes.addressof(log)) if log is not None else (0, 0, 0)),
            *(0, 0, name.encode("ascii"), 0, 0),
        )
        return call(_LOAD, attribute, "load a program")[0]

    @point("replace a program")
    def replace(self, cgroup_fd: int, new_fd: int, old_fd: int, flags: int) -> None:
        """
        Put one program in another's place at once: no open meets neither or both.

        Args:
            flags: Those of the cgroup; one that takes a single program replaces it by itself.
        """
        if flags & _MULTI:
            attribute = struct.pack("<IIIII", cgroup_fd, new_fd, _ATTACH_DEVICE, _MULTI | _REPLACE, old_fd)
        else:
            attribute = struct.pack("<IIIII", cgroup_fd, new_fd, _ATTACH_DEVICE, flags, 0)
        call(_ATTACH, attribute, "replace a program")

    @point("detach a program")
    def detach(self, cgroup_fd: int, program_fd: int) -> None:
        """Take a program away."""
        call(_DETACH, struct.pack("<IIII", cgroup_fd, program_fd, _ATTACH_DEVICE, 0), "detach a program")
