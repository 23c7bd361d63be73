"""
What the ports of attach promise, as cases that know no adapter: over real containers, and over the fake.

A module runs them by a subclass of `Contract` and a fixture `world`.
"""

import errno
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import pytest

from attach.clock import SystemClock
from attach.entry import Policy, Wish
from attach.errors import AttachError, Gone, Refused
from attach.metrics import Metrics
from attach.model import Access, Container, DeviceNode, Gpu, Holder, NodeState, Target
from attach.observe import Node
from attach.ports import Nodes, Processes, Rules
from attach.reconcile import Desired, Reconciler
from tests.attach.fakes import MemoryStore
from tests.waiting import eventually

Foreign = Literal["file", "folder", "symlink", "other device"]


class Workload(Protocol):
    """A running container, and what its own process can be told to do."""

    @property
    def target(self) -> Target:
        """Who it is."""

    def opens(self, path: str) -> int:
        """Open a path and close it; the errno, 0 where it went well."""

    def holds(self, path: str) -> int:
        """Open a path and keep it open; the errno."""

    def lets_go(self) -> None:
        """Close all that it holds."""

    def put(self, path: str, what: Foreign) -> None:
        """Put at a path what no attach makes."""

    def end(self) -> None:
        """End the container and all that runs in it."""


class World(Protocol):
    """A node with its ports, where containers can be started."""

    @property
    def rules(self) -> Rules:
        """The engine."""

    @property
    def nodes(self) -> Nodes:
        """The device nodes."""

    @property
    def processes(self) -> Processes:
        """Containers and processes."""

    @property
    def devices(self) -> Sequence[DeviceNode]:
        """Two devices that exist, open when allowed, and are denied to a container."""

    @property
    def companion(self) -> DeviceNode:
        """One more such device, which both GPUs need beside their own."""

    def start(
        self, target: Target | None = None, /, *, privileged: bool = False, devices: Sequence[Mapping[str, object]] = ()
    ) -> Workload:
        """
        Start an unprivileged container with the default list of devices, or one that may open every device.

        Args:
            devices: Rules that its runtime adds, as the OCI specification has them.
        """


def found(world: World, workload: Workload) -> Container:
    """Find a container that runs."""
    container = world.processes.find(workload.target)
    assert container is not None
    return container


def attach(world: World, container: Container, *nodes: DeviceNode) -> None:
    """Allow, then show."""
    world.rules.allow(container.cgroup, nodes)
    for node in nodes:
        world.nodes.show(container, node)


def detach(world: World, container: Container, *nodes: DeviceNode) -> None:
    """Hide, then deny."""
    for node in nodes:
        world.nodes.hide(container, node)
    world.rules.deny(container.cgroup, nodes)


def held_by(world: World, workload: Workload, node: DeviceNode) -> list[Holder]:
    """List the container's own holders of a device."""
    holders = world.processes.holders([node.rdev])
    return [holder for holder in holders if holder.container_id == workload.target.container_id]


class Lender:
    """An agent over a world's ports, whose GPUs both need one more device, as NVIDIA's need /dev/nvidiactl."""

    def __init__(self, world: World) -> None:
        self.listed = [Gpu(f"GPU-{at}", node, (world.companion,)) for at, node in enumerate(world.devices)]
        node = Node(world.rules, world.nodes, world.processes, self)
        self.agent = Reconciler(node, MemoryStore(), SystemClock(), Metrics())

    def gpus(self) -> Sequence[Gpu]:
        """See `Inventory.gpus`."""
        return self.listed

    def lends(self, *wanted: tuple[Workload, str]) -> None:
        """Make a pass in which so many devices are wanted, each for one container, and no others."""
        now_s = self.agent.clock.now().wall_s
        wishes = [Wish(f"{device} of {web.target.uid}", web.target, (device,), now_s, 600, 0, Policy.WAIT,
                       release=None, reservation_lost=False, force=False) for web, device in wanted]  # fmt: skip
        self.agent.reconcile(Desired({wish.uid: wish for wish in wishes}))


class Contract:
    """The cases."""

    def test_a_container_that_was_denied_opens_the_device_after_the_attach_and_not_after_the_detach(
        self, world: World
    ) -> None:
        gpu, web = world.devices[0], world.start()
        container = found(world, web)
        seen = [(web.opens(gpu.path), world.nodes.access(container, gpu))]
        attach(world, container, gpu)
        seen.append((web.opens(gpu.path), world.nodes.access(container, gpu)))
        detach(world, container, gpu)
        seen.append((web.opens(gpu.path), world.nodes.access(container, gpu)))

        missing = (errno.ENOENT, Access.MISSING)
        assert seen == [missing, (0, Access.OPENS), missing]
        assert not world.rules.allowed(container.cgroup) & {gpu.rdev}

    def test_a_node_without_its_rule_is_denied_and_a_rule_without_its_node_is_missing(self, world: World) -> None:
        shown, allowed = world.devices
        web = world.start()
        container = found(world, web)
        world.nodes.show(container, shown)
        world.rules.allow(container.cgroup, [allowed])

        assert (web.opens(shown.path), world.nodes.access(container, shown)) == (errno.EPERM, Access.DENIED)
        assert (web.opens(allowed.path), world.nodes.access(container, allowed)) == (errno.ENOENT, Access.MISSING)
        for said in (world.rules.allowed(container.cgroup), world.rules.settled(container.cgroup)):
            assert said & {shown.rdev, allowed.rdev} == {allowed.rdev}
        assert (world.nodes.state(container, shown), world.nodes.state(container, allowed)) == (
            NodeState.RIGHT,
            NodeState.ABSENT,
        )

    def test_each_step_done_twice_is_as_done_once(self, world: World) -> None:
        gpu, web = world.devices[0], world.start()
        container = found(world, web)
        attach(world, container, gpu)
        attach(world, container, gpu)
        assert web.opens(gpu.path) == 0
        detach(world, container, gpu)
        world.nodes.show(container, gpu)
        assert web.opens(gpu.path) == errno.EPERM
        detach(world, container, gpu)
        assert web.opens(gpu.path) == errno.ENOENT

    def test_one_of_two_devices_is_taken_back_and_the_other_stays(self, world: World) -> None:
        one, other = world.devices
        web = world.start()
        container = found(world, web)
        attach(world, container, one, other)
        world.rules.deny(container.cgroup, [one])

        assert (web.opens(one.path), web.opens(other.path)) == (errno.EPERM, 0)
        assert world.rules.allowed(container.cgroup) & {one.rdev, other.rdev} == {other.rdev}

    def test_nothing_changes_for_another_container_nor_for_the_devices_that_all_have(self, world: World) -> None:
        gpu, web, other = world.devices[0], world.start(), world.start()
        world.nodes.show(found(world, other), gpu)
        attach(world, found(world, web), gpu)

        assert (web.opens(gpu.path), other.opens(gpu.path)) == (0, errno.EPERM)
        assert {each.opens("/dev/null") for each in (web, other)} == {0}

    def test_a_companion_comes_with_the_first_gpu_of_a_container_and_goes_with_the_last(self, world: World) -> None:
        web, other, nodes = world.start(), world.start(), [*world.devices, world.companion]
        world.nodes.show(found(world, other), world.companion)
        lender, seen = Lender(world), [[each.opens(node.path) for node in nodes] for each in (web, other)]
        one, two = (web, "GPU-0"), (web, "GPU-1")
        for wanted in ([one], [one, two], [two], [], [two]):
            lender.lends(*wanted)
            seen.append([web.opens(node.path) for node in nodes])

        no, yes = errno.ENOENT, 0
        assert seen[:2] == [[no, no, no], [no, no, errno.EPERM]]
        assert seen[2:] == [[yes, no, yes], [yes, yes, yes], [no, yes, yes], [no, no, no], [no, yes, yes]]
        assert other.opens(world.companion.path) == errno.EPERM

    def test_a_companion_that_two_containers_have_stays_with_the_one_that_needs_it(self, world: World) -> None:
        pair, companion, seen = [world.start(), world.start()], world.companion, []
        lender, (one, two) = Lender(world), zip(pair, ("GPU-0", "GPU-1"), strict=True)
        for wanted in ([one, two], [two], []):
            lender.lends(*wanted)
            seen.append([each.opens(companion.path) for each in pair])

        assert seen == [[0, 0], [errno.ENOENT, 0], [errno.ENOENT, errno.ENOENT]]
        rules = [world.rules.allowed(found(world, each).cgroup) for each in pair]
        assert not {companion.rdev, *(node.rdev for node in world.devices)} & frozenset.union(*rules)

    @pytest.mark.parametrize("what", ["file", "folder", "symlink", "other device"])
    def test_what_stands_at_the_path_already_is_refused_and_left_alone(self, world: World, what: Foreign) -> None:
        gpu, web = world.devices[0], world.start()
        container = found(world, web)
        web.put(gpu.path, what)
        with pytest.raises(Refused) as refused:
            world.nodes.show(container, gpu)
        world.nodes.hide(container, gpu)

        assert refused.value.reason == "NodeForeign"
        assert world.nodes.state(container, gpu) is NodeState.FOREIGN

    def test_an_ended_container_is_gone_for_every_step_and_taking_back_is_no_error(self, world: World) -> None:
        gpu, web = world.devices[0], world.start()
        container = found(world, web)
        attach(world, container, gpu)
        web.end()

        assert world.processes.find(web.target) is None
        world.rules.deny(container.cgroup, [gpu])
        world.nodes.hide(container, gpu)
        for step in (
            lambda: world.rules.allow(container.cgroup, [gpu]),
            lambda: world.rules.allowed(container.cgroup),
            lambda: world.nodes.show(container, gpu),
            lambda: world.nodes.state(container, gpu),
            lambda: world.nodes.access(container, gpu),
        ):
            with pytest.raises(Gone):
                step()

    def test_a_pod_with_another_uid_is_another_pod(self, world: World) -> None:
        web = world.start()
        renamed = Target(web.target.namespace, web.target.pod, "0" * 8 + web.target.uid[8:], web.target.container_id)
        try:
            container = world.processes.find(renamed)
        except AttachError as error:
            assert isinstance(error, Refused)  # noqa: PT017 - both answers are right, a container is not
        else:
            assert container is None

    def test_a_container_that_may_open_every_device_is_refused(self, world: World) -> None:
        web = world.start(privileged=True)
        with pytest.raises(Refused) as refused:
            world.rules.allow(found(world, web).cgroup, [world.devices[0]])
        assert refused.value.reason == "AllDevicesAllowed"

    @pytest.mark.parametrize("access", ["rw", "r", "w"])
    def test_what_the_runtime_itself_lets_it_open_is_permitted_whatever_we_do(self, world: World, access: str) -> None:
        one, other = world.devices
        whole_family = {"allow": True, "type": "c", "major": one.major, "access": access}
        web, plain = (found(world, world.start(devices=devices)) for devices in ([whole_family], []))
        both = [one.rdev, other.rdev]
        seen = [world.rules.permitted(each.cgroup, both) for each in (web, plain)]
        for each in (web, plain):
            world.rules.allow(each.cgroup, [one])
        seen += [world.rules.permitted(each.cgroup, both) for each in (web, plain)]

        assert seen == [frozenset(both), frozenset(), frozenset(both), frozenset()]

    def test_an_open_device_has_a_holder_also_after_the_detach_until_it_is_closed(self, world: World) -> None:
        gpu, web = world.devices[0], world.start()
        container = found(world, web)
        attach(world, container, gpu)
        before = held_by(world, web, gpu)
        assert web.holds(gpu.path) == 0
        detach(world, container, gpu)
        during = held_by(world, web, gpu)
        web.lets_go()

        assert before == []
        assert [(each.rdev, each.pod_uid) for each in during] == [(gpu.rdev, web.target.uid)]
        assert held_by(world, web, gpu) == []

    def test_a_signal_reaches_a_process_of_the_pod_and_no_other(self, world: World) -> None:
        web, other = world.start(), world.start()
        process = found(world, web).init
        assert not world.processes.signal(process, other.target.uid, signal.SIGKILL)
        assert found(world, web).init == process
        assert world.processes.signal(process, web.target.uid, signal.SIGKILL)
        eventually(lambda: world.processes.find(web.target) is None, "the container has ended")
        assert not world.processes.signal(process, web.target.uid, signal.SIGKILL)

    def test_the_end_of_a_process_of_the_pod_is_told_and_of_no_other(self, world: World) -> None:
        web, other, ended = world.start(), world.start(), threading.Event()
        process = found(world, web).init
        assert not world.processes.on_end(process, other.target.uid, ended.set)
        assert world.processes.on_end(process, web.target.uid, ended.set)
        assert not ended.wait(0.1)
        assert world.processes.signal(process, web.target.uid, signal.SIGKILL)
        assert ended.wait(10.0)
        assert not world.processes.on_end(process, web.target.uid, ended.set)
