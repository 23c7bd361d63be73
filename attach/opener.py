"""
EDGE: opens devices as a process of a container would; run by attach.nodes as a child of its own. Standard library only,
and little of it: `typing` takes a sixth of this process's memory, so nothing is marked Final here.

A request is a line "PID START_TICKS PATH MEMBERS": a process of the container, what to open, and the file of its cgroup
that takes pids, whose folder a container may have named: only a newline ends the line. The answer is a line: an errno,
0 for opened, or "gone". For as long as that takes this process is in the container's cgroup, with its user and groups
and without any capability that counts. Its first line is "ready".
"""

import ctypes
import errno
import os
import struct
import sys

_OPENAT2 = 437
_IN_ROOT = 0x10
_NO_MAGICLINKS = 0x02
_FLAGS = os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


def _open(root_fd: int, path: bytes) -> int:
    how = struct.pack("<QQQ", _FLAGS, 0, _IN_ROOT | _NO_MAGICLINKS)
    fd = int(_libc.syscall(_OPENAT2, root_fd, path, how, len(how)))
    if fd < 0:
        return ctypes.get_errno()
    os.close(fd)
    return 0


def _identity(pid: int) -> tuple[int, int, list[int]]:
    """Read the effective user, group and further groups of a process."""
    with open(f"/proc/{pid}/status", "rb") as file:
        fields = dict(line.split(b":", 1) for line in file if b":" in line)
    return (
        int(fields[b"Uid"].split()[1]),
        int(fields[b"Gid"].split()[1]),
        [int(group) for group in fields[b"Groups"].split()],
    )


def _start_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def _go_home(home_fd: int) -> None:
    """Leave the container's cgroup; what can't must end, for it is not to stay there."""
    try:
        os.write(home_fd, b"0")
    except OSError:
        os._exit(1)


def _attempt(pid: int, start_ticks: int, path: bytes, members: bytes, home_fd: int) -> str:
    root_fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        user, group, groups = _identity(pid)
        if _start_ticks(pid) != start_ticks:  # asked last: all that was read is of this very process
            return "gone"
        members_fd = os.open(members, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(members_fd, b"0")
        finally:
            os.close(members_fd)
        try:
            os.setgroups(groups)
            os.setegid(group)
            os.seteuid(user)
            return str(_open(root_fd, path))
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups([])
            _go_home(home_fd)
    finally:
        os.close(root_fd)


def main(home: str) -> None:
    """Answer requests until there are no more. *home* is the file of this process's own cgroup that takes pids."""
    home_fd = os.open(home, os.O_WRONLY | os.O_CLOEXEC)
    print("ready", flush=True)
    for line in sys.stdin.buffer:
        pid, start_ticks, path, members = line.removesuffix(b"\n").split(b" ", 3)
        try:
            answer = _attempt(int(pid), int(start_ticks), path, members, home_fd)
        except OSError as error:
            vanished = error.errno in (errno.ENOENT, errno.ESRCH, errno.ENODEV)
            answer = "gone" if vanished else f"failed {error.strerror}"
        print(answer, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
