"""A fake node with an agent on it that may die, and the auditor who knows what must never be."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from attach.entry import Entry, Policy, Wish
from attach.journal import decode
from attach.model import Gpu
from attach.points import POINTS, nowhere
from attach.reconcile import Desired, Reconciler, Recorder, Status, Store
from attach.transitions import State
from tests.attach.fakes import Crash, FakeClock, FakeNode, Ledger, MemoryStore, gpu, target

IN_LOOP = [name for name, module in POINTS.items() if module == "attach.reconcile"]  # those of edges need a kernel
HAS = (State.ATTACHING, State.ATTACHED, State.DRAINING)


class World:
    """A node, its desired state, and an agent."""

    def __init__(self, *gpus: Gpu) -> None:
        self.node = FakeNode(*(gpus or (gpu(0), gpu(1))))
        self.clock, self.ledger = FakeClock(), Ledger()
        self.recorder: Recorder = self.ledger
        self.store: Store = MemoryStore()
        self.wishes: dict[str, Wish] = {}
        self.complete = True
        self.system_pods: frozenset[str] = frozenset()
        self.statuses: dict[str, Status] = {}
        self.forced: set[str] = set()  # devices that an administrator has set free by hand
        self.at: Callable[[str], None] = nowhere
        self.node.saved = self.entries

    def entries(self) -> list[Entry]:
        """Read what is on disk."""
        data = self.store.load()
        return [] if data is None else list(decode(data).entries.values())

    def entry(self, uid: str) -> Entry:
        """Read what is on disk of one attachment."""
        found = {entry.uid: entry for entry in self.entries()}
        assert uid in found, f"the journal does not know {uid}: {self.statuses.get(uid)}"
        return found[uid]

    def wish(self, uid: str, pod: str, *devices: int, lease_s: int = 900, grace_s: int = 30,
             policy: Policy = Policy.WAIT) -> Wish:  # fmt: skip
        """Want devices for the container that runs in a pod."""
        running = [c.target for c in self.node.containers if c.target.pod == pod]
        of = running[-1] if running else target(pod)
        names = tuple(f"GPU-{number}" for number in devices)
        wish = Wish(uid, of, names, self.clock.wall_s, lease_s, grace_s, policy,
                    release=None, reservation_lost=False, force=False)  # fmt: skip
        self.wishes[uid] = wish
        return wish

    def change(self, uid: str, **changes: object) -> None:
        """Change a wish."""
        self.wishes[uid] = replace(self.wishes[uid], **changes)  # type: ignore[arg-type]

    def run(self) -> dict[str, Status]:
        """Start an agent, let it make one pass, and audit what became of it."""
        agent = Reconciler(self.node.ports, self.store, self.clock, self.recorder, self.at)
        before = {entry.uid: entry for entry in self.entries()}
        self.statuses = {}
        try:
            desired = Desired(dict(self.wishes), {}, self.complete, self.system_pods)
            self.statuses = {status.uid: status for status in agent.reconcile(desired)}
        except Crash:
            pass
        self.audit(before)
        return self.statuses

    def run_for(self, seconds: float, every_s: float = 1.0) -> None:
        """Let time pass, with passes in it."""
        end_s = self.clock.boot_s + seconds
        while self.clock.boot_s < end_s:
            self.clock.go(every_s)
            self.run()

    # --- the auditor

    def audit(self, before: dict[str, Entry]) -> None:
        """Compare the kernel's truth with what must never be, and with what was said."""
        entries = self.entries()
        self._nobody_shares(entries)
        self._what_was_there_stays()
        for entry in entries:
            changed = before.get(entry.uid) is None or before[entry.uid].state is not entry.state
            if entry.is_final and changed and entry.reason == "Forced":
                self.forced |= set(entry.wish.devices)
            elif entry.is_final and changed:
                self._is_free(entry, before.get(entry.uid))
        for status in self.statuses.values():
            if status.entry is not None and status.entry.state is State.ATTACHED and status.reason == "Attached":
                self._opens(status.entry)

    def _nobody_shares(self, entries: Iterable[Entry]) -> None:
        """I1, I2: a device is one attachment's, and what can open it or has it open is one pod's."""
        held = [uuid for entry in entries if not entry.is_final for uuid in entry.wish.devices]
        assert len(held) == len(set(held)), "I1, I2: two attachments of one device"
        for each in self.node.listed:
            if each.uuid in self.forced:
                continue
            pods = {c.target.uid for c in self.node.containers if c.runs and each.node.rdev in c.truth}
            pods |= {p.holds[each.node.rdev] for p in self.node.running.values() if each.node.rdev in p.holds}
            pods -= {"", *self._beside()}
            assert len(pods) <= 1, f"I1: {each.uuid} is open to {pods}"

    def _beside(self) -> frozenset[str]:
        """Pods that have every device open for the node's sake; one that borrows has it as any other pod."""
        return self.system_pods - {entry.wish.target.uid for entry in self.entries()}

    def _what_was_there_stays(self) -> None:
        """I9: what the container could open before us, it still can."""
        for container in self.node.containers:
            assert container.base - container.covered <= container.truth, "I9: a rule of the runtime's is gone"
            assert container.given <= set(container.dev), "I9: a node of the runtime's is gone"

    def _is_free(self, entry: Entry, before: Entry | None) -> None:
        """I6, I11: Released and Failed are said of what was seen to be free."""
        assert not self.node.troubled & {"holders", "gpus"}, "I6: unknown was taken for free"
        residents = entry.residents | (before.residents if before else frozenset())
        for process in self.node.running.values():
            if process.process not in residents and process.pod_uid not in self._beside():
                assert not entry.device_rdevs & set(process.holds), "I11: released while a process has it open"
        others = {node for e in self.entries() if e.state in HAS for node in e.nodes}
        for container in self.node.containers:
            if container.runs and before is not None and container.seen == before.container:
                own = {node.rdev for node in set(entry.nodes) - others if node in before.granted}
                assert not own & container.ours, "I11: released while a rule of ours stands"

    def _opens(self, entry: Entry) -> None:
        """I4, I11: Attached is said of a container that opens exactly the devices that have these UUIDs now."""
        container = next((c for c in self.node.containers if c.runs and c.seen == entry.container), None)
        assert container is not None, "I11: attached to a container that does not run"
        if not self.node.troubled & {"gpus", "allowed", "state", "find"}:
            current = {each.uuid: each for each in self.node.listed}
            for uuid in entry.wish.devices:
                if uuid in current:
                    node = current[uuid].node
                    assert node in entry.nodes, "I4: the rule is for another number"
                    assert node.rdev in container.truth, "I11: attached without a rule"
                    assert container.dev.get(node.path) == node.rdev, "I11: attached without a node"
