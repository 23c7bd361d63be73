"""
EDGE: containers and processes of the node, from the cgroup tree and /proc; signals go by pidfd.

A device is known by its number, never by its path: a container makes nodes of its own.
"""

import os
import signal
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Final

from attach.cgroup import Hierarchy, belongs_to, container_id_in, path_of, pod_uid_in, unit_of, usual_places
from attach.errors import Refused, Unknown
from attach.kernel import character_rdev, shares_files
from attach.model import Cgroup, Container, Holder, Process, Target
from attach.points import Hook, nowhere, point

SANDBOXES: Final = ("runsc", "qemu-system", "cloud-hypervisor", "firecracker", "kata-", "stratovirt", "dragonball")
_ROUNDS: Final = 8  # of looking at processes that have come meanwhile
_NO_FILES: Final = ("pipe:", "socket:", "anon_inode:", "net:", "mnt:", "pid:", "user:", "uts:", "ipc:", "cgroup:")


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
        alive = [process for process in members if process is not None]
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

    def _running(self, pid: int) -> Process | None:
        """Identify a process that runs; None: it has ended."""
        try:
            state, start_ticks = self._stat(pid)
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if state in "ZX" else Process(pid, start_ticks)

    def _age(self, process: Process) -> tuple[bool, int, int]:
        """Sort the first process of a PID namespace before all others, then by start."""
        with suppress(OSError):
            for line in (self._proc / str(process.pid) / "status").read_text(encoding="utf-8").splitlines():
                if line.startswith("NSpid:"):
                    return line.split()[-1] != "1", process.start_ticks, process.pid
        return True, process.start_ticks, process.pid

    def _command(self, pid: int) -> str:
        try:
            return (self._proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def holders(self, rdevs: Collection[int]) -> Sequence[Holder]:
        """See the port."""
        wanted, seen, found = frozenset(rdevs), set[int](), list[Holder]()
        for _ in range(_ROUNDS):
            new = [pid for pid in self._pids() if pid not in seen]
            if not new:
                return sorted(found, key=lambda holder: (holder.process.pid, holder.rdev, holder.mapped))
            for pid in new:
                found += self._held(pid, wanted)
            seen.update(new)
        raise Unknown(
            "ProcessesKeepChanging",
            f"new processes came in {_ROUNDS} looks in a row, so one that holds a device may have been missed",
        )

    def _pids(self) -> list[int]:
        return [int(name) for name in os.listdir(self._proc) if name.isdigit()]

    def _held(self, pid: int, rdevs: frozenset[int]) -> list[Holder]:
        """List what one process holds; one that ended meanwhile holds nothing."""
        try:
            process = Process(pid, self._stat(pid)[1])
            by_descriptor = self._by_descriptor(pid) & rdevs
            by_mapping = (self._by_mapping(pid) & rdevs) - by_descriptor
            if not by_descriptor and not by_mapping:
                return []
            path, command = self._cgroup(pid), self._command(pid)
        except (FileNotFoundError, ProcessLookupError):
            return []
        except OSError as error:
            return self._unreadable(pid, rdevs, error)
        held = [(rdev, False) for rdev in by_descriptor] + [(rdev, True) for rdev in by_mapping]
        owner = container_id_in(path), pod_uid_in(path)
        return [Holder(process, rdev, *owner, command, mapped) for rdev, mapped in held]

    def _unreadable(self, pid: int, rdevs: frozenset[int], error: OSError) -> list[Holder]:
        """
        Say that a process which has more rights than this one may hold any device; what is not known counts as busy.

        Of the host's own processes it can be known from before the attach that they did so then too; of a pod's not.
        """
        process, path = self._running(pid), self._cgroup(pid)
        if process is None:
            return []
        if pod_uid_in(path):
            raise Unknown("ProcessUnreadable", f"cannot look into process {pid}: {error.strerror}") from error
        command = f"{self._command(pid)} (unreadable)"
        return [Holder(process, rdev, container_id_in(path), "", command, mapped=False) for rdev in rdevs]

    def _by_descriptor(self, pid: int) -> set[int]:
        """Name the devices that are open; a thread may have a table of its own, which /proc/PID/fd does not show."""
        found = _devices(f"{self._proc}/{pid}/fd")
        for thread in os.listdir(self._proc / str(pid) / "task"):
            if int(thread) != pid and not shares_files(pid, int(thread)):
                with suppress(FileNotFoundError, ProcessLookupError):
                    found |= _devices(f"{self._proc}/{pid}/task/{thread}/fd")
        return found

    def _by_mapping(self, pid: int) -> set[int]:
        """Name the devices that are mapped; where the first thread has ended, another one shows the memory."""
        threads = os.listdir(self._proc / str(pid) / "task") if self._stat(pid)[0] == "Z" else [str(pid)]
        found = set[int]()
        for thread in threads:
            files = dict[tuple[str, str], str]()  # a file that is mapped a thousand times is looked at once
            for line in (self._proc / thread / "maps").read_text(encoding="utf-8", errors="replace").splitlines():
                addresses, _, _, device, inode, *_ = line.split(maxsplit=5)
                if inode != "0":
                    files.setdefault((device, inode), addresses)
            for addresses in files.values():
                low, _, high = addresses.partition("-")
                with suppress(FileNotFoundError):  # unmapped meanwhile
                    rdev = character_rdev(f"{self._proc}/{thread}/map_files/{int(low, 16):x}-{int(high, 16):x}")
                    found |= set() if rdev is None else {rdev}
        return found

    def _cgroup(self, pid: int) -> str:
        """Read where a process is; "" where it is in no cgroup that rules devices."""
        text = (self._proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
        return path_of(text, self._hierarchy.version) or ""

    def signal(self, process: Process, pod_uid: str, number: int) -> bool:
        """See the port."""
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return False
        try:
            if self._running(process.pid) != process or pod_uid_in(self._cgroup(process.pid)) != pod_uid:
                return False
            self._send(pidfd, number)
        except (ProcessLookupError, FileNotFoundError):
            return False
        finally:
            os.close(pidfd)
        return True

    @point("send a signal")
    def _send(self, pidfd: int, number: int) -> None:
        signal.pidfd_send_signal(pidfd, number)


def _members(path: str) -> Iterator[int]:
    """Name the processes of a cgroup and of all below it."""
    for folder, _, _ in os.walk(path):
        with suppress(FileNotFoundError), open(f"{folder}/cgroup.procs", encoding="ascii") as file:
            yield from (int(line) for line in file if line.strip())


def _devices(folder: str) -> set[int]:
    """Name the character devices among a process's open files."""
    found = set[int]()
    for name in os.listdir(folder):
        path = f"{folder}/{name}"
        with suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(path).startswith(_NO_FILES):
                continue
            rdev = character_rdev(path)
            found |= set() if rdev is None else {rdev}
    return found
