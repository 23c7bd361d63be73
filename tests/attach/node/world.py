"""The real adapters and real containers, as the contract speaks of them."""

import os
import stat
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from attach.bpf import Bpf
from attach.cgroup import Hierarchy
from attach.model import CgroupVersion, DeviceNode, Target
from attach.nodes import HostNodes
from attach.points import Hook, nowhere
from attach.ports import Rules
from attach.processes import HostProcesses
from attach.rules1 import Rules1
from attach.rules2 import Rules2
from tests.attach.contract import Foreign
from tests.attach.node.containers import Answer, Containerd, Runtime, Workload, new_target
from tests.attach.node.systemd import Systemd

# Denied by the runtimes' default list, and open as any user does: KVM, FUSE, loop control, btrfs control, autofs.
CANDIDATES: Final = ((10, 232), (10, 229), (10, 237), (10, 234), (10, 235))
ZERO: Final = DeviceNode("/dev/zero", 1, 5)


@cache
def stand_ins() -> tuple[DeviceNode, DeviceNode, DeviceNode]:
    """Name two devices of this machine that stand for GPUs, and one for what both need: they exist, and open."""
    opening = []
    for major, minor in CANDIDATES:
        path = Path(f"/dev/podsla-attach-test-{os.getpid()}")
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(major, minor))
        try:
            os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
            opening.append((major, minor))
        except OSError:
            continue
        finally:
            path.unlink()
    if len(opening) < 3:
        pytest.fail(f"fewer than three of the devices {CANDIDATES} open on this machine; no other stands for a GPU")
    (one, two, three) = opening[:3]  # the folder of the second has to be made
    return DeviceNode("/dev/gpu0", *one), DeviceNode("/dev/gpus/1", *two), DeviceNode("/dev/gpuctl", *three)


class RealWorkload:
    """A container, told by the contract's words."""

    def __init__(self, inner: Workload, runtime: Runtime | Containerd | Systemd) -> None:
        self.inner = inner
        self.target = inner.target
        self._runtime = runtime

    def ask(self, request: str, *, fd: int = -1) -> Answer:
        return self.inner.ask(request, fd=fd)

    def opens(self, path: str) -> int:
        return self.ask(f"try {path}").error

    def holds(self, path: str) -> int:
        return self.ask(f"open {path}").error

    def lets_go(self) -> None:
        self.ask("close")

    def put(self, path: str, what: Foreign) -> None:
        place = self.inner.host_path(path)
        match what:
            case "file":
                place.write_text("of the image\n")
            case "folder":
                place.mkdir()
            case "symlink":
                place.symlink_to("null")
            case "other device":
                os.mknod(place, 0o666 | stat.S_IFCHR, os.makedev(1, 3))

    def end(self) -> None:
        self._runtime.delete(self.target)


class CudaWorkload(RealWorkload):
    """
    A container whose processes use devices as CUDA does: opened at first use, closed only when the process ends.

    Its first process began before every attach and used the device too early; each use after that is a child's.
    """

    def __init__(self, inner: Workload, runtime: Runtime | Containerd | Systemd) -> None:
        super().__init__(inner, runtime)
        self._early = self.ask(f"cuda {stand_ins()[0].path}").error
        assert self._early

    def opens(self, path: str) -> int:
        assert self.ask(f"cuda {path}").error == self._early, "what failed once fails for good"
        return self.ask(f"child cuda {path}").error

    def holds(self, path: str) -> int:
        return self.ask(f"stay cuda {path}").error

    def lets_go(self) -> None:
        self.ask("leave")


class RealWorld:
    """
    This machine, with one runtime and one cgroup version.

    Attributes:
        workload: How the processes of its containers use devices.
    """

    workload: type[RealWorkload] = RealWorkload

    def __init__(self, runtime: Runtime | Containerd | Systemd, hierarchy: Hierarchy) -> None:
        self.runtime = runtime
        self.hierarchy = hierarchy
        self.rules = self.rules_at(nowhere)
        self.nodes = HostNodes(hierarchy)
        self.processes = HostProcesses(hierarchy)
        self._started: list[RealWorkload] = []

    def rules_at(self, at: Hook) -> Rules:
        """Make the engine; *at* is called at its crash points."""
        return Rules1(at) if self.version is CgroupVersion.V1 else Rules2(Bpf(at))

    @property
    def version(self) -> CgroupVersion:
        return self.hierarchy.version

    @property
    def devices(self) -> Sequence[DeviceNode]:
        return stand_ins()[:2]

    @property
    def companion(self) -> DeviceNode:
        return stand_ins()[2]

    def start(self, target: Target | None = None, /, *, privileged: bool = False, **options: Any) -> RealWorkload:
        inner = self.runtime.start(target or new_target(), privileged=privileged, **options)
        self._started.append(self.workload(inner, self.runtime))
        return self._started[-1]

    def close(self) -> None:
        self.nodes.close()
        for workload in self._started:
            workload.end()
