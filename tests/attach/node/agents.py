"""Agents over real containers: one after the other over one journal, each for one pass, some killed in it."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attach.clock import SystemClock
from attach.entry import Entry, Now, Policy, Wish
from attach.inventory import StaticInventory
from attach.journal import decode
from attach.metrics import Metrics
from attach.model import Access
from attach.nodes import HostNodes
from attach.observe import Node
from attach.points import Hook, nowhere
from attach.processes import HostProcesses
from attach.reconcile import Desired, Reconciler
from attach.store import FileStore
from attach.transitions import State
from tests.attach.contract import found
from tests.attach.node.files import write_inventory
from tests.attach.node.world import RealWorkload, RealWorld
from tests.cluster.dying_agent import is_moment
from tests.waiting import eventually


class LaterClock(SystemClock):
    """The machine's clocks, some time from now."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> Now:
        now = super().now()
        return Now(now.wall_s + self.ahead_s, now.boot_s + self.ahead_s)


class Agents:
    """
    One agent after the other over one journal.

    Attributes:
        passed: The crash points that killed agents came by.
        audit: Looks after every pass and every death at what must never be.
    """

    audit: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, world: RealWorld, folder: Path) -> None:
        self.world, self.folder, self.clock, self.metrics = world, folder, LaterClock(), Metrics()
        write_inventory(folder, world.devices, companions=[world.companion])
        self.inventory = StaticInventory(folder / "inventory.yaml")

    def run(self, *wishes: Wish, complete: bool = True) -> None:
        """Start an agent, make one pass, end it; not *complete*: there is more, which can't be read."""
        self._pass(wishes, self.world.nodes, nowhere, complete=complete)
        self.audit()

    def _pass(self, wishes: Sequence[Wish], nodes: HostNodes, at: Hook, *, complete: bool = True) -> None:
        processes = HostProcesses(self.world.hierarchy, at=at)
        node = Node(self.world.rules_at(at), nodes, processes, self.inventory)
        with FileStore(self.folder / "state", at) as store:
            desired = Desired({each.uid: each for each in wishes}, complete=complete)
            Reconciler(node, store, self.clock, self.metrics, at).reconcile(desired)

    def die(self, number: int, *wishes: Wish) -> bool:
        """
        Start an agent that is killed at the n-th moment; False: it came to its end.

        What a moment is, `is_moment` says.
        """
        left, last = number, ""

        def kill(name: str) -> None:
            nonlocal left, last
            if is_moment(last, name):
                left -= 1
            last = name
            with (self.folder / "passed").open("a") as file:
                file.write(f"{name}\n")
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            try:
                self._pass(wishes, HostNodes(self.world.hierarchy, at=kill), kill)
            finally:
                os._exit(0)
        died = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        self.audit()
        return died

    @property
    def passed(self) -> set[str]:
        return set((self.folder / "passed").read_text().splitlines())

    def run_until(self, state: State, uid: str, *wishes: Wish) -> None:
        """Make passes until an attachment has come to a state."""

        def reached() -> bool:
            self.run(*wishes)
            return self.state(uid) is state

        eventually(reached, f"{uid} is {state}")

    def entries(self) -> Mapping[str, Entry]:
        """Read what the journal says, by attachment."""
        data = FileStore(self.folder / "state").load()
        return {} if data is None else decode(data).entries

    def entry(self, uid: str) -> Entry | None:
        """Read what the journal says of an attachment."""
        return self.entries().get(uid)

    def state(self, uid: str) -> State | None:
        """Read how an attachment stands."""
        entry = self.entry(uid)
        return entry.state if entry else None

    def wish(self, container: RealWorkload, uid: str, *devices: str, **changes: Any) -> Wish:
        """Want devices for a container from now on, with no grace period."""
        made = Wish(uid, container.target, devices, self.clock.now().wall_s, 600, 0, Policy.WAIT,
                    release=None, reservation_lost=False, force=False)  # fmt: skip
        return replace(made, **changes)


def accesses(world: RealWorld, container: RealWorkload) -> list[Access]:
    """Open every device as the container would, and what all of them need."""
    return [world.nodes.access(found(world, container), node) for node in (*world.devices, world.companion)]


def repairs(agents: Agents) -> dict[str, float]:
    """Read how often drift was repaired, by reason."""
    samples = [sample for metric in agents.metrics.registry.collect() for sample in metric.samples]
    return {sample.labels["reason"]: sample.value for sample in samples if sample.name == "podsla_attach_repairs_total"}
