"""The agent over real containers: killed with SIGKILL before and after everything that it does, over both engines."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from attach.cgroupfs import detect
from attach.clock import SystemClock
from attach.entry import Policy, Wish
from attach.inventory import StaticInventory
from attach.journal import decode
from attach.metrics import Metrics
from attach.model import Access, CgroupVersion
from attach.nodes import HostNodes
from attach.observe import Node
from attach.points import nowhere
from attach.processes import HostProcesses
from attach.reconcile import Desired, Reconciler
from attach.store import FileStore
from attach.transitions import State
from tests.attach.node.containers import Machine, Runtime, hierarchies
from tests.attach.node.files import PODSLA, attachment, write_desired, write_inventory
from tests.attach.node.world import RealWorkload, RealWorld
from tests.waiting import eventually


@pytest.fixture(params=CgroupVersion, ids=str)
def world(here: Machine, request: pytest.FixtureRequest) -> Iterator[RealWorld]:
    hierarchy = hierarchies().get(request.param)
    if hierarchy is None:
        pytest.skip(f"this machine has no cgroup {request.param} mounted that rules devices")
    world = RealWorld(Runtime("runc", request.param, here, here.folder / "distroless"), hierarchy)
    yield world
    world.close()


class Agents:
    """One agent after the other over one journal."""

    def __init__(self, world: RealWorld, folder: Path) -> None:
        self.world, self.folder = world, folder
        write_inventory(folder, world.devices)
        self.inventory = StaticInventory(folder / "inventory.yaml")

    def run(self, desired: Desired, at: Callable[[str], None] = nowhere, nodes: HostNodes | None = None) -> None:
        """Start an agent, make one pass, end it."""
        processes = HostProcesses(self.world.hierarchy)
        node = Node(self.world.rules, nodes or self.world.nodes, processes, self.inventory)
        with FileStore(self.folder / "state", at) as store:
            Reconciler(node, store, SystemClock(), Metrics(), at).reconcile(desired)

    def die(self, desired: Desired, number: int) -> bool:
        """Start an agent that is killed at the n-th crash point; False: it passed fewer."""
        left = number

        def kill(_name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            try:
                self.run(desired, kill, HostNodes(self.world.hierarchy))
            finally:
                os._exit(0)
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])

    def state(self, uid: str) -> State | None:
        """Read how an attachment stands."""
        data = FileStore(self.folder / "state").load()
        found = None if data is None else decode(data).entries.get(uid)
        return found.state if found else None


@pytest.fixture
def agents(world: RealWorld, tmp_path: Path) -> Agents:
    return Agents(world, tmp_path)


def wish(container: RealWorkload, uid: str, *devices: str, **changes: Any) -> Wish:
    now_s = SystemClock().now().wall_s
    made = Wish(uid, container.target, devices, now_s, 600, 0, Policy.WAIT,
                release=False, reservation_lost=False, force=False)  # fmt: skip
    return replace(made, **changes)


def wanted(*wishes: Wish) -> Desired:
    return Desired({each.uid: each for each in wishes})


def accesses(world: RealWorld, container: RealWorkload) -> list[Access]:
    found = world.processes.find(container.target)
    assert found is not None
    return [world.nodes.access(found, device) for device in world.devices]


def allowed(world: RealWorld, container: RealWorkload) -> frozenset[int]:
    found = world.processes.find(container.target)
    assert found is not None
    return world.rules.allowed(found.cgroup)


BOTH_OPEN = [Access.OPENS, Access.OPENS]
NEITHER = [Access.MISSING, Access.MISSING]


def test_killed_at_every_point_of_an_attach_of_two_devices(world: RealWorld, agents: Agents) -> None:
    container = world.start()
    rules = allowed(world, container)
    for number in count(1):
        uid = f"u{number}"
        want = wanted(wish(container, uid, "GPU-0", "GPU-1"))
        died = agents.die(want, number)
        agents.run(want)
        assert (agents.state(uid), accesses(world, container)) == (State.ATTACHED, BOTH_OPEN), number
        agents.run(wanted())
        assert (agents.state(uid), accesses(world, container)) == (None, NEITHER), number
        if not died:
            break
    assert number > 10
    assert allowed(world, container) == rules


def test_killed_at_every_point_of_the_end_of_a_lease_beside_another_attachment(
    world: RealWorld, agents: Agents
) -> None:
    container = world.start()
    stays = wish(container, "stays", "GPU-1")
    for number in count(1):
        lent = wish(container, f"u{number}", "GPU-0")
        agents.run(wanted(stays, lent))
        assert accesses(world, container) == BOTH_OPEN
        expired = replace(lent, reservation_lost=True)
        died = agents.die(wanted(stays, expired), number)
        agents.run(wanted(stays, expired))
        assert agents.state(lent.uid) is State.RELEASED, number
        assert agents.state("stays") is State.ATTACHED
        assert accesses(world, container) == [Access.MISSING, Access.OPENS], number
        if not died:
            break
    assert number > 10


def test_what_the_container_holds_stays_its_own_until_it_closes_it(world: RealWorld, agents: Agents) -> None:
    """Another pod's container doesn't get the device as long as the first one has it open."""
    one, other = world.start(), world.start()
    path = world.devices[0].path
    agents.run(wanted(wish(one, "u1", "GPU-0")))
    assert one.holds(path) == 0

    agents.run(wanted(wish(other, "u2", "GPU-0")))
    assert (agents.state("u1"), agents.state("u2")) == (State.VERIFYING, None)
    assert one.opens(path) != 0
    assert other.opens(path) != 0

    one.lets_go()
    agents.run(wanted(wish(other, "u2", "GPU-0")))
    assert (agents.state("u1"), agents.state("u2")) == (None, State.ATTACHED)
    assert one.opens(path) != 0
    assert other.opens(path) == 0


def test_watch_follows_the_file_until_it_is_told_to_end(here: Machine, tmp_path: Path) -> None:
    """The command as it is run on a node; its file changes, and the container's device with it."""
    hierarchy = detect()
    world = RealWorld(Runtime("runc", hierarchy.version, here, here.folder / "distroless"), hierarchy)
    container, path = world.start(), world.devices[0].path
    files, desired = write_inventory(tmp_path, world.devices), write_desired(tmp_path)
    command = [*PODSLA, "agent", "--watch", "--desired", str(desired), *files, "--every", "1"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log) as agent:
        try:
            write_desired(tmp_path, attachment("u1", container.target, "GPU-0"))
            eventually(lambda: container.opens(path) == 0, "the container opens the device")
            write_desired(tmp_path)
            eventually(lambda: container.opens(path) != 0, "the container no longer opens it")
            eventually(lambda: "Released" in (tmp_path / "log").read_text(), "it is released")
            agent.terminate()
            eventually(lambda: agent.poll() is not None, "the agent has ended")
            assert agent.returncode == 0
        finally:
            agent.kill()
            world.close()
    changes = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["to"] for line in changes if line["message"] == "attachment changed"] == [
        "Attaching", "Attached", "Draining", "Revoking", "Verifying", "Released",
    ]  # fmt: skip


def test_drift_is_made_good(world: RealWorld, agents: Agents) -> None:
    container = world.start()
    want = wanted(wish(container, "u1", "GPU-0"))
    agents.run(want)
    found = world.processes.find(container.target)
    assert found is not None

    world.nodes.hide(found, world.devices[0])
    agents.run(want)
    assert container.opens(world.devices[0].path) == 0

    world.rules.deny(found.cgroup, [world.devices[0]])
    agents.run(want)
    assert container.opens(world.devices[0].path) == 0
