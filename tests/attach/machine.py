"""Everything that can happen to a node with GPUs, in any order: pods, processes, crashes, clocks, drift, reboots."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from attach.case import BOUND_S, CHECK_EVERY_S, CLEAN_CHECKS
from attach.entry import Policy
from attach.model import Target
from attach.reasons import ASKED
from attach.transitions import State
from tests.attach.fakes import CONTROL, FILE, Crash, FakeContainer, FakeProcess, gpu, target
from tests.attach.world import IN_LOOP, World

PODS = ("a", "b", "c")
GPUS = (0, 1, 2)
LEASE_S, GRACE_S = 120, 5
TROUBLES = ("allowed", "allow", "deny", "state", "show", "hide", "access", "find", "holders", "gpus")
ENDS = {State.RELEASED, State.FAILED, State.OVERDUE, State.QUARANTINED}


class NodeMachine(RuleBasedStateMachine):
    """A node and its agent; `World.audit` judges after every pass."""

    @initialize(pod=st.sampled_from(PODS), policy=st.sampled_from(Policy))
    def begin(self, pod: str, policy: Policy) -> None:
        self.world = World(*map(gpu, GPUS))
        self.count = 0
        self.hidden = True
        for each in PODS:
            self.start(target(each))
        self.want(pod, {0}, policy)

    def start(self, of: Target) -> FakeContainer:
        """One of the pods has the driver's control device from its runtime."""
        return self.world.node.start(of, *([CONTROL] if of.pod == "c" else []))

    def containers(self) -> list[FakeContainer]:
        return [container for container in self.world.node.containers if container.runs]

    def openable(self) -> list[tuple[Target, int]]:
        rdevs = {each.node.rdev for each in self.world.node.listed}
        return [(c.target, rdev) for c in self.containers() for rdev in sorted(c.truth & rdevs)]

    def processes(self) -> list[FakeProcess]:
        return list(self.world.node.running.values())

    # --- what users ask for

    @rule(pod=st.sampled_from(PODS), devices=st.sets(st.sampled_from(GPUS), min_size=1, max_size=2),
          policy=st.sampled_from(Policy))  # fmt: skip
    def want(self, pod: str, devices: set[int], policy: Policy) -> None:
        self.count += 1
        for uid, status in self.world.statuses.items():
            if uid in self.world.wishes and (status.entry is None or status.entry.is_final):
                del self.world.wishes[uid]
        self.world.wish(f"u{self.count:02}", pod, *sorted(devices), lease_s=LEASE_S, grace_s=GRACE_S, policy=policy)
        self.world.run()

    @precondition(lambda self: self.world.wishes)
    @rule(data=st.data(), what=st.sampled_from(["renew", "release", "lose", "force", "withdraw"]))
    def change(self, data: st.DataObject, what: str) -> None:
        uid = data.draw(st.sampled_from(sorted(self.world.wishes)))
        match what:
            case "renew":
                self.world.change(uid, renew_time_s=self.world.clock.wall_s)
            case "release":
                self.world.change(uid, release=ASKED)
            case "lose":
                self.world.change(uid, reservation_lost=True)
            case "force":
                self.world.change(uid, force=True)
            case _:
                del self.world.wishes[uid]

    @rule()
    def complete(self) -> None:
        self.world.complete = not self.world.complete

    # --- the agent

    @rule()
    def run_once(self) -> None:
        self.world.run()

    @rule(point=st.sampled_from(IN_LOOP), nth=st.integers(0, 2))
    def crash(self, point: str, nth: int) -> None:
        left = nth

        def die(name: str) -> None:
            nonlocal left
            left -= name == point
            if left < 0:
                raise Crash

        self.world.at = die
        try:
            self.world.run()
        finally:
            self.world.at = lambda _name: None

    @rule(seconds=st.sampled_from([1, 6, 20]))
    def wait(self, seconds: int) -> None:
        self.world.run_for(seconds, every_s=seconds / 4)

    @rule(seconds=st.sampled_from([-3600, -30, 30, 2 * LEASE_S]))
    def set_clock(self, seconds: int) -> None:
        self.world.clock.wall_s += seconds

    @rule(method=st.sampled_from(TROUBLES))
    def trouble(self, method: str) -> None:
        self.world.node.troubled ^= {method}
        self.hidden &= method not in ("state", "hide")

    @rule()
    def all_well(self) -> None:
        self.world.node.troubled.clear()

    # --- what containers and processes do

    @rule(data=st.data(), mapped=st.booleans(), kind=st.sampled_from(["tame", "deaf", "unkillable"]))
    @precondition(lambda self: self.openable())
    def open(self, data: st.DataObject, mapped: bool, kind: str) -> None:
        of, rdev = data.draw(st.sampled_from(self.openable()))
        process = self.world.node.spawn(of)
        process.mapped, process.deaf, process.unkillable = mapped, kind != "tame", kind == "unkillable"
        self.world.node.open(process, rdev)

    @rule(data=st.data())
    @precondition(lambda self: self.processes())
    def exit(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.processes()))
        del self.world.node.running[process.process.pid]

    @rule(data=st.data())
    @precondition(lambda self: any(p.holds for p in self.processes()))
    def pass_on(self, data: st.DataObject) -> None:
        """A descriptor is sent to another process, of any pod or of the node."""
        source = data.draw(st.sampled_from([p for p in self.processes() if p.holds]))
        sink = data.draw(st.sampled_from([*self.processes(), self.world.node.spawn(None)]))
        sink.holds |= source.holds

    @rule(data=st.data(), same_id=st.booleans(), told=st.booleans())
    @precondition(lambda self: self.containers())
    def restart(self, data: st.DataObject, same_id: bool, told: bool) -> None:
        container = data.draw(st.sampled_from(self.containers()))
        node, old = self.world.node, container.target
        node.end(container)
        new = self.start(old if same_id else target(old.pod, f"{old.pod}-{node.number()}"))
        for uid, wish in self.world.wishes.items():
            if told and wish.target == old:
                self.world.change(uid, target=new.target)

    @rule(data=st.data())
    @precondition(lambda self: len(self.containers()) > 1)
    def die(self, data: st.DataObject) -> None:
        self.world.node.end(data.draw(st.sampled_from(self.containers())))

    # --- drift, hardware, boots

    @rule(data=st.data(), what=st.sampled_from(["reload", "lose rules", "remove", "replace"]))
    @precondition(lambda self: self.containers())
    def drift(self, data: st.DataObject, what: str) -> None:
        container = data.draw(st.sampled_from(self.containers()))
        paths = [path for path in container.dev if path not in container.given]
        if what == "reload":
            container.covered |= container.ours
        elif what == "lose rules":
            container.ours.clear()
        elif what == "remove" and paths:
            del container.dev[paths[-1]]
        elif what == "replace" and paths:
            container.dev[paths[-1]] = FILE

    @rule(device=st.sampled_from(GPUS), why=st.sampled_from(["", "Xid 79"]))
    def health(self, device: int, why: str) -> None:
        listed = self.world.node.listed
        listed[device] = gpu(device, listed[device].node.minor, why)

    @rule()
    def reload_driver(self) -> None:
        """The driver gives the numbers to other devices; it can't while anybody has one open."""
        if any(process.holds for process in self.processes()):
            return
        listed = self.world.node.listed
        minors = [each.node.minor for each in listed]
        listed[:] = [gpu(n, minors[(n + 1) % len(minors)], listed[n].unhealthy) for n in GPUS]

    @rule(moved=st.booleans(), told=st.booleans())
    def boot(self, moved: bool, told: bool) -> None:
        world = self.world
        before = [c.target for c in self.containers()]
        world.node.boot()
        world.clock.boot()
        world.forced.clear()
        if moved:
            self.reload_driver()
        for old in before:
            new = self.start(target(old.pod, f"{old.pod}-{world.node.number()}")).target
            for uid, wish in world.wishes.items():
                if told and wish.target == old:
                    world.change(uid, target=new)

    def teardown(self) -> None:
        """I7: whatever happened, every lease that ends is over within its grace and a bound, whoever answers."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.node.refusing.clear()
        uids = {entry.uid for entry in world.entries()}
        world.run()
        world.clock.go(LEASE_S)
        world.run_for(GRACE_S + BOUND_S + 2.5, every_s=2.5)
        states = {entry.uid: entry.state for entry in world.entries()}
        assert all(states[uid] in ENDS for uid in uids & set(states)), f"I7: {states}"
        self.free_everything()

    def free_everything(self) -> None:
        """Once all is well again and every process has gone, nothing stays behind."""
        world = self.world
        world.node.troubled.clear()
        world.node.running.clear()
        world.wishes.clear()
        world.complete = True
        world.node.listed[:] = [gpu(n, each.node.minor) for n, each in enumerate(world.node.listed)]
        world.run_for((CLEAN_CHECKS + 1) * CHECK_EVERY_S, every_s=5.0)
        assert world.entries() == [], "the journal keeps what has ended"
        for container in self.containers():
            assert not container.ours, "a rule is left"
            left = [path for path, rdev in container.dev.items() if rdev != FILE and path not in container.given]
            assert not left or not self.hidden, "a node is left"
