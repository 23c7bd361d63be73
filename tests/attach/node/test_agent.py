"""The agent over real containers: killed with SIGKILL before and after everything that it does, over both engines."""

import errno
import json
import os
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from attach.entry import Policy
from attach.inventory import StaticInventory
from attach.model import Access, Cgroup, CgroupVersion, DeviceNode, NodeState
from attach.points import POINTS
from attach.store import JOURNAL
from attach.transitions import State
from tests.attach.contract import found, held_by
from tests.attach.node.agents import Agents, accesses, repairs
from tests.attach.node.containers import in_version
from tests.attach.node.drift import add, make_anew, rules_in
from tests.attach.node.files import PODSLA, attachment, write_desired, write_inventory
from tests.attach.node.world import RealWorkload, RealWorld
from tests.waiting import eventually

BOTH_OPEN = [Access.OPENS] * 3  # and what both need
NEITHER = [Access.MISSING] * 3
LEASE_S = 600
MANY_LEASES_S = 604_800
ALIVE = 1_000_000  # points are never that many
INNER = "inner"
MOMENTS = 5  # a pass that changes anything has more
LISTENING = ("0A", "07", "00010000")  # of TCP and UDP, and the flag of a unix socket
UNUSED = {"before detach a program", "after detach a program"}  # unless something else made programs


@pytest.mark.parametrize(
    ("beside", "use"),
    [
        pytest.param(False, "open", id="two devices"),
        pytest.param(True, "cuda", id="one device beside another attachment, used as CUDA does"),
    ],
)
def test_killed_at_every_point_of_a_lease_from_its_attach_to_its_end(
    engine: RealWorld, agents: Agents, use: str, *, beside: bool
) -> None:
    """It ends by time, with a process of the pod that has the device open and is told to go; another pod waits."""
    (container, rival), gpu = rivals(engine, agents), engine.devices[0]
    alone = rules(engine, container)
    others = (agents.wish(container, "stays", "GPU-1", lease_s=MANY_LEASES_S),) if beside else ()
    assert not agents.die(ALIVE, *others)
    devices, rest = (("GPU-0",), Access.OPENS) if beside else (("GPU-0", "GPU-1"), Access.MISSING)
    before, whole = (rules(engine, container), rules(engine, rival)), list[list[bytes]]()
    for stage in ("attach", "end"):
        for number in count(1):
            at = f"{stage}, point {number}"
            lent = agents.wish(container, at, *devices, lease_s=LEASE_S, policy=Policy.TERMINATE)
            waits = agents.wish(rival, "waits", "GPU-0", lease_s=MANY_LEASES_S)
            died = agents.die(number, *others, lent) if stage == "attach" else None
            if agents.state(at) is None:  # else both would ask for it, and none would get it
                agents.run(*others, lent)
            agents.run(*others, lent, waits)
            assert (agents.state(at), accesses(engine, container)) == (State.ATTACHED, BOTH_OPEN), at
            whole = whole or rules(engine, container)
            assert rules(engine, container) == whole, at
            if stage == "end":
                assert container.ask(f"stay {use} {gpu.path}").error == 0
            agents.clock.ahead_s += LEASE_S
            if died is None:
                died = agents.die(number, *others, lent, waits)
            agents.run_until(State.RELEASED, at, *others, lent, waits)
            assert held_by(engine, container, gpu) == [], at
            if agents.state("waits") is not State.ATTACHED:
                agents.run_until(State.ATTACHED, "waits", *others, lent, waits)
            assert rival.opens(gpu.path) == 0, at
            agents.run(*others)
            assert (rules(engine, container), rules(engine, rival)) == before, at
            assert accesses(engine, container) == [Access.MISSING, rest, rest], at
            assert agents.state("stays") is (State.ATTACHED if beside else None), at
            if not beside:
                folder_of(container, engine.devices[1]).rmdir()
            if not died:
                break
        assert number > MOMENTS
    agents.run()
    assert agents.passed == points_of(engine) - UNUSED, "a point that no agent was killed at"
    assert (agents.state("stays"), accesses(engine, container)) == (None, NEITHER)
    assert rules(engine, container) == alone


def test_killed_at_every_point_when_the_reservation_is_lost(engine: RealWorld, agents: Agents) -> None:
    """From there on another pod wants it; agents die until that one's attachment has begun."""
    container, rival = rivals(engine, agents)
    stays = agents.wish(container, "stays", "GPU-1")
    agents.run(stays)
    before = rules(engine, container), rules(engine, rival)
    for number in count(1):
        lent, waits = agents.wish(container, f"u{number}", "GPU-0"), agents.wish(rival, "waits", "GPU-0")
        agents.run(stays, lent)
        assert accesses(engine, container) == BOTH_OPEN
        lost = replace(lent, reservation_lost=True)
        assert agents.die(number, stays, lost, waits), number
        is_over = agents.state("waits") is not None
        agents.run(stays, lost, waits)
        assert (agents.state(lent.uid), agents.state("waits")) == (State.RELEASED, State.ATTACHED), number
        agents.run(stays)
        assert agents.state("stays") is State.ATTACHED
        assert (rules(engine, container), rules(engine, rival)) == before, number
        assert accesses(engine, container) == [Access.MISSING, Access.OPENS, Access.OPENS], number
        if is_over:
            break
    assert number > MOMENTS


def test_killed_at_every_point_of_a_repair(engine: RealWorld, agents: Agents) -> None:
    """The runtime has made its rule anew, and the node is gone."""
    container, _ = rivals(engine, agents)
    want, gpu, cgroup = agents.wish(container, "u1", "GPU-1"), engine.devices[1], found(engine, container).cgroup
    before = rules(engine, container)
    agents.run(want)
    attached = rules(engine, container)
    for number in count(1):
        engine.nodes.hide(found(engine, container), gpu)
        make_anew(cgroup, gpu, before[0])
        assert container.opens(gpu.path) != 0
        died = agents.die(number, want)
        agents.run(want)
        assert (agents.state("u1"), container.opens(gpu.path)) == (State.ATTACHED, 0), number
        assert rules(engine, container) == attached, number
        if not died:
            break
    assert number > MOMENTS
    assert agents.passed >= (UNUSED if engine.version is CgroupVersion.V2 else set())
    agents.run()
    assert rules(engine, container) == before


def test_a_device_whose_wish_can_not_be_read_is_given_to_nobody_else(engine: RealWorld, agents: Agents) -> None:
    """Nobody has it open, so the journal alone says whose it is."""
    (container, rival), gpu = rivals(engine, agents), engine.devices[0]
    agents.run(agents.wish(container, "u1", "GPU-0"))
    agents.run(agents.wish(rival, "waits", "GPU-0"), complete=False)
    assert (agents.state("u1"), agents.state("waits")) == (State.ATTACHED, None)
    assert (container.opens(gpu.path), rival.opens(gpu.path)) == (0, errno.ENOENT)


def rivals(world: RealWorld, agents: Agents) -> list[RealWorkload]:
    """
    Start two containers with a cgroup in each one's own.

    They see that the device is never open to both, and that the journal on disk announces every rule and node of ours.
    """
    pair, gpu = [world.start(), world.start()], world.devices[0]
    for container in pair:
        nest(world, container)

    def audit() -> None:
        opens = [container.opens(gpu.path) == 0 for container in pair]
        assert opens != [True, True], "I1: open to both"
        assert not opens[1] or held_by(world, pair[0], gpu) == [], "I1: open to one while the other has it open"
        for each in (found(world, container) for container in pair):
            lines = [entry for entry in agents.entries().values() if entry.container == each]
            made = {at for entry in lines for at in entry.made}
            granted = {at for entry in lines for at in entry.granted}
            nodes, allowed = (*world.devices, world.companion), world.rules.allowed(each.cgroup)
            ruled = {at for at in nodes if at.rdev in allowed}
            shown = {at for at in nodes if world.nodes.state(each, at) is NodeState.RIGHT}
            assert ruled <= granted, "I3: a rule that the journal does not announce"
            assert shown <= made, "I3: a node that the journal does not announce"

    agents.audit = audit
    return pair


def nest(world: RealWorld, container: RealWorkload) -> None:
    """Make a cgroup in a container's own; on version 2 with rules of its own."""
    outer = found(world, container).cgroup
    Path(outer.path, INNER).mkdir()
    if world.version is CgroupVersion.V2:
        (code,) = rules_in(outer)
        add(inner(outer), code)


def inner(outer: Cgroup) -> Cgroup:
    path = Path(outer.path, INNER)
    return Cgroup(outer.version, str(path), path.stat().st_ino)


def rules(world: RealWorld, container: RealWorkload) -> list[list[bytes]]:
    """Read the rules of a container's cgroup, and of the one in it."""
    outer = found(world, container).cgroup
    return [rules_in(outer), rules_in(inner(outer))]


def points_of(world: RealWorld) -> set[str]:
    """Name the crash points of the loop and of what it does with this engine."""
    engine = "attach.rules1" if world.version is CgroupVersion.V1 else "attach.bpf"
    modules = {"attach.reconcile", "attach.store", "attach.nodes", "attach.processes", engine}
    return {name for name, module in POINTS.items() if module in modules}


def folder_of(container: RealWorkload, node: DeviceNode) -> Path:
    """Find the folder that was made for a node, which stays."""
    return container.inner.host_path(node.path).parent


def test_watch_follows_the_file_and_repairs_drift_until_it_is_told_to_end(engine: RealWorld, tmp_path: Path) -> None:
    """The command as it is run on a node; its file changes, and the container's device with it."""
    web, gpu = engine.start(), engine.devices[0]
    nest(engine, web)
    container, runtimes, log = found(engine, web), rules(engine, web)[0], tmp_path / "log"
    drifts: tuple[Callable[[], None], ...] = (
        lambda: make_anew(container.cgroup, gpu, runtimes),
        lambda: engine.nodes.hide(container, gpu),
    )
    files, desired = write_inventory(tmp_path, engine.devices), write_desired(tmp_path)
    command = [*PODSLA, "agent", "--watch", "--desired", str(desired), *files, "--every", "1"]
    with log.open("wb") as out, subprocess.Popen(in_version(engine.version, command), stdout=out) as agent:
        try:
            write_desired(tmp_path, attachment("u1", web.target, "GPU-0"))
            eventually(lambda: web.opens(gpu.path) == 0, "the container opens the device")
            eventually(lambda: moves(log)[-1][0] == "Attached", "it is attached")
            assert (listens(agent.pid), listens(web.inner.pid)) == ([], ["unix"]), "I12: it takes orders from a file"
            for drift in drifts:
                before = len(moves(log))
                drift()
                eventually(lambda n=before: len(moves(log)) == n + 2, "it is repaired")  # type: ignore[misc]
                assert web.opens(gpu.path) == 0
            write_desired(tmp_path)
            eventually(lambda: moves(log)[-1][0] == "Released", "it is released")
            assert web.opens(gpu.path) != 0
            agent.terminate()
            eventually(lambda: agent.poll() is not None, "the agent has ended")
            assert agent.returncode == 0
        finally:
            agent.kill()
    assert moves(log) == [
        ("Attaching", "Attaching"), ("Attached", "Attached"),
        ("Attaching", "RuleGone"), ("Attached", "Attached"), ("Attaching", "NodeGone"), ("Attached", "Attached"),
        *((state, "Withdrawn") for state in ("Draining", "Revoking", "Verifying", "Released")),
    ]  # fmt: skip


def test_a_second_agent_of_a_node_ends_at_once_whatever_its_journal(engine: RealWorld, tmp_path: Path) -> None:
    """Case 43: it would know nothing of what the first has lent. That one holds the node until it has ended."""
    inventory, log = write_inventory(tmp_path, engine.devices)[:2], tmp_path / "log"
    command = [*PODSLA, "agent", "--desired", str(write_desired(tmp_path)), *inventory]
    watch, once = (
        in_version(engine.version, [*command, mode, "--state", str(tmp_path / mode)]) for mode in ("--watch", "--once")
    )
    with log.open("wb") as out, subprocess.Popen(watch, stdout=out) as agent:
        try:
            eventually(lambda: "agent started" in log.read_text(), "the first agent works")
            second = subprocess.run(once, capture_output=True, text=True, check=False)
        finally:
            agent.kill()
    assert (second.returncode, second.stdout) == (3, "")
    assert "another agent works on this node" in second.stderr
    assert not (tmp_path / "--once" / JOURNAL).exists()
    assert subprocess.run(once, capture_output=True, check=False).returncode == 0


def listens(pid: int) -> list[str]:
    """Name the kinds of sockets by which others may speak to a process."""
    own, found_ = set[str](), list[str]()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            own.add(os.readlink(link))
    for kind, state, inode in (("tcp", 3, 9), ("tcp6", 3, 9), ("udp", 3, 9), ("udp6", 3, 9), ("unix", 3, 6)):
        lines = [line.split() for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]]
        found_ += [kind for line in lines if f"socket:[{line[inode]}]" in own and line[state] in LISTENING]
    return found_


def moves(log: Path) -> list[tuple[str, str]]:
    """Read from an agent's log which states an attachment came to, and why."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [(line["to"], line["reason"]) for line in lines if line["message"] == "attachment changed"]


def test_a_device_of_the_hosts_own_dev_is_lent_and_its_node_stays(engine: RealWorld, agents: Agents) -> None:
    """Case 24: the pod has the host's /dev; only the rule comes and goes."""
    real = engine.devices[0]
    gpu = DeviceNode(f"/dev/podsla-attach-test-{os.getpid()}", real.major, real.minor)
    os.mknod(gpu.path, 0o666 | stat.S_IFCHR, gpu.rdev)
    try:
        Path(gpu.path).chmod(0o666)
        write_inventory(agents.folder, [gpu])
        agents.inventory = StaticInventory(agents.folder / "inventory.yaml")
        dev = {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "rw"]}
        web = engine.start(dev_mount=dev)
        assert web.opens(gpu.path) == errno.EPERM
        agents.run(agents.wish(web, "u1", "GPU-0"))
        assert (agents.state("u1"), web.opens(gpu.path)) == (State.ATTACHED, 0)
        agents.run()
        assert (agents.state("u1"), web.opens(gpu.path)) == (None, errno.EPERM)
        assert Path(gpu.path).stat().st_rdev == gpu.rdev
    finally:
        Path(gpu.path).unlink()


def test_drift_is_made_good_and_counted(engine: RealWorld, agents: Agents) -> None:
    container = engine.start()
    want, gpu = agents.wish(container, "u1", "GPU-0"), engine.devices[0]
    agents.run(want)

    engine.nodes.hide(found(engine, container), gpu)
    agents.run(want)
    assert container.opens(gpu.path) == 0

    engine.rules.deny(found(engine, container).cgroup, [gpu])
    agents.run(want)
    assert container.opens(gpu.path) == 0
    assert repairs(agents) == {"NodeGone": 1, "RuleGone": 1}


def test_a_container_that_was_started_again_gets_its_device_again(engine: RealWorld, agents: Agents) -> None:
    """As the kubelet does it: the same pod, another container id."""
    before = engine.start()
    want, path = agents.wish(before, "u1", "GPU-0"), engine.devices[0].path
    agents.run(want)
    before.end()
    agents.run(want)
    assert agents.state("u1") is State.ATTACHING

    after = engine.start(replace(before.target, container_id=before.target.container_id[::-1]))
    assert after.opens(path) != 0
    agents.run(replace(want, target=after.target))
    assert (agents.state("u1"), after.opens(path)) == (State.ATTACHED, 0)
    assert repairs(agents) == {"ContainerGone": 1}
    agents.run()
    assert (agents.state("u1"), after.opens(path) != 0) == (None, True)
