"""A real systemd that rules a container's scope: it reloads, and access stays or is repaired."""

import errno
import os
import stat
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from attach.bpf import Bpf
from attach.errors import Gone, Unknown
from attach.model import Cgroup, CgroupVersion, Container, DeviceNode
from attach.points import Hook
from attach.rules2 import Rules2
from attach.systemd import SystemdRules
from attach.transitions import State
from tests.attach.contract import Contract, found
from tests.attach.node.agents import Agents, repairs
from tests.attach.node.conftest import skip
from tests.attach.node.containers import Machine, Workload, hierarchies, new_target
from tests.attach.node.systemd import Systemd
from tests.attach.node.test_rules2 import programs
from tests.attach.node.test_soak import CYCLES
from tests.attach.node.world import RealWorld, stand_ins
from tests.waiting import eventually

SCRIPT = Path(__file__).with_name("systemd.sh")


@pytest.fixture(scope="module")
def systemd(here: Machine) -> Iterator[Systemd]:
    """A systemd that has come up; it ends with its cgroup."""
    hierarchy = hierarchies().get(CgroupVersion.V2)
    if hierarchy is None:
        skip("this machine has no cgroup version 2 mounted")
    if not Path("/usr/lib/systemd/systemd").exists():
        skip("systemd is not installed: run tests/attach/node/install-packages")
    root, control = here.folder / "systemd", here.folder / "systemd.ctl"
    root.mkdir()
    control.mkdir()
    cgroup = Path(hierarchy.mount, here.name, "systemd")
    cgroup.mkdir(parents=True)
    command = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", str(SCRIPT)]
    with (here.folder / "systemd.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, str(root), str(cgroup), str(here.folder / "workload")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    first = eventually(lambda: (cgroup / "init.scope/cgroup.procs").read_text().split()[:1], "systemd is up")
    made = Systemd(int(first[0]), control, hierarchy, here, root)
    made.listen()
    yield made
    made.end()
    process.kill()
    process.wait()


def start(systemd: Systemd) -> tuple[Workload, Container]:
    """Start a container, and find it."""
    workload = systemd.start(new_target())
    container = systemd.find(workload.target)
    assert container is not None
    return workload, container


def make_node(workload: Workload) -> str:
    """Put the device's node where the container's process sees it."""
    gpu = stand_ins()[0]
    os.mknod(workload.host_path(gpu.path), 0o666 | stat.S_IFCHR, gpu.rdev)
    workload.host_path(gpu.path).chmod(0o666)
    return gpu.path


def left_after(change: Callable[[Cgroup, list[DeviceNode]], None], container: Container) -> int:
    """Count a container's programs after a pass."""
    change(container.cgroup, [stand_ins()[0]])
    return len(programs(container.cgroup))


RELOADS = [
    pytest.param(("daemon-reload",), id="daemon-reload"),
    pytest.param(("daemon-reexec",), id="daemon-reexec"),
    pytest.param(("set-property", "--runtime", "UNIT", "TasksMax=500"), id="set-property of something else"),
    pytest.param(("set-property", "--runtime", "UNIT", "AllowedCPUs=0"), id="set-property of its CPUs"),
]


@pytest.mark.parametrize("reload", RELOADS)
def test_a_systemd_that_was_told_gives_the_device_again_by_itself(systemd: Systemd, reload: tuple[str, ...]) -> None:
    """Cases 2 and 3."""
    web, container = start(systemd)
    gpu, path = stand_ins()[0], make_node(web)
    before = systemd.listed(container)
    rules = SystemdRules(Rules2(), systemd.socket)

    assert web.ask(f"try {path}").error == errno.EPERM
    rules.allow(container.cgroup, [gpu])
    assert web.ask(f"try {path}").error == 0
    assert systemd.listed(container) == before | {f"/dev/char/{gpu.major}:{gpu.minor} rw"}
    for _ in range(3):
        systemd.reload(container, *reload)
        assert web.ask(f"try {path}").error == 0
        assert rules.allowed(container.cgroup) == {gpu.rdev}
        eventually(lambda: left_after(rules.allow, container) <= 3, "no program is left behind")

    rules.deny(container.cgroup, [gpu])
    assert web.ask(f"try {path}").error == errno.EPERM
    systemd.reload(container, *reload)
    assert web.ask(f"try {path}").error == errno.EPERM
    assert web.ask("try /dev/zero").error == 0
    assert systemd.listed(container) == before


@pytest.mark.parametrize("reload", RELOADS)
def test_a_systemd_that_was_not_told_takes_the_device_away_and_the_next_pass_repairs_it(
    systemd: Systemd, reload: tuple[str, ...]
) -> None:
    """Cases 2 and 3, and the second line of defence: no reload leaves a program behind."""
    web, container = start(systemd)
    gpu, path, rules = stand_ins()[0], make_node(web), Rules2()
    rules.allow(container.cgroup, [gpu])

    def repaired() -> bool:  # by this pass or a later one: systemd may load another program after it has answered
        return left_after(rules.allow, container) <= 2 and web.ask(f"try {path}").error == 0

    lost = 0
    for _ in range(5):
        systemd.reload(container, *reload)
        lost += web.ask(f"try {path}").error == errno.EPERM
        eventually(repaired, "the device opens again, and no program is left behind")
    assert lost or reload[0] != "daemon-reload"
    rules.deny(container.cgroup, [gpu])
    assert web.ask(f"try {path}").error == errno.EPERM
    assert web.ask("try /dev/zero").error == 0


def test_an_agent_makes_good_what_reloads_took_away_and_counts_it(systemd: Systemd, tmp_path: Path) -> None:
    """Its engine tells systemd nothing, as one does that can't reach it: what is left is the second line of defence."""
    world = RealWorld(systemd, systemd.hierarchy)
    try:
        agents, web, gpu = Agents(world, tmp_path), world.start(), world.devices[0]
        container, lent = found(world, web), agents.wish(web, "u1", "GPU-0")
        agents.run(lent)
        lost = 0
        while lost < 2:
            systemd.reload(container, "daemon-reload")
            lost += web.opens(gpu.path) == errno.EPERM

            def repaired() -> bool:  # systemd may load another program after it has answered
                agents.run(lent)
                return web.opens(gpu.path) == 0 and agents.state("u1") is State.ATTACHED

            eventually(repaired, "the device opens again")
        assert repairs(agents)["RuleGone"] >= lost
    finally:
        world.close()


def test_a_rule_that_systemd_was_not_told_of_is_taken_back_too(systemd: Systemd) -> None:
    """As an agent leaves it that died before it told: systemd has nothing to load anew."""
    web, container = start(systemd)
    gpu, path, before = stand_ins()[0], make_node(web), [each.code for each in programs(container.cgroup)]
    Rules2().allow(container.cgroup, [gpu])
    assert web.ask(f"try {path}").error == 0
    SystemdRules(Rules2(), systemd.socket).deny(container.cgroup, [gpu])
    assert web.ask(f"try {path}").error == errno.EPERM
    assert [each.code for each in programs(container.cgroup)] == before


def test_attaching_over_and_over_leaves_no_program_behind(systemd: Systemd) -> None:
    """Case 16: 64 would fit."""
    web, container = start(systemd)
    gpu, path = stand_ins()[0], make_node(web)
    rules = SystemdRules(Rules2(), systemd.socket)
    for _ in range(40):
        rules.allow(container.cgroup, [gpu])
        assert web.ask(f"try {path}").error == 0
        rules.deny(container.cgroup, [gpu])
        assert web.ask(f"try {path}").error == errno.EPERM
    eventually(lambda: left_after(rules.deny, container) <= 4, "no program is left behind")


def test_attaching_over_and_over_while_it_reloads_all_the_time(systemd: Systemd) -> None:
    """
    What it was told it gives, and gives it no more once it was told so: neither waits for a reload that is under way.

    For a tenth of the cycles of the soak. Seen to fail where it is told nothing.
    """
    web, container = start(systemd)
    gpu, path = stand_ins()[0], make_node(web)
    cycles, rules, before = CYCLES // 10, SystemdRules(Rules2(), systemd.socket), systemd.listed(container)
    seen = Counter[tuple[str, int]]()
    with reloading(systemd) as reloads:
        for _ in range(cycles):
            rules.allow(container.cgroup, [gpu])
            seen["attached", web.ask(f"try {path}").error] += 1
            rules.deny(container.cgroup, [gpu])
            seen["detached", web.ask(f"try {path}").error] += 1
    print(f"{cycles} cycles beside {len(reloads)} reloads: {dict(seen)}")
    assert seen == {("attached", 0): cycles, ("detached", errno.EPERM): cycles}
    assert systemd.listed(container) == before
    assert len(reloads) > 1


@contextmanager
def reloading(systemd: Systemd) -> Iterator[list[float]]:
    """Have it make every rule anew, over and over; when it had."""
    reloads, ended = list[float](), threading.Event()

    def reload() -> None:
        while not ended.is_set():
            systemd.run("systemctl", "daemon-reload")
            reloads.append(time.monotonic())

    thread = threading.Thread(target=reload)
    thread.start()
    try:
        yield reloads
    finally:
        ended.set()
        thread.join()


def test_a_scope_that_has_ended_is_gone_and_taking_back_is_no_error(systemd: Systemd) -> None:
    web, container = start(systemd)
    gpu, rules = stand_ins()[0], SystemdRules(Rules2(), systemd.socket)
    rules.allow(container.cgroup, [gpu])
    systemd.run("systemctl", "kill", "--signal=KILL", container.cgroup.unit)
    eventually(lambda: systemd.find(web.target) is None, "it has ended")
    eventually(lambda: not Path(container.cgroup.path).exists(), "its cgroup is removed")
    rules.deny(container.cgroup, [gpu])
    with pytest.raises(Gone):
        rules.allow(container.cgroup, [gpu])


def test_a_systemd_that_does_not_answer_keeps_nothing_open_and_is_not_done_with(
    systemd: Systemd, tmp_path: Path
) -> None:
    """The rule is gone at once; and since the next reload would give it again, it does not count as taken away."""
    workload, container = start(systemd)
    gpu, path = stand_ins()[0], make_node(workload)
    SystemdRules(Rules2(), systemd.socket).allow(container.cgroup, [gpu])
    assert workload.ask(f"try {path}").error == 0
    with pytest.raises(Unknown) as unknown:
        SystemdRules(Rules2(), tmp_path / "nobody").deny(container.cgroup, [gpu])
    assert unknown.value.reason == "SystemdSilent"
    assert workload.ask(f"try {path}").error == errno.EPERM


class SystemdWorld(RealWorld):
    """This machine with a systemd that rules the containers, and is told of it."""

    def __init__(self, systemd: Systemd) -> None:
        self._socket = systemd.socket
        super().__init__(systemd, systemd.hierarchy)

    def rules_at(self, at: Hook) -> SystemdRules:
        return SystemdRules(Rules2(Bpf(at)), self._socket, at)


@pytest.fixture
def world(systemd: Systemd) -> Iterator[SystemdWorld]:
    """In place of the world of runtimes."""
    made = SystemdWorld(systemd)
    yield made
    made.close()


class TestThroughSystemd(Contract):
    """Every case, with containers that are scopes of a systemd."""


def test_killed_at_every_point_of_an_attach_and_of_a_release(
    systemd: Systemd, world: SystemdWorld, tmp_path: Path
) -> None:
    """Among them those between what systemd is told and what the kernel is: in the end both say the same."""
    agents, web = Agents(world, tmp_path), world.start()
    container, gpu = systemd.find(web.target), world.devices[0]
    assert container is not None
    before = systemd.listed(container)
    lines = {f"/dev/char/{each.major}:{each.minor} rw" for each in (gpu, world.companion)}
    for number in count(1):
        lent = agents.wish(web, f"u{number}", "GPU-0")
        died = agents.die(number, lent)
        agents.run(lent)
        assert (agents.state(lent.uid), web.opens(gpu.path)) == (State.ATTACHED, 0), number
        assert systemd.listed(container) == before | lines, number
        died_again = agents.die(number)
        agents.run()
        assert (agents.state(lent.uid), web.opens(gpu.path)) == (None, errno.ENOENT), number
        assert systemd.listed(container) == before, number
        assert not world.rules.allowed(container.cgroup), number
        if not died and not died_again:
            break
    assert agents.passed >= {"before tell systemd", "after tell systemd"}
