"""How attachments end that are not closed in time, by agents over real containers: plain ones, and as CUDA does it."""

import errno
import os
import signal
from dataclasses import replace

import pytest

from attach.case import CHECK_EVERY_S, CLEAN_CHECKS, TERM_WITHIN_S, VERIFY_WITHIN_S
from attach.entry import Policy, Wish
from attach.inventory import StaticInventory
from attach.model import DeviceNode
from attach.reasons import ASKED
from attach.transitions import State
from tests.attach.contract import found, held_by
from tests.attach.node.agents import Agents
from tests.attach.node.files import write_inventory
from tests.attach.node.test_holders import without_zero
from tests.attach.node.world import ZERO, RealWorkload, RealWorld
from tests.waiting import eventually

both_uses = pytest.mark.parametrize("use", ["open", "cuda"], ids=["a plain process", "as CUDA does"])


def lend(agents: Agents, container: RealWorkload, policy: Policy = Policy.WAIT) -> tuple[Wish, Wish]:
    """Attach; the wish, and the one that asks for the release."""
    want = agents.wish(container, "u1", "GPU-0", policy=policy)
    agents.run(want)
    assert agents.state("u1") is State.ATTACHED
    return want, replace(want, release=ASKED)


def send(container: RealWorkload, other: RealWorkload, gpu: DeviceNode) -> None:
    """Have a container open a device, send the descriptor to another pod's process, and close its own."""
    assert container.holds(gpu.path) == 0
    given = container.ask("give")
    assert other.ask("take", fd=given.fd).error == 0
    os.close(given.fd)
    container.lets_go()


@both_uses
def test_a_pod_that_keeps_it_open_is_overdue_and_nobody_else_gets_it(
    engine: RealWorld, agents: Agents, use: str
) -> None:
    gpu, container, other = engine.devices[0], engine.start(), engine.start()
    _, released = lend(agents, container)
    assert container.ask(f"stay {use} {gpu.path}").error == 0
    waits = agents.wish(other, "u2", "GPU-0")
    agents.run(released, waits)
    assert agents.state("u1") is State.VERIFYING
    agents.clock.ahead_s += VERIFY_WITHIN_S
    agents.run(released, waits)
    assert (agents.state("u1"), agents.state("u2")) == (State.OVERDUE, None)
    assert container.opens(gpu.path) != 0
    assert other.opens(gpu.path) != 0

    (holder,) = held_by(engine, container, gpu)
    os.kill(holder.process.pid, signal.SIGKILL)
    agents.run_until(State.RELEASED, "u1", released, waits)
    agents.run_until(State.ATTACHED, "u2", released, waits)
    assert (container.opens(gpu.path) != 0, other.opens(gpu.path)) == (True, 0)


def test_what_another_pod_has_open_is_quarantined_until_it_was_found_free_three_times(
    engine: RealWorld, agents: Agents
) -> None:
    gpu, container, other, third = engine.devices[0], engine.start(), engine.start(), engine.start()
    _, released = lend(agents, container)
    send(container, other, gpu)
    waits = agents.wish(third, "u2", "GPU-0")
    agents.run(released, waits)
    agents.clock.ahead_s += VERIFY_WITHIN_S
    agents.run(released, waits)
    entry = agents.entry("u1")
    assert entry is not None
    assert (entry.state, entry.reason, agents.state("u2")) == (State.QUARANTINED, "HeldByOther", None)

    other.lets_go()
    for _ in range(CLEAN_CHECKS - 1):
        agents.clock.ahead_s += CHECK_EVERY_S
        agents.run(released, waits)
        assert (agents.state("u1"), agents.state("u2")) == (State.QUARANTINED, None)
    agents.clock.ahead_s += CHECK_EVERY_S
    agents.run_until(State.RELEASED, "u1", released, waits)
    agents.run_until(State.ATTACHED, "u2", released, waits)
    assert third.opens(gpu.path) == 0


@both_uses
@pytest.mark.parametrize("deaf", [False, True], ids=["TERM is enough", "TERM is ignored"])
def test_terminate_ends_the_processes_that_have_it_open_and_no_other(
    engine: RealWorld, agents: Agents, use: str, *, deaf: bool
) -> None:
    """Case 50: another pod's process, which was sent the descriptor, lives on, and the device is nobody's to give."""
    gpu, container, other = engine.devices[0], engine.start(), engine.start()
    _, released = lend(agents, container, Policy.TERMINATE)
    send(container, other, gpu)
    if deaf:
        assert container.ask(f"ignore {int(signal.SIGTERM)}").error == 0
    assert container.ask(f"stay {use} {gpu.path}").error == 0
    agents.run(released)
    entry = agents.entry("u1")
    assert entry is not None
    assert (entry.state, entry.signalled) == (State.VERIFYING, signal.SIGTERM)
    if deaf:
        agents.run(released)
        assert len(held_by(engine, container, gpu)) == 1
        agents.clock.ahead_s += TERM_WITHIN_S
        agents.run(released)
    eventually(lambda: held_by(engine, container, gpu) == [], "the pod's own process has ended")
    agents.clock.ahead_s += VERIFY_WITHIN_S
    agents.run(released)
    entry = agents.entry("u1")
    assert entry is not None
    assert (entry.state, entry.reason) == (State.QUARANTINED, "HeldByOther")
    assert [holder.process for holder in held_by(engine, other, gpu)] == [found(engine, other).init]
    assert (container.opens("/dev/null"), other.opens("/dev/null")) == (0, 0)


def test_a_mapping_alone_drains_until_it_is_unmapped_or_the_grace_period_is_over(
    engine: RealWorld, agents: Agents
) -> None:
    """Case 46: the descriptor is closed; the node is hidden at once, the rule goes after the grace period."""
    web = engine.start()
    gpu = DeviceNode("/dev/gpu0", ZERO.major, ZERO.minor)
    without_zero(engine, found(engine, web))
    write_inventory(agents.folder, [gpu])
    agents.inventory = StaticInventory(agents.folder / "inventory.yaml")
    for uid in ("waited for", "unmapped in time"):
        want = agents.wish(web, uid, "GPU-0", grace_s=30)
        agents.run(want)
        assert (agents.state(uid), web.ask(f"map {gpu.path}").error) == (State.ATTACHED, 0)
        released = replace(want, release=ASKED)
        agents.run(released)
        assert (agents.state(uid), web.opens(gpu.path)) == (State.DRAINING, errno.ENOENT)
        assert engine.rules.allowed(found(engine, web).cgroup) >= {gpu.rdev}
        if uid == "waited for":
            agents.clock.ahead_s += 30
            agents.run(released)
            assert (agents.state(uid), [each.mapped for each in held_by(engine, web, gpu)]) == (State.VERIFYING, [True])
            assert not engine.rules.allowed(found(engine, web).cgroup) & {gpu.rdev}
        web.lets_go()
        agents.run_until(State.RELEASED, uid, released)
