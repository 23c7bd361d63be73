"""The fake keeps what the ports promise: the cases that the real adapters keep over real containers."""

import errno
from collections.abc import Mapping, Sequence

import pytest

from attach.model import DeviceNode, Target
from tests.attach.contract import Contract, Foreign
from tests.attach.fakes import FILE, FakeContainer, FakeNode, FakeProcess, target


class FakeWorkload:
    """A container of the fake, told by the contract's words."""

    def __init__(self, node: FakeNode, container: FakeContainer) -> None:
        self.node, self.container, self.target = node, container, container.target
        self.process: FakeProcess = node.running[container.init.pid]

    def opens(self, path: str) -> int:
        rdev = self.container.dev.get(path)
        if rdev is None:
            return errno.ENOENT
        return 0 if rdev in self.container.truth or rdev == FILE else errno.EPERM

    def holds(self, path: str) -> int:
        error = self.opens(path)
        if not error:
            self.process.holds[self.container.dev[path]] = self.process.pod_uid
        return error

    def lets_go(self) -> None:
        self.process.holds.clear()

    def put(self, path: str, what: Foreign) -> None:
        self.container.dev[path] = DeviceNode("/dev/null", 1, 3).rdev if what == "other device" else FILE

    def end(self) -> None:
        self.node.end(self.container)


class FakeWorld:
    """The fake, as the contract speaks of a node."""

    devices: Sequence[DeviceNode] = (DeviceNode("/dev/gpu0", 10, 232), DeviceNode("/dev/gpu1", 10, 229))
    companion = DeviceNode("/dev/gpuctl", 10, 237)

    def __init__(self) -> None:
        self.node = self.rules = self.nodes = self.processes = FakeNode()
        self.count = 0

    def start(
        self, of: Target | None = None, /, *, privileged: bool = False, devices: Sequence[Mapping[str, object]] = ()
    ) -> FakeWorkload:
        self.count += 1
        container = self.node.start(of or target(f"pod-{self.count}"))
        container.base |= {each.rdev for each in self.devices for rule in devices if rule["major"] == each.major}
        container.open_to_all = privileged
        return FakeWorkload(self.node, container)


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


class TestFake(Contract):
    """The cases, over the fake."""
