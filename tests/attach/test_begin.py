"""What a new attachment is told, and that nothing is touched before every check has passed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from attach.model import Target
from attach.reasons import ASKED
from attach.transitions import State
from tests.attach.fakes import FILE, gpu, target
from tests.attach.world import World

GPU0 = gpu(0)


def _nothing(world: World) -> None:
    """All is as it should be."""


def _no_container(world: World) -> None:
    world.node.end(world.node.containers[0])


def _other_pod(world: World) -> None:
    world.change("u1", target=Target("team-a", "a", "uid-of-an-older-one", "a-1"))


def _unknown(world: World) -> None:
    world.change("u1", devices=("GPU-0", "GPU-9"))


def _ambiguous(world: World) -> None:
    world.node.listed.append(replace(gpu(7), node=GPU0.node))


def _companion_is_a_gpu(world: World) -> None:
    world.node.listed[0] = replace(GPU0, companions=(replace(gpu(1).node, path="/dev/extra"),))


def _allowed_without_a_node(world: World) -> None:
    world.node.containers[0].base |= {GPU0.node.rdev}


def _unhealthy(world: World) -> None:
    world.node.listed[0] = gpu(0, unhealthy="Xid 79")


def _busy(world: World) -> None:
    world.node.spawn(target("b")).holds[GPU0.node.rdev] = "uid-b"


def _own_pod_busy(world: World) -> None:
    world.node.spawn(target("a")).holds[GPU0.node.rdev] = "uid-a"


def _node_daemon(world: World) -> None:
    world.node.spawn(None).holds[GPU0.node.rdev] = ""


def _system_pod(world: World) -> None:
    world.node.spawn(target("monitoring")).holds[GPU0.node.rdev] = "uid-monitoring"
    world.system_pods = frozenset({"uid-monitoring"})


def _foreign(world: World) -> None:
    world.node.containers[0].dev[GPU0.node.path] = FILE


def _allowed(world: World) -> None:
    world.node.containers[0].base |= {GPU0.node.rdev}
    world.node.containers[0].dev[GPU0.node.path] = GPU0.node.rdev


def _ours_without_journal(world: World) -> None:
    world.node.containers[0].ours.add(GPU0.node.rdev)


def _privileged(world: World) -> None:
    world.node.containers[0].open_to_all = True


def _expired(world: World) -> None:
    world.clock.go(900.0)


def _released(world: World) -> None:
    world.change("u1", release=ASKED)


def _rival(world: World) -> None:
    world.wish("u2", "b", 0)


def _ended_rival(world: World) -> None:
    world.wish("u2", "b", 0)
    world.change("u2", release=ASKED)


def _blind(method: str) -> Callable[[World], None]:
    return lambda world: world.node.troubled.add(method)


@pytest.mark.parametrize(
    ("before", "reason", "begun"),
    [
        pytest.param(_nothing, "Attached", True, id="everything is there"),
        pytest.param(_no_container, "ContainerNotFound", False, id="no such container"),
        pytest.param(_other_pod, "ContainerNotFound", False, id="the pod was created again: another pod"),
        pytest.param(_unknown, "UnknownDevice", False, id="one of two devices is unknown: none is given"),
        pytest.param(_ambiguous, "AmbiguousDevice", False, id="two devices with one number"),
        pytest.param(_companion_is_a_gpu, "AmbiguousDevice", False, id="what it needs beside it is another GPU"),
        pytest.param(_unhealthy, "DeviceUnhealthy", False, id="a device with a fault"),
        pytest.param(_busy, "DeviceBusy", False, id="another pod has it open"),
        pytest.param(_own_pod_busy, "DeviceBusy", False, id="the pod itself has it open, nobody knows how"),
        pytest.param(_node_daemon, "Attached", True, id="a daemon of the node has it open, as always"),
        pytest.param(_system_pod, "Attached", True, id="a system pod has it open, as always"),
        pytest.param(_foreign, "NodeForeign", False, id="the image has a file there"),
        pytest.param(_allowed, "AlreadyAllowed", False, id="the container opens it already"),
        pytest.param(_allowed_without_a_node, "AlreadyAllowed", False, id="it could, with a node that it makes itself"),
        pytest.param(_ours_without_journal, "AlreadyAllowed", False, id="a rule of ours that no journal knows"),
        pytest.param(_privileged, "AllDevicesAllowed", False, id="a privileged container"),
        pytest.param(_expired, "LeaseExpired", False, id="a lease that has ended"),
        pytest.param(_released, "ReleaseRequested", False, id="released before it began"),
        pytest.param(_rival, "DuplicateDevice", False, id="two wishes for one device: neither"),
        pytest.param(_ended_rival, "Attached", True, id="a rival that has ended is none"),
        *(
            pytest.param(_blind(method), "DriverSilent", False, id=f"unknown: {method}")
            for method in ("gpus", "find", "holders", "allowed", "permitted", "state")
        ),
    ],
)
def test_begin(before: Callable[[World], None], reason: str, begun: bool) -> None:
    world = World()
    world.node.start(target("a"))
    world.node.start(target("b"))
    world.wish("u1", "a", 0)
    before(world)
    truth = [(set(c.ours), dict(c.dev)) for c in world.node.containers]
    world.run_for(1.0)

    assert world.statuses["u1"].reason == reason
    assert world.statuses["u1"].message
    held = [entry for entry in world.entries() if not entry.is_final]
    assert ([entry.state for entry in held] == [State.ATTACHED]) is begun
    assert ([(set(c.ours), dict(c.dev)) for c in world.node.containers] != truth) is begun


def test_all_or_nothing() -> None:
    """Of two devices one is held: the other one isn't touched."""
    world = World()
    for pod in ("a", "b"):
        world.node.start(target(pod))
    world.wish("u1", "a", 1)
    world.run()
    world.wish("u2", "b", 0, 1)

    assert world.run()["u2"].reason == "DeviceHeld"
    world.change("u1", release=ASKED)
    assert world.run()["u2"].reason == "Attached"
    assert world.node.containers[0].ours == set()
