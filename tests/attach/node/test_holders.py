"""Who has a device open after it was taken back, and how each of them ends."""

import errno
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from attach import devfilter
from attach.errors import Unknown
from attach.model import CgroupVersion, Container, DeviceNode, Holder
from tests.attach.contract import attach, detach, found, held_by
from tests.attach.node.drift import add
from tests.attach.node.test_rules2 import clear
from tests.attach.node.world import ZERO, RealWorkload, RealWorld
from tests.waiting import eventually

LOOKS_AT_A_MOVER = 100
LOOKS_BESIDE_FORKS = 10


def holders_in_pods(world: RealWorld, node: DeviceNode) -> list[Holder]:
    """List the holders that run in pods: the host's own processes are not the tests' business."""
    return [holder for holder in world.processes.holders([node.rdev]) if holder.pod_uid]


def end(world: RealWorld, holders: Sequence[Holder], number: int) -> None:
    for holder in holders:
        assert world.processes.signal(holder.process, holder.pod_uid, number)


@pytest.mark.parametrize(
    ("request_", "mapped"),
    [
        pytest.param("open", False, id="a descriptor"),
        pytest.param("cuda", False, id="as CUDA does"),
        pytest.param("thread", False, id="a thread with a table of descriptors of its own"),
        pytest.param("stay open", False, id="a child"),
        pytest.param("stay headless", False, id="a child whose first thread has ended"),
        pytest.param("stay cuda", False, id="a child, as CUDA does"),
    ],
)
def test_whoever_has_it_open_is_found_after_the_detach_and_ends_by_a_signal(
    world: RealWorld, request_: str, *, mapped: bool
) -> None:
    """Case 46."""
    gpu, web = world.devices[0], world.start()
    container = found(world, web)
    attach(world, container, gpu)
    assert web.ask(f"{request_} {gpu.path}").error == 0
    detach(world, container, gpu)

    (holder,) = held_by(world, web, gpu)
    assert (holder.pod_uid, holder.rdev, holder.command, holder.mapped) == (
        web.target.uid, gpu.rdev, "workload", mapped,
    )  # fmt: skip
    end(world, [holder], signal.SIGTERM)
    eventually(lambda: held_by(world, web, gpu) == [], "nobody has it open")


def without_zero(world: RealWorld, container: Container) -> None:
    """Take from a container the one device that can be mapped on any machine, so that it can be attached."""
    if world.version is CgroupVersion.V1:
        Path(container.cgroup.path, "devices.deny").write_text("c 1:5 rwm")
        return
    allowed = [os.makedev(1, 3), os.makedev(1, 9)]
    clear(container.cgroup)
    deny_the_rest = devfilter.Instruction(0xB7, 0).encode() + devfilter.Instruction(0x95).encode()
    add(container.cgroup, devfilter.assemble(allowed, deny_the_rest))


def test_a_mapping_alone_is_found(world: RealWorld) -> None:
    """Case 46: the descriptor is closed, the memory stays."""
    web = world.start()
    container = found(world, web)
    without_zero(world, container)
    zero = DeviceNode("/dev/gpu0", ZERO.major, ZERO.minor)
    world.nodes.show(container, zero)
    assert web.opens(zero.path) == errno.EPERM
    world.rules.allow(container.cgroup, [zero])
    assert web.ask(f"map {zero.path}").error == 0
    detach(world, container, zero)

    (holder,) = held_by(world, web, zero)
    assert holder.mapped
    web.lets_go()
    assert held_by(world, web, zero) == []


def test_a_descriptor_that_was_sent_to_another_pod_is_found_there(world: RealWorld) -> None:
    """Case 46: the rules do not hinder it; so it counts as busy, and only its own pod's name ends it."""
    gpu, web, other = world.devices[0], world.start(), world.start()
    container = found(world, web)
    attach(world, container, gpu)
    assert web.holds(gpu.path) == 0
    given = web.ask("give").fd
    assert other.ask("take", fd=given).error == 0
    os.close(given)
    web.lets_go()
    detach(world, container, gpu)

    (holder,) = holders_in_pods(world, gpu)
    assert (holder.container_id, holder.pod_uid) == (other.target.container_id, other.target.uid)
    assert not world.processes.signal(holder.process, web.target.uid, signal.SIGKILL)
    other.lets_go()
    assert holders_in_pods(world, gpu) == []


def test_one_that_ignores_sigterm_is_still_a_holder_and_ends_by_sigkill(world: RealWorld) -> None:
    """Case 47."""
    gpu, web = world.devices[0], world.start()
    container = found(world, web)
    attach(world, container, gpu)
    assert web.ask(f"ignore {int(signal.SIGTERM)}").error == 0
    assert web.holds(gpu.path) == 0
    detach(world, container, gpu)
    holders = held_by(world, web, gpu)
    end(world, holders, signal.SIGTERM)
    assert web.opens("/dev/null") == 0
    assert held_by(world, web, gpu) == holders
    end(world, holders, signal.SIGKILL)
    eventually(lambda: held_by(world, web, gpu) == [], "nobody has it open")


@pytest.mark.parametrize(
    ("request_", "is_mapped"),
    [
        pytest.param("hopfd", False, id="a descriptor"),
        pytest.param("hopmap", True, id="a mapping"),
    ],
)
def test_one_that_moves_it_without_end_is_not_taken_for_idle(
    engine: RealWorld, request_: str, *, is_mapped: bool
) -> None:
    """Case 46: each number and place is looked at once in a look, when the device may be at another."""
    web = engine.start()
    container = found(engine, web)
    gpu = DeviceNode("/dev/gpu0", ZERO.major, ZERO.minor) if is_mapped else engine.devices[0]
    if is_mapped:
        without_zero(engine, container)
    attach(engine, container, gpu)
    assert web.ask(f"stay {request_} {gpu.path}").error == 0
    detach(engine, container, gpu)

    seen = [is_held(engine, web, gpu) for _ in range(LOOKS_AT_A_MOVER)]
    assert "idle" not in seen
    assert "held" in seen
    web.ask("leave")
    assert held_by(engine, web, gpu) == []


def is_held(world: RealWorld, web: RealWorkload, node: DeviceNode) -> str:
    try:
        return "held" if held_by(world, web, node) else "idle"
    except Unknown as unknown:
        assert unknown.reason == "ProcessesKeepChanging"  # noqa: PT017 - busy, either way
        return "unknown"


def test_processes_of_others_that_begin_without_end_leave_no_doubt(engine: RealWorld) -> None:
    """Case 48: each look goes on with what is new, until there is nothing new."""
    gpu = engine.devices[0]
    loops = [subprocess.Popen(["sh", "-c", "while :; do /bin/true; done"]) for _ in range(2)]
    try:
        held = [engine.processes.holders([gpu.rdev]) for _ in range(LOOKS_BESIDE_FORKS)]
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    assert len(held) == LOOKS_BESIDE_FORKS


def hops(web: RealWorkload) -> tuple[int, int, int]:
    """Count how often it opened the device again, was refused by a rule, and failed otherwise, since asked last."""
    opened, refused, failed = map(int, web.ask("hopped").text.split())
    return opened, refused, failed


def test_one_that_forks_without_end_opens_nothing_after_the_detach_and_is_never_taken_for_idle(
    world: RealWorld,
) -> None:
    """Case 48: the youngest process always has it; several looks find it or say that they can't tell."""
    gpu, web = world.devices[0], world.start()
    container = found(world, web)
    attach(world, container, gpu)
    assert web.holds(gpu.path) == 0
    assert web.ask("hop").error == 0
    web.lets_go()
    eventually(lambda: hops(web)[0] > 0, "it opens the device again")
    detach(world, container, gpu)
    eventually(lambda: hops(web)[1] > 0, "the rule refuses it")  # what it was at while the rule went is counted here
    hopped = (0, 0, 0)

    def refused_again() -> bool:
        nonlocal hopped
        hopped = hops(web)
        return any(hopped)

    eventually(refused_again, "it hops on")
    assert hopped == (0, hopped[1], 0), "it opened the device again, or failed by something else than the rule"
    assert web.opens(gpu.path) == errno.ENOENT
    assert "idle" not in [is_held(world, web, gpu) for _ in range(3)]


def test_a_process_begun_before_the_attach_that_uses_it_first_too_early_fails_for_good(world: RealWorld) -> None:
    """Case 58: what CUDA does; a child begun after the attach sees the device."""
    gpu, web = world.devices[0], world.start()
    container = found(world, web)
    early = web.ask(f"cuda {gpu.path}").error
    attach(world, container, gpu)
    late = web.ask(f"cuda {gpu.path}").error
    child = web.ask(f"child cuda {gpu.path}").error
    detach(world, container, gpu)

    assert (early, late, child) == (errno.ENOENT, errno.ENOENT, 0)
    assert web.ask(f"child cuda {gpu.path}").error == errno.ENOENT
    assert held_by(world, web, gpu) == []


def test_a_process_that_uses_it_as_cuda_does_keeps_it_until_it_ends(world: RealWorld) -> None:
    """Closing is no way to give it back: the context ends with the process."""
    gpu, web = world.devices[0], world.start()
    container = found(world, web)
    attach(world, container, gpu)
    assert web.ask(f"stay cuda {gpu.path}").error == 0
    detach(world, container, gpu)
    web.lets_go()
    (holder,) = held_by(world, web, gpu)
    assert holder.process.pid != container.init.pid
    end(world, [holder], signal.SIGTERM)
    eventually(lambda: held_by(world, web, gpu) == [], "nobody has it open")
    assert web.opens("/dev/null") == 0


def test_the_device_is_given_to_the_next_pod_and_back_again(world: RealWorld) -> None:
    """Case 55."""
    gpu, pods = world.devices[0], [world.start(), world.start()]
    for web in [*pods, *pods]:
        others = [each for each in pods if each is not web]
        attach(world, found(world, web), gpu)
        assert web.opens(gpu.path) == 0
        assert {each.opens(gpu.path) for each in others} == {errno.ENOENT}
        detach(world, found(world, web), gpu)
        assert held_by(world, web, gpu) == []
