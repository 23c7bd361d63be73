"""A disk that is full keeps nobody's access open, and gives nobody any."""

import pytest

from attach.entry import Policy
from attach.reconcile import Desired, Reconciler
from attach.transitions import State
from tests.attach.fakes import MemoryStore, gpu, target
from tests.attach.world import World

GPU0, GPU1 = gpu(0).node.rdev, gpu(1).node.rdev


class Disk(World):
    """A world whose disk may be full, on which pod a has a GPU open; the fake does not ask what the journal says."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryStore()
        self.store, self.node.saved = self.disk, None
        self.agent = Reconciler(self.node.ports, self.store, self.clock, self.recorder)
        for pod in ("a", "b"):
            self.node.start(target(pod))
        self.wish("u1", "a", 0, policy=Policy.WAIT)
        self.go(1)
        self.process = self.node.spawn(target("a"))
        assert self.node.open(self.process, GPU0)

    def go(self, seconds: int, *, dying: bool = False) -> None:
        """Let time pass; *dying*: each pass is another agent's."""
        for _ in range(seconds):
            self.clock.go(1.0)
            if dying:
                self.agent = Reconciler(self.node.ports, self.store, self.clock, self.recorder)
            desired = Desired(dict(self.wishes), {}, self.complete, self.system_pods)
            self.statuses = {status.uid: status for status in self.agent.reconcile(desired)}


@pytest.mark.parametrize("dying", [False, True], ids=["one agent", "one that dies after every pass"])
def test_a_lost_reservation_ends_the_access_and_nothing_new_is_lent(dying: bool) -> None:
    world = Disk()
    world.disk.full = True
    world.change("u1", reservation_lost=True)
    world.wish("u2", "b", 1)
    world.go(20, dying=dying)

    assert world.process.process.pid not in world.node.running
    assert [sorted(each.ours) for each in world.node.containers] == [[], []]
    assert world.statuses["u2"].reason == "JournalUnwritable"
    assert "No space left on device; make room on the disk" in world.statuses["u2"].message
    assert world.entry("u1").state is State.ATTACHED, "what is on the disk is as old as the disk is full"

    world.disk.full = False
    world.go(20, dying=dying)
    assert world.entry("u1").state is State.RELEASED
    assert world.entry("u2").state is State.ATTACHED
    assert GPU1 in world.node.containers[1].ours


def test_what_drifted_is_not_made_good_before_the_journal_can_say_so() -> None:
    world = Disk()
    world.disk.full = True
    world.node.end(world.node.containers[0])
    world.node.start(target("a", "a-2"))
    world.change("u1", target=target("a", "a-2"))
    world.go(5)
    assert [sorted(each.ours) for each in world.node.containers if each.runs] == [[], []]

    world.disk.full = False
    world.go(5)
    assert world.statuses["u1"].reason == "Attached"
