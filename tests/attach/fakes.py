"""A node that is not there: containers, rules, device nodes and processes as the kernel would have them, in memory."""

import errno
import os
import signal
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from attach.entry import Entry, Now
from attach.errors import Gone, Refused, Unknown
from attach.model import (
    Access,
    Cgroup,
    CgroupVersion,
    Container,
    DeviceNode,
    Gpu,
    Holder,
    NodeState,
    Process,
    Target,
)
from attach.observe import Node
from attach.reservation import PodDevices
from attach.transitions import State

NULL = DeviceNode("/dev/null", 1, 3)
CONTROL = DeviceNode("/dev/nvidiactl", 195, 255)
FILE = -1  # what stands at a path and is no device


class Crash(BaseException):
    """Stands for the agent's death: nothing may catch it."""


def gpu(number: int, minor: int | None = None, unhealthy: str = "") -> Gpu:
    """Make the GPU with this number; *minor*: where the driver has put it."""
    at = number if minor is None else minor
    return Gpu(f"GPU-{number}", DeviceNode(f"/dev/nvidia{at}", 195, at), (CONTROL,), unhealthy)


def target(pod: str, container: str = "") -> Target:
    """Make the target of a pod's container; both are as unique as the pod's name."""
    return Target("team-a", pod, f"uid-{pod}", container or f"{pod}-1")


@dataclass
class FakeContainer:
    """A container; *programs* must all allow, as on cgroup version 2."""

    target: Target
    init: Process
    inode: int
    base: frozenset[int] = frozenset({NULL.rdev})
    ours: set[int] = field(default_factory=set)
    covered: set[int] = field(default_factory=set)
    dev: dict[str, int] = field(default_factory=lambda: {NULL.path: NULL.rdev})
    given: frozenset[str] = frozenset({NULL.path})
    open_to_all: bool = False
    runs: bool = True

    @property
    def truth(self) -> frozenset[int]:
        """What a process in it may open."""
        return frozenset((self.base | self.ours) - self.covered)

    @property
    def seen(self) -> Container:
        """What `find` gives."""
        path = f"/sys/fs/cgroup/pod{self.target.uid}/{self.target.container_id}"
        return Container(self.target, self.init, Cgroup(CgroupVersion.V2, path, self.inode))


@dataclass
class FakeProcess:
    """A process; *holds* are the numbers of the devices it has open, each with the pod that opened it first."""

    process: Process
    pod_uid: str
    container_id: str
    holds: dict[int, str] = field(default_factory=dict)
    mapped: bool = False
    deaf: bool = False
    unkillable: bool = False


class FakeNode:
    """
    All four ports over one state, which tests judge and change as they like.

    Attributes:
        troubled: Names of port methods that can't answer now.
        saved: Reads what the journal says, to see that every effect was announced; None: nobody asks.
    """

    def __init__(self, *gpus: Gpu) -> None:
        self.listed = list(gpus)
        self.containers: list[FakeContainer] = []
        self.running: dict[int, FakeProcess] = {}
        self.troubled: set[str] = set()
        self.refusing: set[str] = set()
        self.signals: list[tuple[int, int]] = []
        self.ends: list[tuple[int, Callable[[], object]]] = []
        self.saved: Callable[[], Collection[Entry]] | None = None
        self.count = 100

    @property
    def ports(self) -> Node:
        """The node as the reconciler has it."""
        return Node(self, self, self, self)

    # --- what tests do to it

    def start(self, of: Target, *given: DeviceNode) -> FakeContainer:
        """Start a container, and its first process; the runtime gives it some devices."""
        container = FakeContainer(of, self.spawn(of).process, self.number())
        container.base |= {node.rdev for node in given}
        container.dev |= {node.path: node.rdev for node in given}
        container.given = frozenset(container.dev)
        self.containers.append(container)
        return container

    def spawn(self, of: Target | None) -> FakeProcess:
        """Start a process in a container, or on the node itself."""
        pid = self.number()
        process = FakeProcess(Process(pid, pid * 10), of.uid if of else "", of.container_id if of else "")
        self.running[pid] = process
        return process

    def number(self) -> int:
        """Give a number that nothing else has."""
        self.count += 1
        return self.count

    def end(self, container: FakeContainer) -> None:
        """End a container with all its processes, but those that can't be killed."""
        container.runs = False
        for pid, process in list(self.running.items()):
            if process.container_id == container.target.container_id and not process.unkillable:
                self._gone(pid)

    def open(self, process: FakeProcess, rdev: int) -> bool:
        """Open a device as a process: its container's rules decide, and on the node none do."""
        container = self.at(process.container_id)
        if container is None or rdev in container.truth:
            process.holds.setdefault(rdev, process.pod_uid)
            return True
        return False

    def at(self, container_id: str) -> FakeContainer | None:
        """Find the container that runs under this id."""
        return next((c for c in self.containers if c.runs and c.target.container_id == container_id), None)

    def boot(self) -> None:
        """Start the machine anew."""
        self.containers.clear()
        self.running.clear()

    # --- Rules

    def allowed(self, cgroup: Cgroup) -> frozenset[int]:
        container = self._in(cgroup, "allowed")
        return frozenset(container.ours - container.covered)

    def permitted(self, cgroup: Cgroup, rdevs: Collection[int]) -> frozenset[int]:
        container = self._in(cgroup, "permitted")
        return frozenset() if container.open_to_all else container.base & frozenset(rdevs)

    def settled(self, cgroup: Cgroup) -> frozenset[int]:
        return self.allowed(cgroup)

    def allow(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        container = self._in(cgroup, "allow")
        if container.open_to_all:
            raise Refused("AllDevicesAllowed", "the container may open every device")
        self._announced(container, {State.ATTACHING}, lambda entry: entry.granted, nodes)
        container.ours.update(node.rdev for node in nodes)
        container.covered.difference_update(node.rdev for node in nodes)

    def deny(self, cgroup: Cgroup, nodes: Collection[DeviceNode]) -> None:
        try:
            container = self._in(cgroup, "deny")
        except Gone:
            return
        states = set(State) - {State.ATTACHED, State.DRAINING, State.RELEASED, State.FAILED}
        self._announced(container, states, lambda entry: entry.granted, nodes)
        container.ours.difference_update(node.rdev for node in nodes)

    def _in(self, cgroup: Cgroup, method: str) -> FakeContainer:
        self._trouble(method)
        for container in self.containers:
            if container.inode == cgroup.inode and container.runs:
                assert container.seen.cgroup == cgroup, "I5: a cgroup of another pod or container"
                return container
        raise Gone("CgroupGone", f"{cgroup.path} is gone")

    # --- Nodes

    def state(self, container: Container, node: DeviceNode) -> NodeState:
        stands = self._dev(container, "state").get(node.path)
        if stands is None:
            return NodeState.ABSENT
        return NodeState.RIGHT if stands == node.rdev else NodeState.FOREIGN

    def show(self, container: Container, node: DeviceNode) -> None:
        dev = self._dev(container, "show")
        self._announced(self._running(container), {State.ATTACHING}, lambda entry: entry.made, [node])
        if dev.get(node.path, node.rdev) != node.rdev:
            raise Refused("NodeForeign", f"something else stands at {node.path}")
        assert self.saved is None or node.rdev in self._running(container).truth, "a node without its permission"
        dev[node.path] = node.rdev

    def hide(self, container: Container, node: DeviceNode) -> None:
        try:
            dev = self._dev(container, "hide")
        except Gone:
            return
        states = set(State) - {State.ATTACHING, State.ATTACHED, State.RELEASED, State.FAILED}
        self._announced(self._running(container), states, lambda entry: entry.made, [node])
        if dev.get(node.path) == node.rdev:
            del dev[node.path]

    def access(self, container: Container, node: DeviceNode) -> Access:
        dev = self._dev(container, "access")
        if dev.get(node.path) is None:
            return Access.MISSING
        return Access.OPENS if dev[node.path] in self._running(container).truth else Access.DENIED

    def _running(self, container: Container) -> FakeContainer:
        for each in self.containers:
            if each.runs and each.seen == container:
                return each
        raise Gone("ContainerGone", "it has ended")

    def _dev(self, container: Container, method: str) -> dict[str, int]:
        self._trouble(method)
        return self._running(container).dev

    # --- Processes

    def find(self, target: Target) -> Container | None:
        self._trouble("find")
        found = self.at(target.container_id)
        return found.seen if found is not None and found.target == target else None

    def holders(self, rdevs: Collection[int]) -> Sequence[Holder]:
        self._trouble("holders")
        return [
            Holder(each.process, rdev, each.container_id, each.pod_uid, "app", each.mapped)
            for each in self.running.values()
            for rdev in each.holds
            if rdev in rdevs
        ]

    def signal(self, process: Process, pod_uid: str, number: int) -> bool:
        found = self.running.get(process.pid)
        if found is None or found.process != process:
            return False
        if self.saved is not None:
            assert found.pod_uid == pod_uid, "I8: a signal to a process of another pod"
            lines = [entry for entry in self.saved() if entry.wish.target.uid == pod_uid]
            signalling = (State.VERIFYING, State.QUARANTINED)
            assert any(entry.state in signalling for entry in lines), "I3: a signal that was not announced"
        if found.pod_uid != pod_uid:
            return False
        self.signals.append((process.pid, number))
        if not found.unkillable and (number == signal.SIGKILL or not found.deaf):
            self._gone(process.pid)
            for container in self.containers:
                if container.init == process:
                    self.end(container)
        return True

    def on_end(self, process: Process, pod_uid: str, then: Callable[[], object]) -> bool:
        found = self.running.get(process.pid)
        if found is None or (found.process, found.pod_uid) != (process, pod_uid):
            return False
        self.ends.append((process.pid, then))
        return True

    def _gone(self, pid: int) -> None:
        del self.running[pid]
        for then in [then for whose, then in self.ends if whose == pid]:
            then()

    # --- Inventory

    def gpus(self) -> Sequence[Gpu]:
        self._trouble("gpus")
        return sorted(self.listed)

    def _trouble(self, method: str) -> None:
        if method in self.troubled:
            raise Unknown("DriverSilent", f"{method} does not answer")
        if method in self.refusing:
            raise Refused("KernelRefuses", f"{method} is refused")

    def _announced(
        self,
        container: FakeContainer,
        states: Collection[State],
        announced: Callable[[Entry], Sequence[DeviceNode]],
        nodes: Collection[DeviceNode],
    ) -> None:
        """See that the journal on disk says of every node that it is ours, in a state that has such effects."""
        if self.saved is None:
            return
        lines = [e for e in self.saved() if e.container == container.seen and e.state in states]
        said = {node for entry in lines for node in announced(entry)}
        assert set(nodes) <= said, "I3: an effect that the journal does not announce"


class MemoryStore:
    """A disk that outlives the agent; *full*: it takes nothing more."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.full = False

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.data = data


class FakeClock:
    """Clocks that go when they are told to."""

    def __init__(self) -> None:
        self.wall_s, self.boot_s, self.boots = 1_800_000_000.0, 1_000.0, 1

    def now(self) -> Now:
        return Now(self.wall_s, self.boot_s)

    def boot_id(self) -> str:
        return f"boot-{self.boots}"

    def go(self, seconds: float) -> None:
        """Let time pass."""
        self.wall_s += seconds
        self.boot_s += seconds

    def boot(self) -> None:
        """Start the machine anew; it takes a minute."""
        self.boots += 1
        self.wall_s += 60.0
        self.boot_s = 30.0


class Ledger:
    """Counts by holding what was told."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []
        self.moves: list[tuple[State | None, State, str]] = []

    def stepped(self, verb: str, result: str, duration_s: float) -> None:
        self.steps.append((verb, result))

    def moved(self, before: Entry | None, after: Entry) -> None:
        self.moves.append((before.state if before else None, after.state, after.reason))

    def held(self, holders: int) -> None:
        pass


class FakeKubelet:
    """What the kubelet has given to pods; None: it does not answer."""

    def __init__(self, given: tuple[PodDevices, ...] | None = ()) -> None:
        self.given = given

    def pods(self) -> tuple[PodDevices, ...]:
        if self.given is None:
            raise Unknown("KubeletSilent", "the kubelet does not answer")
        return self.given
