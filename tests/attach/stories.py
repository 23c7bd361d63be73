"""Stories of a node, told step by step: each `yield` lets the agent make its passes."""

from collections.abc import Callable, Iterator

from attach.entry import Policy
from attach.reasons import ASKED
from attach.transitions import State
from tests.attach.fakes import gpu, target
from tests.attach.world import World

Story = Callable[[World], Iterator[float]]  # yields how long the agent then works, in seconds

GPU0, GPU1 = gpu(0).node.rdev, gpu(1).node.rdev
SETTLED_S = 45.0


def _container(world: World, pod: str = "a") -> None:
    world.node.start(target(pod))


def borrow_and_give_back(world: World) -> Iterator[float]:
    """A pod gets a GPU, uses it, closes it and gives it back."""
    _container(world)
    world.wish("u1", "a", 0)
    yield 2.0
    process = world.node.spawn(target("a"))
    assert world.node.open(process, GPU0)
    world.change("u1", release=ASKED)
    yield 3.0
    process.holds.clear()
    yield SETTLED_S
    world.wishes.clear()
    yield 1.0


def two_of_one_container(world: World) -> Iterator[float]:
    """Two attachments share the control device; the second keeps it when the first one goes."""
    _container(world)
    world.wish("u1", "a", 0)
    yield 1.0
    world.wish("u2", "a", 1)
    yield 1.0
    world.change("u1", release=ASKED)
    yield SETTLED_S
    assert world.entry("u2").state is State.ATTACHED
    assert "/dev/nvidiactl" in world.node.containers[0].dev
    world.change("u2", release=ASKED)
    yield SETTLED_S


def expired_and_terminated(world: World) -> Iterator[float]:
    """A lease runs out; a process that does not hear TERM is killed, one of another pod is left alone."""
    _container(world)
    _container(world, "b")
    world.wish("u1", "a", 0, 1, lease_s=10, policy=Policy.TERMINATE)
    yield 1.0
    process = world.node.spawn(target("a"))
    process.deaf = process.mapped = True
    assert world.node.open(process, GPU0)
    world.node.spawn(target("b")).holds[GPU1] = "uid-a"
    yield 10.0
    yield SETTLED_S + 30.0


def overdue(world: World) -> Iterator[float]:
    """The pod does not close its GPU; it stays that pod's, until the process ends."""
    _container(world)
    world.wish("u1", "a", 0)
    yield 1.0
    process = world.node.spawn(target("a"))
    assert world.node.open(process, GPU0)
    del world.wishes["u1"]
    yield SETTLED_S
    assert world.entry("u1").state is State.OVERDUE
    del world.node.running[process.process.pid]
    yield SETTLED_S


def a_system_pod_borrows(world: World) -> Iterator[float]:
    """A pod whose like may have any device open borrows one as every pod does: held until it is closed."""
    _container(world)
    _container(world, "b")
    world.system_pods = frozenset({target("a").uid})
    world.wish("u1", "a", 0)
    yield 1.0
    process = world.node.spawn(target("a"))
    assert world.node.open(process, GPU0)
    world.change("u1", release=ASKED)
    world.wish("u2", "b", 0)
    yield SETTLED_S
    assert world.entry("u1").state is State.OVERDUE
    del world.node.running[process.process.pid]
    yield SETTLED_S
    assert world.entry("u2").state is State.ATTACHED


def quarantined_when_its_reservation_goes(world: World) -> Iterator[float]:
    """Nobody could tell who held it, and the kubelet gives it away: the pod's processes end, whatever the policy."""
    _container(world)
    world.wish("u1", "a", 0)
    yield 1.0
    process = world.node.spawn(target("a"))
    assert world.node.open(process, GPU0)
    world.node.troubled.add("holders")
    world.change("u1", release=ASKED)
    yield SETTLED_S
    assert world.entry("u1").state is State.QUARANTINED
    world.change("u1", reservation_lost=True)
    world.node.troubled.clear()
    yield 2.0
    assert process.process.pid not in world.node.running
    yield SETTLED_S


def quarantined_and_clean_again(world: World) -> Iterator[float]:
    """The driver reports a fault while the GPU is lent; it is free once it was found healthy three times."""
    _container(world)
    world.wish("u1", "a", 0)
    yield 1.0
    world.node.listed[0] = gpu(0, unhealthy="Xid 79")
    world.change("u1", release=ASKED)
    yield SETTLED_S
    assert world.entry("u1").state is State.QUARANTINED
    world.node.listed[0] = gpu(0)
    yield SETTLED_S


def drift_and_restart(world: World) -> Iterator[float]:
    """A reload denies, a node is removed, the container starts again: each is made good."""
    _container(world)
    world.wish("u1", "a", 0)
    yield 1.0
    container = world.node.containers[0]
    container.covered |= container.ours
    yield 1.0
    del container.dev["/dev/nvidia0"]
    yield 1.0
    world.node.end(container)
    world.node.start(target("a", "a-2"))
    world.change("u1", target=target("a", "a-2"))
    yield 2.0
    assert world.entry("u1").state is State.ATTACHED


def refused_half_way(world: World) -> Iterator[float]:
    """Something else turns up where the node has to be; what was made goes again."""
    _container(world)
    world.node.refusing.add("show")
    world.wish("u1", "a", 0)
    yield SETTLED_S


def booted(world: World) -> Iterator[float]:
    """After a boot with other device numbers the pod's new container gets the same GPU."""
    _container(world)
    world.wish("u1", "a", 0)
    yield 1.0
    world.node.boot()
    world.clock.boot()
    world.node.listed[:] = [gpu(0, 1), gpu(1, 0)]
    world.node.start(target("a", "a-2"))
    world.change("u1", target=target("a", "a-2"))
    yield 2.0
    assert world.entry("u1").state is State.ATTACHED


def rivals(world: World) -> Iterator[float]:
    """While a GPU is being taken from one pod, held back, or moved to another number, nobody else gets it."""
    _container(world)
    _container(world, "b")
    world.node.troubled.add("deny")
    world.wish("u1", "a", 0)
    yield 1.0
    world.change("u1", release=ASKED)
    world.wish("u2", "b", 0)
    yield 1.0
    world.node.listed[:] = [gpu(0, 1), gpu(1, 0)]
    world.wish("u3", "b", 1)
    yield 30.0
    assert world.entry("u1").state is State.QUARANTINED
    world.node.troubled.clear()
    yield 10.0
    assert world.entry("u1").state is State.QUARANTINED
    yield SETTLED_S
    assert world.entry("u2").state is world.entry("u3").state is State.ATTACHED


def open_before(world: World) -> Iterator[float]:
    """A device that some pod has open already is given to nobody; what the node itself has open does not matter."""
    _container(world)
    world.node.spawn(None).holds[GPU0] = ""
    squatter = world.node.spawn(target("b"))
    squatter.holds[GPU0] = "uid-b"
    world.wish("u1", "a", 0)
    yield 2.0
    assert world.entries() == []
    squatter.holds.clear()
    yield 2.0
    assert world.entry("u1").state is State.ATTACHED
    world.change("u1", release=ASKED)
    yield SETTLED_S


def nobody_answers(world: World) -> Iterator[float]:
    """Who has the device open can't be found out while the lease ends: it stays reserved."""
    _container(world)
    world.wish("u1", "a", 0, lease_s=10)
    yield 1.0
    world.node.open(world.node.spawn(target("a")), GPU0)
    world.node.troubled.add("holders")
    yield 10.0 + 30.0 + 30.0
    assert world.entry("u1").state is State.QUARANTINED
    world.node.troubled.clear()
    world.node.running.clear()
    yield SETTLED_S


def a_rule_comes_back(world: World) -> Iterator[float]:
    """A runtime writes an old list of rules while the device is being taken back: it is denied again."""
    _container(world)
    world.wish("u1", "a", 0)
    yield 1.0
    process = world.node.spawn(target("a"))
    assert world.node.open(process, GPU0)
    world.change("u1", release=ASKED)
    yield 35.0
    world.node.containers[0].ours.add(GPU0)
    yield 1.0
    assert world.node.containers[0].ours == set(), "I11: a rule that came back is left"
    world.node.running.clear()
    yield SETTLED_S


def late_and_failed(world: World) -> Iterator[float]:
    """A driver that was loaded anew ends two; both pods hold on, and one hands its descriptor to another pod."""
    for pod, number in (("a", 0), ("b", 1)):
        _container(world, pod)
        world.wish(f"u{number}", pod, number)
    yield 1.0
    first, second = world.node.spawn(target("a")), world.node.spawn(target("b"))
    assert world.node.open(first, GPU0)
    assert world.node.open(second, GPU1)
    world.node.listed[:] = [gpu(0, 2), gpu(1, 3)]
    yield SETTLED_S
    assert {entry.state for entry in world.entries()} == {State.OVERDUE}
    del world.node.running[first.process.pid]
    other = world.node.spawn(target("c"))
    other.holds |= second.holds
    yield SETTLED_S
    assert [entry.state for entry in world.entries()] == [State.FAILED, State.QUARANTINED]
    for process in (second, other):
        del world.node.running[process.process.pid]
    yield SETTLED_S


def late_when_its_reservation_goes(world: World) -> Iterator[float]:
    """The pod holds on, and the kubelet gives the device away: its processes end."""
    _container(world)
    world.wish("u1", "a", 0)
    yield 1.0
    assert world.node.open(world.node.spawn(target("a")), GPU0)
    world.change("u1", release=ASKED)
    yield SETTLED_S
    assert world.entry("u1").state is State.OVERDUE
    world.change("u1", reservation_lost=True)
    yield SETTLED_S


STORIES: tuple[Story, ...] = (
    late_and_failed,
    late_when_its_reservation_goes,
    borrow_and_give_back,
    two_of_one_container,
    expired_and_terminated,
    overdue,
    a_system_pod_borrows,
    quarantined_when_its_reservation_goes,
    quarantined_and_clean_again,
    drift_and_restart,
    refused_half_way,
    booted,
    rivals,
    open_before,
    nobody_answers,
    a_rule_comes_back,
)


def tell(story: Story, world: World) -> dict[str, object]:
    """Tell a story; the agent starts anew for every pass."""
    for seconds in story(world):
        world.run_for(seconds, every_s=0.5 if seconds <= 3.0 else 2.5)
    return {
        "states": {entry.uid: entry.state for entry in world.entries()},
        "containers": [(sorted(c.ours), sorted(c.dev.items()), c.runs) for c in world.node.containers],
        "processes": sorted(world.node.running),
    }
