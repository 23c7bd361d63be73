"""
EDGE: containers and processes of the node, from the cgroup tree and /proc; signals go by pidfd.

A device is known by its number, never by its path: a container makes nodes of its own.
"""

import os
import random
import re
import select
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Final, TypeVar

from attach.cgroup import Hierarchy, belongs_to, container_id_in, path_of, pod_uid_in, unit_of, usual_places
from attach.errors import Refused, Unknown
from attach.kernel import character_rdev, shares_files
from attach.model import Cgroup, Container, Holder, Process, Target
from attach.points import Hook, nowhere, point

SANDBOXES: Final = ("runsc", "qemu-system", "cloud-hypervisor", "firecracker", "kata-", "stratovirt", "dragonball")
_LOOKS: Final = 4  # for what is moved on purpose: one misses it, at worst, as often as not
_TRIES: Final = 50  # to see all that one process has, while it changes that
_WITHIN_S: Final = 2.0  # all processes are seen, however many begin meanwhile
_ENDED: Final = "ZX"
_NO_FILES: Final = ("pipe:", "socket:", "anon_inode:", "net:", "mnt:", "pid:", "user:", "uts:", "ipc:", "cgroup:")

_AT_ONCE_BYTES: Final = 1 << 14
# Of /proc/PID/maps: the place; then file system, inode and path. What has no inode is no file. Nothing but a newline
# ends a line there, and a dot stands for all else: a pod names its files as it likes.
_MAPPED: Final = re.compile(rb"^([0-9a-f]+-[0-9a-f]+) \S+ \S+ (\S+ +[1-9].*)", re.MULTILINE)

T = TypeVar("T")


class HostProcesses:
    """Containers and processes, as /proc and the cgroup tree show them."""

    def __init__(self, hierarchy: Hierarchy, proc: Path = Path("/proc"), at: Hook = nowhere) -> None:
        self.at = at
        self._hierarchy = hierarchy
        self._proc = proc
        self._tops = [""]  # where kubelets keep their tree; one that runs in a container has its own below another

    def find(self, target: Target) -> Container | None:
        """See the port."""
        path = self._folder(target)
        if path is None:
            return None
        try:
            inode = os.stat(path).st_ino
            members = [self._running(pid) for pid in _members(path)]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unknown("CgroupUnknown", f"pod {target}: cannot read cgroup {path}: {error.strerror}") from error
        alive = [member[0] for member in members if member is not None]
        for process in alive:
            if (command := self._command(process.pid)).startswith(SANDBOXES):
                raise Refused(
                    "SandboxedRuntime",
                    f"pod {target}: process {process.pid} {command!r} runs the container in a sandbox of its own "
                    "kernel; a device of the node can't be given to it",
                )
        if not alive:
            return None
        cgroup = Cgroup(self._hierarchy.version, path, inode, unit_of(path))
        return Container(target, min(alive, key=self._age), cgroup)

    def _folder(self, target: Target) -> str | None:
        """Find the container's folder: where it usually is, else wherever it is."""
        mount = self._hierarchy.mount
        for top, place in product(self._tops, usual_places(target)):
            if os.path.isdir(path := f"{mount}{top}/{place}"):
                return path
        elsewhere = ""
        for path, folders, _ in os.walk(mount):
            below = path[len(mount) :]
            if container_id_in(below):
                folders.clear()  # a container's own folders may have any name
            if belongs_to(below, target):
                self._learn(below, target)
                return path
            if container_id_in(below) == target.container_id:
                elsewhere = path
        if elsewhere:
            raise Refused(
                "NotThePodsCgroup",
                f"pod {target}: container {target.container_id[:12]} has cgroup {elsewhere}, which is not in the "
                f"cgroup of pod UID {target.uid}",
            )
        return None

    def _learn(self, below: str, target: Target) -> None:
        """Remember below what a usual place was found: looking through the whole tree takes as long as it is large."""
        for place in usual_places(target):
            if below.endswith(f"/{place}") and (top := below.removesuffix(f"/{place}")) not in self._tops:
                self._tops.append(top)

    def _stat(self, pid: int) -> tuple[str, int]:
        """Read a process's state and when it began, in clock ticks since boot."""
        fields = _read(f"{self._proc}/{pid}/stat").rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])

    def _running(self, pid: int) -> tuple[Process, int] | None:
        """Identify a process that runs, and a thread of it that does, for the first may have ended; None: all have."""
        with suppress(FileNotFoundError, ProcessLookupError):
            state, start_ticks = self._stat(pid)
            if state not in _ENDED:
                return Process(pid, start_ticks), pid
            for thread in self._threads(pid):
                with suppress(FileNotFoundError, ProcessLookupError):
                    if self._stat(thread)[0] not in _ENDED:
                        return Process(pid, start_ticks), thread
        return None

    def _age(self, process: Process) -> tuple[bool, int, int]:
        """Sort the first process of a PID namespace before all others, then by start."""
        with suppress(OSError):
            for line in (self._proc / str(process.pid) / "status").read_bytes().split(b"\n"):
                if line.startswith(b"NSpid:"):
                    return line.split()[-1] != b"1", process.start_ticks, process.pid
        return True, process.start_ticks, process.pid

    def _command(self, pid: int) -> str:
        """Read what a process calls itself, fit to be printed: it may hold lines, or orders to a terminal."""
        try:
            text = (self._proc / str(pid) / "comm").read_bytes().decode(errors="replace").strip()
        except OSError:
            return ""
        return "".join(each if each.isprintable() else "?" for each in text)

    def holders(self, rdevs: Collection[int]) -> Sequence[Holder]:
        """
        See the port.

        No look is of one moment: what is moved to where was looked already is missed.
        So there are several, each in an order that nobody can foresee; the host's own processes hide nothing.
        """
        wanted, found, hosts = frozenset(rdevs), dict[tuple[Process, int], Holder](), set[tuple[int, int]]()
        for _ in range(_LOOKS):
            for holder in self._look(wanted, hosts):
                found.setdefault((holder.process, holder.rdev), holder)
        return sorted(found.values(), key=lambda holder: (holder.process.pid, holder.rdev))

    def _look(self, rdevs: frozenset[int], hosts: set[tuple[int, int]]) -> Iterator[Holder]:
        """Look at all processes, then at those that have come meanwhile, until none has; adds the host's to *hosts*."""
        seen, until_s = set(hosts), float("inf")
        harmless = set[bytes]()  # of one look: a number that is free again may be another file's
        while new := [each for each in self._listed() if each not in seen]:
            if time.monotonic() > until_s:
                raise Unknown(
                    "ProcessesKeepChanging",
                    f"new processes came without end for {_WITHIN_S:g} s, so one that holds a device may have been "
                    "missed",
                )
            for each in _shuffled(new):
                with suppress(FileNotFoundError, ProcessLookupError):  # it has ended, and holds nothing
                    if (running := self._running(each[0])) is not None:
                        process, thread = running
                        if not pod_uid_in(path := self._cgroup(thread)):
                            hosts.add(each)
                        yield from self._held(process, thread, path, rdevs, harmless)
            seen.update(new)
            until_s = min(until_s, time.monotonic() + _WITHIN_S)  # however long the first time takes

    def _listed(self) -> list[tuple[int, int]]:
        """List all other processes by number and inode: a number that comes round again has another one."""
        own = str(os.getpid())
        with os.scandir(self._proc) as entries:
            return [(int(each.name), each.inode()) for each in entries if each.name.isdigit() and each.name != own]

    def _held(
        self, process: Process, thread: int, path: str, rdevs: frozenset[int], harmless: set[bytes]
    ) -> Iterator[Holder]:
        """List what one process holds, as *thread* shows it."""
        owner = container_id_in(path), pod_uid_in(path)
        try:
            by_descriptor = self._by_descriptor(process.pid, thread) & rdevs
            by_mapping = (self._by_mapping(thread, harmless, may_hide=bool(owner[1])) & rdevs) - by_descriptor
        except (FileNotFoundError, ProcessLookupError):
            return
        except OSError as error:
            yield from self._unreadable(process, owner, rdevs, error)
            return
        for rdev in by_descriptor | by_mapping:
            yield Holder(process, rdev, *owner, self._command(process.pid), rdev in by_mapping)

    def _unreadable(
        self, process: Process, owner: tuple[str, str], rdevs: frozenset[int], error: OSError
    ) -> list[Holder]:
        """
        Say that a process which has more rights than this one may hold any device; what is not known counts as busy.

        Of the host's own processes it can be known from before the attach that they did so then too; of a pod's not.
        """
        if self._running(process.pid) is None:
            return []
        if owner[1]:
            raise Unknown("ProcessUnreadable", f"cannot look into process {process.pid}: {error.strerror}") from error
        command = f"{self._command(process.pid)} (unreadable)"
        return [Holder(process, rdev, *owner, command, mapped=False) for rdev in rdevs]

    def _by_descriptor(self, pid: int, shown: int) -> set[int]:
        """Name the devices that are open; other threads may have tables of their own."""
        found = _devices(f"{self._proc}/{shown}/fd")

        def look(thread: int) -> None:
            if thread != shown and not shares_files(shown, thread):
                found.update(_devices(f"{self._proc}/{thread}/fd"))

        _see_all(lambda: self._threads(pid), look, f"process {pid} begins threads")
        return found

    def _threads(self, pid: int) -> list[int]:
        return [int(name) for name in os.listdir(f"{self._proc}/{pid}/task")]

    def _by_mapping(self, thread: int, harmless: set[bytes], *, may_hide: bool) -> set[int]:
        """
        Name the devices that are mapped; a file that is mapped a thousand times is looked at once.

        The kernel's text of mappings misses what is moved meanwhile; its folder of them is listed at one moment, and
        names no file: what stands in the folder alone is looked at by its place. The text misses nothing that stays
        where it is, so it will do for who hides nothing: the folder takes a fifth of the time.

        Args:
            harmless: Mapped files that are known to be no device in this look, by file system, inode and path.
            may_hide: It may move a mapping on purpose.
        """
        found, places = set[int](), dict[bytes, bytes]()  # what is to be looked at, and its place
        proc = os.fsencode(f"{self._proc}/{thread}")
        folder = proc + b"/map_files"

        def listed() -> list[bytes]:
            known, of_files = _places(_read(proc + b"/maps"))
            places.clear()
            places.update((file, of_files[file]) for file in of_files.keys() - harmless)
            if may_hide:
                places.update((folder + place, place) for place in os.listdir(folder) if place not in known)
            return list(places)

        def look(file: bytes) -> None:
            rdev = character_rdev(folder + b"/" + places[file])
            if rdev is not None:
                found.add(rdev)
            else:
                harmless.add(file)

        with suppress(ProcessLookupError):  # one of the kernel's own, which has no memory
            _see_all(listed, look, f"process {thread} maps files")
        return found

    def _cgroup(self, pid: int) -> str:
        """Read where a process or a thread is; "" where it is in no cgroup that rules devices."""
        text = _read(f"{self._proc}/{pid}/cgroup")
        return path_of(os.fsdecode(text), self._hierarchy.version) or ""

    def signal(self, process: Process, pod_uid: str, number: int) -> bool:
        """See the port."""
        pidfd = self._pidfd(process, pod_uid)
        if pidfd is None:
            return False
        try:
            self._send(pidfd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)
        return True

    def on_end(self, process: Process, pod_uid: str, then: Callable[[], object]) -> bool:
        """See the port."""
        pidfd = self._pidfd(process, pod_uid)
        if pidfd is None:
            return False

        def wait() -> None:
            ends = select.poll()
            ends.register(pidfd, select.POLLIN)
            ends.poll()
            os.close(pidfd)
            then()

        threading.Thread(target=wait, name=f"end of {process.pid}", daemon=True).start()
        return True

    def _pidfd(self, process: Process, pod_uid: str) -> int | None:
        """Hold a process, then look whether it is that very one; None: it is not, or has ended."""
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return None
        is_it = False
        try:
            with suppress(ProcessLookupError, FileNotFoundError):
                running = self._running(process.pid)
                is_it = running is not None and (running[0], pod_uid_in(self._cgroup(running[1]))) == (process, pod_uid)
        finally:
            if not is_it:
                os.close(pidfd)
        return pidfd if is_it else None

    @point("send a signal")
    def _send(self, pidfd: int, number: int) -> None:
        signal.pidfd_send_signal(pidfd, number)


def _members(path: str) -> Iterator[int]:
    """Name the processes of a cgroup and of all below it."""
    for folder, _, _ in os.walk(path):
        with suppress(FileNotFoundError), open(f"{folder}/cgroup.procs", encoding="ascii") as file:
            yield from (int(line) for line in file if line.strip())


def _see_all(listed: Callable[[], Iterable[T]], look: Callable[[T], object], what: str) -> None:
    """
    Look at all that is listed, in any order.

    What is gone by then may have been moved to where nobody looked: all is listed again, and what is new looked at.
    """
    seen = set[T]()
    for _ in range(_TRIES):
        new = [each for each in listed() if each not in seen]
        for each in _shuffled(new):
            try:
                look(each)
            except (FileNotFoundError, ProcessLookupError):
                continue
            seen.add(each)
        if seen.issuperset(new):
            return
    raise Unknown(
        "ProcessesKeepChanging",
        f"{what} as fast as it is looked at, {_TRIES} times in a row, so a device may have been missed",
    )


def _shuffled(things: Sequence[T]) -> list[T]:
    """Put things into an order that nobody can foresee; faster than `random.sample`."""
    return sorted(things, key=lambda _: random.random())  # noqa: S311 - no secret, and its state is seen by nobody


def _read(path: str | bytes) -> bytes:
    """Read a file of /proc whole; those say nothing of their length, and a page at most comes at once."""
    fd, parts = os.open(path, os.O_RDONLY), list[bytes]()
    try:
        while part := os.read(fd, _AT_ONCE_BYTES):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts)


def _places(maps: bytes) -> tuple[set[bytes], dict[bytes, bytes]]:
    """Name where files are mapped, and of each, by file system, inode and path, one place."""
    found = _MAPPED.findall(maps)
    if b"\n0" in maps or maps.startswith(b"0"):  # the text fills up to eight digits, and the folder does not
        found = [(b"-".join(b"%x" % int(at, 16) for at in place.split(b"-")), file) for place, file in found]
    return {place for place, _ in found}, {file: place for place, file in found}


def _devices(folder: str) -> set[int]:
    """Name the character devices among open files; by the folder that was opened, none is of another process."""
    found = set[int]()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def look(name: str) -> None:
        if not os.readlink(name, dir_fd=fd).startswith(_NO_FILES) and (rdev := character_rdev(name, fd)) is not None:
            found.add(rdev)

    try:
        _see_all(lambda: os.listdir(fd), look, f"{folder} changes")
    finally:
        os.close(fd)
    return found
