"""
EDGE: containers and processes of the node, from the cgroup tree and /proc; signals go by pidfd.

A device is known by its number, never by its path: a container makes nodes of its own.
"""

import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

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

T = TypeVar("T")
_Files: TypeAlias = dict[tuple[bytes, ...], int | None]  # a mapped file, by file system, inode and path → its rdev


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
        text = (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()
        return fields[0], int(fields[19])

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
        seen, files, until_s = set(hosts), dict[tuple[bytes, ...], int | None](), float("inf")
        while new := [each for each in self._listed() if each not in seen]:
            if time.monotonic() > until_s:
                raise Unknown(
                    "ProcessesKeepChanging",
                    f"new processes came without end for {_WITHIN_S:g} s, so one that holds a device may have been "
                    "missed",
                )
            for each in random.sample(new, len(new)):
                with suppress(FileNotFoundError, ProcessLookupError):  # it has ended, and holds nothing
                    if (running := self._running(each[0])) is not None:
                        process, thread = running
                        if not pod_uid_in(path := self._cgroup(thread)):
                            hosts.add(each)
                        yield from self._held(process, thread, path, rdevs, files)
            seen.update(new)
            until_s = min(until_s, time.monotonic() + _WITHIN_S)  # however long the first time takes

    def _listed(self) -> list[tuple[int, int]]:
        """List all other processes by number and inode: a number that comes round again has another one."""
        own = str(os.getpid())
        with os.scandir(self._proc) as entries:
            return [(int(each.name), each.inode()) for each in entries if each.name.isdigit() and each.name != own]

    def _held(self, process: Process, thread: int, path: str, rdevs: frozenset[int], files: _Files) -> Iterator[Holder]:
        """List what one process holds, as *thread* shows it."""
        owner = container_id_in(path), pod_uid_in(path)
        try:
            by_descriptor = self._by_descriptor(process.pid, thread) & rdevs
            by_mapping = (self._by_mapping(thread, files) & rdevs) - by_descriptor
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
        return [int(name) for name in os.listdir(self._proc / str(pid) / "task")]

    def _by_mapping(self, thread: int, files: _Files) -> set[int]:
        """
        Name the devices that are mapped; a file that is mapped a thousand times is looked at once.

        The kernel's text of mappings misses what is moved meanwhile; its folder of them is listed at one moment, and
        names no file: what stands in the folder alone is looked at by its place.
        """
        found, places, proc = set[int](), dict[tuple[bytes, ...], str](), f"{self._proc}/{thread}"

        def listed() -> list[tuple[bytes, ...]]:
            known, of_files = _places(Path(f"{proc}/maps").read_bytes())
            moved = [place for place in os.listdir(f"{proc}/map_files") if place not in known]
            places.clear()
            places.update(of_files | {(proc.encode(), place.encode()): place for place in moved})
            return list(places)

        def look(file: tuple[bytes, ...]) -> None:
            if file not in files:
                files[file] = character_rdev(f"{proc}/map_files/{places[file]}")
            if (rdev := files[file]) is not None:
                found.add(rdev)

        with suppress(ProcessLookupError):  # one of the kernel's own, which has no memory
            _see_all(listed, look, f"process {thread} maps files")
        return found

    def _cgroup(self, pid: int) -> str:
        """Read where a process or a thread is; "" where it is in no cgroup that rules devices."""
        text = (self._proc / str(pid) / "cgroup").read_bytes()
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
        for each in random.sample(new, len(new)):
            with suppress(FileNotFoundError, ProcessLookupError):
                look(each)
                seen.add(each)
        if seen.issuperset(new):
            return
    raise Unknown(
        "ProcessesKeepChanging",
        f"{what} as fast as it is looked at, {_TRIES} times in a row, so a device may have been missed",
    )


def _places(maps: bytes) -> tuple[set[str], dict[tuple[bytes, ...], str]]:
    """Name where files are mapped, and of each, by file system, inode and path, one place; a newline ends a line."""
    known, of_files = set[str](), dict[tuple[bytes, ...], str]()
    for line in maps.split(b"\n"):
        addresses, *rest = line.split(maxsplit=5) or [b""]
        file = tuple(rest[2:])
        if file and file[1] != b"0":
            low, _, high = addresses.partition(b"-")
            known.add(place := f"{int(low, 16):x}-{int(high, 16):x}")
            of_files.setdefault(file, place)
    return known, of_files


def _devices(folder: str) -> set[int]:
    """Name the character devices among open files."""
    found = set[int]()

    def look(name: str) -> None:
        path = f"{folder}/{name}"
        if not os.readlink(path).startswith(_NO_FILES) and (rdev := character_rdev(path)) is not None:
            found.add(rdev)

    _see_all(lambda: os.listdir(folder), look, f"{folder} changes")
    return found
