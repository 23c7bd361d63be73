"""The agent over real containers: killed with SIGKILL before and after everything that it does, over both engines."""

import json
import subprocess
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from attach.cgroupfs import detect
from attach.entry import Policy
from attach.model import Access
from attach.points import POINTS
from attach.transitions import State
from tests.attach.contract import found, held_by
from tests.attach.node.agents import Agents, accesses, allowed
from tests.attach.node.containers import Machine, Runtime
from tests.attach.node.files import PODSLA, attachment, write_desired, write_inventory
from tests.attach.node.world import RealWorld
from tests.waiting import eventually

BOTH_OPEN = [Access.OPENS, Access.OPENS]
NEITHER = [Access.MISSING, Access.MISSING]
LEASE_S = 600
MANY_LEASES_S = 604_800


@pytest.mark.parametrize("beside", [False, True], ids=["two devices", "one device beside another attachment"])
def test_killed_at_every_point_of_a_lease_from_its_attach_to_its_end(
    engine: RealWorld, agents: Agents, *, beside: bool
) -> None:
    """It ends by time, with a process of the pod that has the device open and is told to go."""
    container = engine.start()
    rules, gpu = allowed(engine, container), engine.devices[0]
    others = (agents.wish(container, "stays", "GPU-1", lease_s=MANY_LEASES_S),) if beside else ()
    devices = ("GPU-0",) if beside else ("GPU-0", "GPU-1")
    for stage in ("attach", "end"):
        for number in count(1):
            at = f"{stage}, point {number}"
            lent = agents.wish(container, at, *devices, lease_s=LEASE_S, policy=Policy.TERMINATE)
            died = agents.die(number, *others, lent) if stage == "attach" else None
            agents.run(*others, lent)
            assert (agents.state(at), accesses(engine, container)) == (State.ATTACHED, BOTH_OPEN), at
            if stage == "end":
                assert container.ask(f"stay open {gpu.path}").error == 0
            agents.clock.ahead_s += LEASE_S
            if died is None:
                died = agents.die(number, *others, lent)
            agents.run_until(State.RELEASED, at, *others, lent)
            assert accesses(engine, container) == [Access.MISSING, Access.OPENS if beside else Access.MISSING], at
            assert held_by(engine, container, gpu) == [], at
            assert agents.state("stays") is (State.ATTACHED if beside else None), at
            if not died:
                break
        assert number > 10
    agents.run()
    assert agents.passed == set(POINTS), "a point that no agent was killed at"
    assert (agents.state("stays"), accesses(engine, container)) == (None, NEITHER)
    assert allowed(engine, container) == rules


def test_killed_at_every_point_when_the_reservation_is_lost(engine: RealWorld, agents: Agents) -> None:
    container = engine.start()
    stays = agents.wish(container, "stays", "GPU-1")
    for number in count(1):
        lent = agents.wish(container, f"u{number}", "GPU-0")
        agents.run(stays, lent)
        assert accesses(engine, container) == BOTH_OPEN
        lost = replace(lent, reservation_lost=True)
        died = agents.die(number, stays, lost)
        agents.run(stays, lost)
        assert agents.state(lent.uid) is State.RELEASED, number
        assert agents.state("stays") is State.ATTACHED
        assert accesses(engine, container) == [Access.MISSING, Access.OPENS], number
        if not died:
            break
    assert number > 10


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


def repairs(agents: Agents) -> dict[str, float]:
    """Read how often drift was repaired, by reason."""
    samples = [sample for metric in agents.metrics.registry.collect() for sample in metric.samples]
    return {sample.labels["reason"]: sample.value for sample in samples if sample.name == "podsla_attach_repairs_total"}
