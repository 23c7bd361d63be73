"""EDGE: system calls that Python has no function for. Raises OSError with the kernel's errno."""

import ctypes
import os
import platform
import stat
import struct
from typing import Final

NO_SYMLINKS: Final = 0x04
NO_MAGICLINKS: Final = 0x02
BENEATH: Final = 0x08
IN_ROOT: Final = 0x10

_OPENAT2: Final = 437  # on every machine
_KCMP: Final = {"x86_64": 312, "aarch64": 272}
_KCMP_FILES: Final = 2
_AT_FDCWD: Final = -100
_NO_SYNC: Final = 0x4000  # statx: a dead network file system must not hold us up
_WANT_TYPE: Final = 0x1
_Statx: Final = ctypes.c_char * 256
_TYPE_AND_RDEV: Final = struct.Struct("<H98xII")

_libc = ctypes.CDLL(None, use_errno=True)


def _raise(doing: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, f"{doing}: {os.strerror(code)}")


def openat2(folder_fd: int, path: str, flags: int, resolve: int) -> int:
    """Open *path*, going only where *resolve* lets it."""
    how = struct.pack("<QQQ", flags | os.O_CLOEXEC, 0, resolve)
    fd = int(_libc.syscall(_OPENAT2, folder_fd, os.fsencode(path), how, len(how)))
    if fd < 0:
        _raise(f"open {path}")
    return fd


def character_rdev(path: str | bytes, folder_fd: int = _AT_FDCWD) -> int | None:
    """Tell which character device a path leads to, asking no network; None: it leads to none."""
    buffer = _Statx()
    if _libc.statx(folder_fd, os.fsencode(path), _NO_SYNC, _WANT_TYPE, buffer):
        _raise(f"look at {os.fsdecode(path)}")
    mode, major, minor = _TYPE_AND_RDEV.unpack_from(buffer, 28)
    return os.makedev(major, minor) if stat.S_ISCHR(mode) else None


def shares_files(pid: int, thread: int) -> bool:
    """Say whether a thread has its process's table of descriptors; a kernel that can't tell is answered with no."""
    number = _KCMP.get(platform.machine())
    return number is not None and _libc.syscall(number, pid, thread, _KCMP_FILES, 0, 0) == 0
