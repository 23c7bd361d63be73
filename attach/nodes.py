"""
EDGE: device nodes in a container's /dev, reached by /proc/PID/root and never through a symlink.

A folder is opened once and worked on by descriptor; nothing in the image is run, so it may be empty and read-only.
"""

import errno
import os
import select
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from attach import opener
from attach.cgroup import Hierarchy, path_of
from attach.errors import AttachError, Gone, Refused, Unknown
from attach.kernel import BENEATH, NO_MAGICLINKS, NO_SYMLINKS, openat2
from attach.model import Access, CgroupVersion, Container, DeviceNode, NodeState, Process
from attach.points import Hook, nowhere, point
from attach.reasons import Reason

_INSIDE: Final = NO_SYMLINKS | NO_MAGICLINKS | BENEATH
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_MODE: Final = 0o666  # as the drivers make theirs: the rule decides who may open it
_LEADS_AWAY: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EXDEV})
_START_DEADLINE_S: Final = 30.0  # of a Python, on a node that is slow or has much to do
_OPEN_DEADLINE_S: Final = 2.0
_END_DEADLINE_S: Final = 1.0  # of one that was killed; a driver may keep it in an open that nothing ends
_REFUSALS: Final[Mapping[int, tuple[Reason, str]]] = {
    errno.EROFS: ("DevReadOnly", "its /dev is mounted read-only"),
    errno.EOVERFLOW: ("UserNamespace", "its /dev belongs to a user namespace, in which no device node can be made"),
    errno.EPERM: ("UserNamespace", "its /dev belongs to a user namespace, in which no device node can be made"),
    errno.EEXIST: ("NodeForeign", "something else was put there meanwhile"),
}
_ACCESS: Final = {0: Access.OPENS, errno.EPERM: Access.DENIED, errno.ENOENT: Access.MISSING}


class HostNodes:
    """Device nodes of containers on this node."""

    def __init__(self, hierarchy: Hierarchy, proc: Path = Path("/proc"), at: Hook = nowhere) -> None:
        self.at = at
        self._proc = proc
        self._hierarchy = hierarchy
        self._opener: subprocess.Popen[bytes] | None = None
        self._hung: list[subprocess.Popen[bytes]] = []

    def state(self, container: Container, node: DeviceNode) -> NodeState:
        """See the port."""
        with self._root(container) as root:
            try:
                with self._parent(root, node, make=False) as (folder, name):
                    return self._look(container, folder, name, node)
            except FileNotFoundError:
                return NodeState.ABSENT
            except OSError as error:
                if error.errno in _LEADS_AWAY:
                    return NodeState.FOREIGN
                raise _unknown(container, node, error) from error

    def _look(self, container: Container, folder: int, name: str, node: DeviceNode) -> NodeState:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != node.rdev:
            return NodeState.FOREIGN
        return NodeState.HOST if found.st_dev in self._host_devs(container) else NodeState.RIGHT

    def _host_devs(self, container: Container) -> set[int]:
        """
        Tell the host's own /dev from a container's: all of it, or one node, may be mounted into the container.

        It is a devtmpfs, of which a kernel has one; where the node is itself a container, what its first process has.
        """
        found = set[int]()
        for place in (self._proc / "1/root/dev", Path("/dev")):
            with suppress(OSError):
                found.add(os.stat(place).st_dev)
        for line in (self._proc / str(container.init.pid) / "mountinfo").read_bytes().split(b"\n"):
            before, _, after = line.partition(b" - ")
            if after.startswith(b"devtmpfs "):
                major, _, minor = before.split(b" ")[2].partition(b":")
                found.add(os.makedev(int(major), int(minor)))
        return found

    def show(self, container: Container, node: DeviceNode) -> None:
        """See the port."""
        with self._root(container) as root:
            try:
                with self._parent(root, node, make=True) as (folder, name):
                    self._make(container, folder, name, node)
            except OSError as error:
                if error.errno in _LEADS_AWAY:
                    raise Refused(
                        "PathLeadsElsewhere", f"pod {container.target}: {node.path} goes through a symlink or a file"
                    ) from error
                raise _unknown(container, node, error) from error

    def _make(self, container: Container, folder: int, name: str, node: DeviceNode) -> None:
        with suppress(FileNotFoundError):
            if self._look(container, folder, name, node) is NodeState.FOREIGN:
                raise Refused(
                    "NodeForeign",
                    f"pod {container.target}: {node.path} is there and is not device {node.major}:{node.minor}; "
                    "remove it from the image",
                )
            return
        self._mknod(folder, name, node)

    @point("make a node")
    def _mknod(self, folder: int, name: str, node: DeviceNode) -> None:
        mask = os.umask(0)  # so that a node is never there with another mode
        try:
            os.mknod(name, _MODE | stat.S_IFCHR, node.rdev, dir_fd=folder)
        finally:
            os.umask(mask)

    @point("make a folder")
    def _mkdir(self, folder: int, name: str) -> None:
        os.mkdir(name, 0o755, dir_fd=folder)

    @point("remove a node")
    def _unlink(self, folder: int, name: str) -> None:
        os.unlink(name, dir_fd=folder)

    def hide(self, container: Container, node: DeviceNode) -> None:
        """See the port."""
        with suppress(Gone), self._root(container) as root:
            try:
                with self._parent(root, node, make=False) as (folder, name):
                    if self._look(container, folder, name, node) is NodeState.RIGHT:
                        self._unlink(folder, name)
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno not in _LEADS_AWAY:
                    raise _unknown(container, node, error) from error

    @contextmanager
    def _parent(self, root: int, node: DeviceNode, *, make: bool) -> Iterator[tuple[int, str]]:
        """Hold the folder that a node is in, and give its name there; with *make*, folders below /dev are made."""
        parts = Path(node.path).relative_to("/").parts
        folder = os.dup(root)
        try:
            for depth, part in enumerate(parts[:-1]):
                if make and depth:
                    with suppress(FileExistsError):
                        self._mkdir(folder, part)
                inner = openat2(folder, part, _FOLDER, _INSIDE)
                os.close(folder)
                folder = inner
            yield folder, parts[-1]
        finally:
            os.close(folder)

    @contextmanager
    def _root(self, container: Container) -> Iterator[int]:
        """Hold the container's root folder, made sure to be that of this very process."""
        try:
            fd = os.open(self._proc / str(container.init.pid) / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Gone("ContainerGone", f"pod {container.target}: process {container.init.pid} has ended") from error
        except OSError as error:
            raise Unknown(
                "NamespaceClosed", f"pod {container.target}: cannot enter its mount namespace: {error.strerror}"
            ) from error
        try:
            if self._start_ticks(container.init) != container.init.start_ticks:
                raise Gone("ContainerGone", f"pod {container.target}: process {container.init.pid} has ended")
            yield fd
        finally:
            os.close(fd)

    def _start_ticks(self, process: Process) -> int | None:
        with suppress(FileNotFoundError, ProcessLookupError):
            text = (self._proc / str(process.pid) / "stat").read_text(encoding="utf-8", errors="replace")
            return int(text.rpartition(")")[2].split()[19])
        return None

    def access(self, container: Container, node: DeviceNode) -> Access:
        """See the port."""
        if _is_frozen(container):
            return Access.FAILS
        members = self._members(container)
        if members is None:
            raise Gone("ContainerGone", f"pod {container.target}: process {container.init.pid} has ended")
        answer = self._ask(f"{container.init.pid} {container.init.start_ticks} {node.path} {members}")
        if answer == "gone":
            raise Gone("ContainerGone", f"pod {container.target}: process {container.init.pid} has ended")
        return _ACCESS.get(int(answer), Access.FAILS) if answer.isdigit() else Access.FAILS

    def _members(self, container: Container) -> str | None:
        """Name the file that takes pids of the cgroup where the container's first process is, which may be deeper."""
        with suppress(FileNotFoundError, ProcessLookupError):
            path = self._cgroup(str(container.init.pid))
            return None if path is None else f"{self._hierarchy.mount}{path}/cgroup.procs"
        return None

    def _cgroup(self, pid: str) -> str | None:
        return path_of(os.fsdecode((self._proc / pid / "cgroup").read_bytes()), self._hierarchy.version)

    def _ask(self, request: str) -> str:
        """Put a request to the child that opens; one that gives no answer is ended, and another takes its place."""
        for _ in range(2):
            child = self._child()
            if child is None:
                return "timeout"
            assert child.stdin is not None  # noqa: S101 - a pipe
            with suppress(BrokenPipeError):
                child.stdin.write(os.fsencode(f"{request}\n"))
                child.stdin.flush()
                answer = _line(child, _OPEN_DEADLINE_S)
                if answer is None:
                    self.close()
                    return "timeout"
                if answer:
                    return answer
            self.close()  # it was killed, say with the container whose cgroup it was in
        return "died"

    def _child(self) -> subprocess.Popen[bytes] | None:
        """Give the child that opens, once it is ready; None: it does not become so, and is ended."""
        if self._opener is None:
            home = f"{self._hierarchy.mount}{self._cgroup('self')}/cgroup.procs"
            self._opener = subprocess.Popen(  # noqa: S603 - our own file
                [sys.executable, "-I", "-S", opener.__file__, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            if _line(self._opener, _START_DEADLINE_S) is None:
                self.close()  # else the answer to one request would be taken for that to the next
        return self._opener

    def close(self) -> None:
        """End the child that opens."""
        child, self._opener = self._opener, None
        if child is not None:
            child.kill()
            with suppress(subprocess.TimeoutExpired):
                child.wait(_END_DEADLINE_S)
            self._hung = [one for one in (*self._hung, child) if one.poll() is None]  # else it is never reaped
            for pipe in (child.stdin, child.stdout):
                with suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()


def _line(child: subprocess.Popen[bytes], within_s: float) -> str | None:
    """Read a line of a child's; "" where it has ended, None where none comes in time."""
    assert child.stdout is not None  # noqa: S101 - a pipe
    return child.stdout.readline().decode().strip() if select.select([child.stdout], [], [], within_s)[0] else None


def _is_frozen(container: Container) -> bool:
    """Say whether a process that enters the cgroup would stand still; version 1 freezes in a tree of its own."""
    if container.cgroup.version is CgroupVersion.V1:
        return False
    with suppress(OSError):
        return "frozen 1" in Path(container.cgroup.path, "cgroup.events").read_text(encoding="ascii").splitlines()
    return False


def _unknown(container: Container, node: DeviceNode, error: OSError) -> AttachError:
    doing = f"pod {container.target}: cannot make or look at {node.path}"
    if known := _REFUSALS.get(error.errno or 0):
        return Refused(known[0], f"{doing}: {known[1]}")
    return Unknown("NodeUnknown", f"{doing}: {error.strerror}")
