"""Cgroup version 2: what happens to the programs that stand there, whoever put them there."""

import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from attach import devfilter
from attach.bpf import Bpf, Program, call
from attach.cgroupfs import levels, opened
from attach.devfilter import Instruction
from attach.errors import Gone, Refused, Unknown
from attach.model import Cgroup, CgroupVersion, Container, DeviceNode
from attach.rules2 import Rules2
from tests.attach.contract import attach, detach, found
from tests.attach.node.conftest import skip
from tests.attach.node.containers import Machine, Runtime, hierarchies
from tests.attach.node.drift import add
from tests.attach.node.world import RealWorkload, RealWorld
from tests.waiting import eventually

SUBGROUP = "container"
MAP_CREATE = 0


@pytest.fixture(params=["runc", "crun"])
def world(here: Machine, request: pytest.FixtureRequest) -> Iterator[RealWorld]:
    """Cgroup version 2 alone."""
    if CgroupVersion.V2 not in hierarchies():
        skip("this machine has no cgroup version 2 mounted")
    made = RealWorld(
        Runtime(request.param, CgroupVersion.V2, here, here.folder / "distroless"), hierarchies()[CgroupVersion.V2]
    )
    yield made
    made.close()


def programs(cgroup: Cgroup) -> list[Program]:
    """Read what is on a cgroup, by the kernel's own account."""
    bpf = Bpf()
    with opened(cgroup) as fd:
        return [_read(bpf, number) for number in bpf.query(fd).numbers]


def _read(bpf: Bpf, number: int) -> Program:
    with bpf.opened(number) as fd:
        return bpf.read(fd)


def clear(cgroup: Cgroup) -> None:
    """Take all programs away."""
    bpf = Bpf()
    with opened(cgroup) as fd:
        for number in bpf.query(fd).numbers:
            with bpf.opened(number) as program:
                bpf.detach(fd, program)


@contextmanager
def map_program(cgroup: Cgroup) -> Iterator[None]:
    """Attach a program that allows all and uses a map, as snapd's and the gates of others do."""
    map_fd, _ = call(MAP_CREATE, struct.pack("<IIIII", 1, 8, 4, 8, 0), "make a map")
    load_map = Instruction(0x18, 6, 1, imm=map_fd), Instruction(0), Instruction(0xB7, 0, imm=1), Instruction(0x95)
    try:
        add(cgroup, b"".join(each.encode() for each in load_map), "gate")
        yield
    finally:
        os.close(map_fd)


def codes(cgroup: Cgroup) -> list[bytes]:
    return sorted(program.code for program in programs(cgroup))


def shown(world: RealWorld) -> tuple[RealWorkload, Container, DeviceNode]:
    """Start a container with the device's node in it, and no rule."""
    web, gpu = world.start(), world.devices[0]
    container = found(world, web)
    world.nodes.show(container, gpu)
    return web, container, gpu


@pytest.mark.parametrize(
    "more", [0, 1, 62], ids=["one program", "two programs", "63 programs, as many as can be replaced"]
)
def test_every_program_gets_the_rule_and_gets_its_own_words_back(world: RealWorld, more: int) -> None:
    """Cases 1 and 15."""
    web, container, gpu = shown(world)
    (runtimes,) = programs(container.cgroup)
    for extra in range(more):  # each another one, as a rule of its own
        add(container.cgroup, devfilter.assemble([os.makedev(250, extra)], runtimes.code))
    before = codes(container.cgroup)
    others = [(path, web.opens(path)) for path in ("/dev/null", "/dev/zero", "/dev/random", "/dev/tty")]
    world.nodes.show(container, world.devices[1])

    world.rules.allow(container.cgroup, [gpu])
    during = programs(container.cgroup)
    assert web.opens(gpu.path) == 0
    assert web.opens(world.devices[1].path) == errno.EPERM
    assert [(path, web.opens(path)) for path, _ in others] == others
    assert sorted(devfilter.split(each.name, each.code)[1] for each in during) == before

    world.rules.deny(container.cgroup, [gpu])
    assert web.opens(gpu.path) == errno.EPERM
    assert codes(container.cgroup) == before
    assert [(path, web.opens(path)) for path, _ in others] == others


def test_64_programs_are_refused_and_left_as_they_are(world: RealWorld) -> None:
    """Case 1, full: Linux wants room for one more even to replace one."""
    web, container, gpu = shown(world)
    (original,) = programs(container.cgroup)
    for extra in range(63):
        add(container.cgroup, devfilter.assemble([os.makedev(250, extra)], original.code))
    before = codes(container.cgroup)
    with pytest.raises(Refused) as refused:
        world.rules.allow(container.cgroup, [gpu])
    assert refused.value.reason == "TooManyPrograms"
    assert codes(container.cgroup) == before
    assert web.opens(gpu.path) == errno.EPERM


def test_a_container_without_any_program_may_open_all_and_is_refused(world: RealWorld) -> None:
    """Case 1, none; case 10."""
    web, container, gpu = shown(world)
    clear(container.cgroup)
    assert web.opens(gpu.path) == 0
    with pytest.raises(Refused, match="may open every device") as refused:
        world.rules.allow(container.cgroup, [gpu])
    assert refused.value.reason == "AllDevicesAllowed"
    assert programs(container.cgroup) == []


def test_a_runtime_that_makes_its_rule_anew_takes_access_away_and_the_next_pass_gives_it_back(world: RealWorld) -> None:
    """Cases 2 and 3: systemd drops what it knows, which ours has replaced, so its new program comes on top."""
    web, container, gpu = shown(world)
    (original,) = programs(container.cgroup)
    world.rules.allow(container.cgroup, [gpu])
    for _ in range(100):  # 64 fit
        add(container.cgroup, original.code)
        assert web.opens(gpu.path) == errno.EPERM
        assert world.rules.allowed(container.cgroup) == frozenset()
        world.rules.allow(container.cgroup, [gpu])
        assert web.opens(gpu.path) == 0
        assert len(programs(container.cgroup)) == 1
    world.rules.deny(container.cgroup, [gpu])
    assert codes(container.cgroup) == [original.code]


def test_a_deny_after_a_reload_leaves_no_rule_of_ours(world: RealWorld) -> None:
    """Case 17: a rule that something else overrides is taken away too, wherever it is."""
    web, container, gpu = shown(world)
    (original,) = programs(container.cgroup)
    world.rules.allow(container.cgroup, [gpu])
    add(container.cgroup, devfilter.assemble([gpu.rdev], original.code), devfilter.name_of([gpu.rdev]))
    add(container.cgroup, original.code)
    world.rules.deny(container.cgroup, [gpu])
    assert codes(container.cgroup) == [original.code], "I10: programs that say nothing more are left"
    assert web.opens(gpu.path) == errno.EPERM


class DisturbedBpf(Bpf):
    """The kernel, with something done or refused before its own answer."""

    def __init__(self, call: str, before: Callable[[], None]) -> None:
        super().__init__()
        self._call = call
        self._before = before

    def _disturb(self, call: str) -> None:
        if call == self._call:
            self._before()

    def read(self, program_fd: int) -> Program:
        self._disturb("read")
        return super().read(program_fd)

    def replace(self, cgroup_fd: int, new_fd: int, old_fd: int, flags: int) -> None:
        self._disturb("replace")
        super().replace(cgroup_fd, new_fd, old_fd, flags)


def test_another_that_replaces_the_program_meanwhile_wins_and_gets_our_rule_too(world: RealWorld) -> None:
    """Case 5."""
    web, container, gpu = shown(world)
    (original,) = programs(container.cgroup)
    theirs = devfilter.assemble([os.makedev(250, 1)], original.code)
    left = [theirs]

    def replace_first() -> None:
        if left:
            clear(container.cgroup)
            add(container.cgroup, left.pop())

    Rules2(DisturbedBpf("replace", replace_first)).allow(container.cgroup, [gpu])
    assert web.opens(gpu.path) == 0
    assert [devfilter.split(each.name, each.code)[1] for each in programs(container.cgroup)] == [theirs]


def test_one_that_never_stops_replacing_is_given_up_on_and_nothing_is_open(world: RealWorld) -> None:
    """Case 5, without end."""
    web, container, gpu = shown(world)
    (original,) = programs(container.cgroup)

    def always() -> None:
        clear(container.cgroup)
        add(container.cgroup, original.code)

    with pytest.raises(Unknown) as unknown:
        Rules2(DisturbedBpf("replace", always)).allow(container.cgroup, [gpu])
    assert unknown.value.reason == "RulesKeepChanging"
    assert web.opens(gpu.path) == errno.EPERM


@pytest.mark.parametrize(
    ("call", "code", "reason"),
    [
        pytest.param("replace", errno.EINVAL, "KernelRefuses", id="case 8: a kernel without REPLACE"),
        pytest.param("replace", errno.E2BIG, "TooManyPrograms", id="no room"),
    ],
)
def test_what_the_kernel_refuses_is_refused_by_name_and_nothing_is_changed(
    world: RealWorld, call: str, code: int, reason: str
) -> None:
    web, container, gpu = shown(world)
    before = codes(container.cgroup)

    def refuse() -> None:
        raise OSError(code, os.strerror(code))

    with pytest.raises(Refused) as refused:
        Rules2(DisturbedBpf(call, refuse)).allow(container.cgroup, [gpu])
    assert refused.value.reason == reason
    assert codes(container.cgroup) == before
    assert web.opens(gpu.path) == errno.EPERM


class HidingBpf(Bpf):
    """The kernel with a security module that gives nobody one of the programs."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self._hidden = hidden

    @contextmanager
    def opened(self, number: int) -> Iterator[int]:
        if number == self._hidden:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        with super().opened(number) as fd:
            yield fd


@pytest.mark.parametrize("hidden", [0, 1], ids=["the first program", "the second program"])
def test_a_program_that_is_hidden_is_refused_by_name_before_another_is_changed(world: RealWorld, hidden: int) -> None:
    """Case 6."""
    web, container, gpu = shown(world)
    (original,) = programs(container.cgroup)
    add(container.cgroup, devfilter.assemble([gpu.rdev], original.code))
    before = [(each.number, each.code) for each in programs(container.cgroup)]
    rules = Rules2(HidingBpf(before[hidden][0]))
    with pytest.raises(Refused) as refused:
        rules.allow(container.cgroup, [gpu])
    assert refused.value.reason == "ProgramUnreadable"
    assert [(each.number, each.code) for each in programs(container.cgroup)] == before
    assert web.opens(gpu.path) == errno.EPERM


def test_a_program_with_maps_is_refused_before_any_other_is_changed(world: RealWorld) -> None:
    """Case 7."""
    web, container, gpu = shown(world)
    before = codes(container.cgroup)
    with map_program(container.cgroup):
        with pytest.raises(Refused) as refused:
            world.rules.allow(container.cgroup, [gpu])
        assert refused.value.reason == "ProgramHasMaps"
        assert sorted(each.code for each in programs(container.cgroup) if not each.has_maps) == before
    assert web.opens(gpu.path) == errno.EPERM


def test_a_scope_with_the_processes_in_a_folder_of_it_is_ruled_at_both(world: RealWorld) -> None:
    """Cases 9 and 11: crun's <scope>/container, and a container inside the container."""
    web, container, gpu = shown(world)
    (original,) = programs(container.cgroup)
    inner = Path(container.cgroup.path, SUBGROUP)
    inner.mkdir()
    add(Cgroup(CgroupVersion.V2, str(inner), inner.stat().st_ino), original.code)
    inner.joinpath("cgroup.procs").write_text(str(container.init.pid))
    assert found(world, web) == container

    world.rules.allow(container.cgroup, [gpu])
    assert web.opens(gpu.path) == 0
    assert str(world.nodes.access(container, gpu)) == "Opens"
    world.rules.deny(container.cgroup, [gpu])
    assert web.opens(gpu.path) == errno.EPERM
    with opened(container.cgroup) as fd:
        for folder in levels(fd):
            assert [_read(Bpf(), number).code for number in Bpf().query(folder).numbers] == [original.code]


def test_an_allow_that_stopped_midway_is_not_settled(world: RealWorld) -> None:
    """The container opens the device, and a cgroup in its own does not yet: the next agent has something left to do."""
    _, container, gpu = shown(world)
    (original,) = programs(container.cgroup)
    path = Path(container.cgroup.path, SUBGROUP)
    world.rules.allow(container.cgroup, [gpu])
    path.mkdir()
    add(Cgroup(CgroupVersion.V2, str(path), path.stat().st_ino), original.code)
    asked = world.rules.allowed, world.rules.settled
    assert [ask(container.cgroup) for ask in asked] == [{gpu.rdev}, set()]
    world.rules.allow(container.cgroup, [gpu])
    assert [ask(container.cgroup) for ask in asked] == [{gpu.rdev}, {gpu.rdev}]


def test_a_frozen_container_is_attached_to_and_the_verification_says_that_it_can_not_tell(world: RealWorld) -> None:
    """Case 12."""
    web, container, gpu = shown(world)
    freeze = Path(container.cgroup.path, "cgroup.freeze")
    events = Path(container.cgroup.path, "cgroup.events")
    freeze.write_text("1")
    eventually(lambda: "frozen 1" in events.read_text(), "the container is frozen")
    attach(world, container, gpu)
    access = world.nodes.access(container, gpu)
    freeze.write_text("0")
    assert str(access) == "Fails"
    assert web.opens(gpu.path) == 0


def test_a_cgroup_made_anew_under_the_same_path_is_not_touched(world: RealWorld) -> None:
    """Case 13."""
    _, container, gpu = shown(world)
    (original,) = programs(container.cgroup)
    other = Cgroup(CgroupVersion.V2, container.cgroup.path, container.cgroup.inode + 1)
    with pytest.raises(Gone):
        world.rules.allow(other, [gpu])
    world.rules.deny(other, [gpu])
    assert codes(container.cgroup) == [original.code]


def test_the_root_is_refused(world: RealWorld) -> None:
    """Case 14."""
    mount = world.hierarchy.mount
    root = Cgroup(CgroupVersion.V2, mount, Path(mount).stat().st_ino)
    for step in (world.rules.allow, world.rules.deny):
        with pytest.raises(Refused) as refused:
            step(root, [world.devices[0]])
        assert refused.value.reason == "RootCgroup"


def test_a_program_above_that_denies_is_seen(world: RealWorld) -> None:
    """A pod-level gate takes away what the container's own programs allow."""
    web, container, gpu = shown(world)
    (original,) = programs(container.cgroup)
    world.rules.allow(container.cgroup, [gpu])
    pod = Path(container.cgroup.path).parent
    add(Cgroup(CgroupVersion.V2, str(pod), pod.stat().st_ino), original.code)
    assert world.rules.allowed(container.cgroup) == frozenset()
    assert web.opens(gpu.path) == errno.EPERM


def test_a_crashed_agent_left_nothing_that_a_new_one_does_not_know(world: RealWorld) -> None:
    """No record is needed: another engine finds the rule by the program's name, and takes it back."""
    web, container, gpu = shown(world)
    (original,) = programs(container.cgroup)
    world.rules.allow(container.cgroup, [gpu])
    new = Rules2()
    assert new.allowed(container.cgroup) == {gpu.rdev}
    new.deny(container.cgroup, [gpu])
    assert codes(container.cgroup) == [original.code]
    assert web.opens(gpu.path) == errno.EPERM
    detach(world, container, gpu)
