"""What attaching speaks of: devices, containers, and what was seen of them. Frozen values; no decision, no I/O."""

import os
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, order=True)
class DeviceNode:
    """
    A character device: where a container looks for it, and what it is to the kernel.

    Attributes:
        path: Absolute, below /dev: "/dev/nvidia0".
    """

    path: str
    major: int
    minor: int

    @property
    def rdev(self) -> int:
        """The device number, as `st_rdev` has it."""
        return os.makedev(self.major, self.minor)


@dataclass(frozen=True, slots=True, order=True)
class Gpu:
    """
    One GPU, or one MIG device; its numbers hold until the driver is loaded anew.

    Attributes:
        companions: Nodes that every user of such a GPU needs too, and that give no GPU by themselves: control, UVM.
        unhealthy: Why nobody may be given it; "" where it may be.
    """

    uuid: str
    node: DeviceNode
    companions: tuple[DeviceNode, ...] = ()
    unhealthy: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One container of one pod; a pod that was created again has another *uid*, so is another pod."""

    namespace: str
    pod: str
    uid: str
    container_id: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}"


class CgroupVersion(StrEnum):
    """How device access is ruled: by BPF programs, or by the files `devices.allow` and `devices.deny`."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class Cgroup:
    """
    The cgroup that rules a container's device access.

    Attributes:
        path: As the agent sees it, below the controller's mount.
        inode: A folder that was made again under the same path has another one.
        unit: The systemd unit that owns it ("cri-containerd-….scope"); "" where no systemd does.
    """

    version: CgroupVersion
    path: str
    inode: int
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that can't be mistaken for a later one with its number; *start_ticks* as in /proc/PID/stat."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Container:
    """A running container: its first process, whose namespaces are the container's, and its cgroup."""

    target: Target
    init: Process
    cgroup: Cgroup


class NodeState(StrEnum):
    """What stands at a device node's path inside a container."""

    ABSENT = "Absent"
    RIGHT = "Right"
    FOREIGN = "Foreign"  # another device, a file, a folder, a symlink: the image's, never touched
    HOST = "Host"  # right, and the host's own /dev: never unlinked


class Access(StrEnum):
    """What a process of the container gets that opens the device."""

    OPENS = "Opens"
    DENIED = "Denied"  # EPERM by the device rules
    MISSING = "Missing"  # no node at the path
    FAILS = "Fails"  # anything else; never taken for Opens or Denied


@dataclass(frozen=True, slots=True)
class Holder:
    """
    A process that has a device open.

    Attributes:
        container_id: Of the container that it runs in; "" where it runs in none that could be named.
        pod_uid: Of that container's pod; "" likewise.
        mapped: It holds a mapping; a descriptor otherwise.
    """

    process: Process
    rdev: int
    container_id: str
    pod_uid: str
    command: str
    mapped: bool
