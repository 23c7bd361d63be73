"""How attachments end, and what drift comes to: the state of the node and of the journal afterwards."""

import signal
from collections.abc import Callable

import pytest

from attach.case import BOUND_S
from attach.entry import Policy
from attach.reasons import ASKED
from attach.transitions import State
from tests.attach.fakes import CONTROL, FILE, FakeContainer, FakeProcess, gpu, target
from tests.attach.world import World

GPU0 = gpu(0).node


def attached(*, grace_s: int = 30, policy: Policy = Policy.WAIT) -> tuple[World, FakeContainer]:
    world = World()
    container = world.node.start(target("a"))
    world.wish("u1", "a", 0, grace_s=grace_s, policy=policy)
    assert world.run()["u1"].reason == "Attached"
    return world, container


def holder(world: World, pod: str = "a", *, deaf: bool = False, unkillable: bool = False) -> FakeProcess:
    process = world.node.spawn(target(pod) if pod else None)
    process.holds[GPU0.rdev] = "uid-a"
    process.deaf, process.unkillable = deaf, unkillable
    return process


class TestEnds:
    def test_no_new_open_succeeds_during_the_grace_period_and_what_is_open_stays(self) -> None:
        world, container = attached()
        process = holder(world)
        world.change("u1", release=ASKED)
        world.run_for(29.0)

        assert world.entry("u1").state is State.DRAINING
        assert container.dev.keys() == {"/dev/null"}
        assert GPU0.rdev in container.truth
        assert process.process.pid in world.node.running

    def test_the_first_reason_to_take_it_back_is_the_one_that_is_told(self) -> None:
        """Whatever is said while the pod has its grace period."""
        world, _ = attached()
        process = holder(world)
        world.change("u1", release=("PlaceholderDeleted", "pod p was deleted"))
        world.run()
        world.change("u1", release=ASKED)
        world.run_for(2.0)
        assert (world.entry("u1").state, world.entry("u1").wish.release) == (
            State.DRAINING,
            ("PlaceholderDeleted", "pod p was deleted"),
        )

        process.holds.clear()
        world.run_for(2.0)
        assert (world.entry("u1").state, world.entry("u1").reason) == (State.RELEASED, "PlaceholderDeleted")

    def test_who_closes_early_is_done_early(self) -> None:
        world, container = attached(grace_s=3600)
        process = holder(world)
        world.change("u1", release=ASKED)
        world.run_for(5.0)
        process.holds.clear()
        world.run_for(2.0)

        assert world.entry("u1").state is State.RELEASED
        assert container.ours == set()

    @pytest.mark.parametrize(
        ("policy", "pods", "kind", "state", "signals"),
        [
            pytest.param(Policy.WAIT, ("a",), "", State.OVERDUE, [], id="Wait, the pod: overdue"),
            pytest.param(Policy.WAIT, ("b",), "", State.QUARANTINED, [], id="Wait, another pod: quarantined"),
            pytest.param(Policy.WAIT, ("a", ""), "", State.QUARANTINED, [], id="Wait, the node too: quarantined"),
            pytest.param(Policy.TERMINATE, ("a",), "", State.RELEASED, ["TERM"], id="Terminate: TERM is enough"),
            pytest.param(Policy.TERMINATE, ("a",), "deaf", State.RELEASED, ["TERM", "KILL"], id="Terminate: KILL"),
            pytest.param(Policy.TERMINATE, ("a",), "unkillable", State.QUARANTINED, ["TERM", "KILL"],
                         id="Terminate: what can't be killed is quarantined"),
            pytest.param(Policy.TERMINATE, ("b",), "", State.QUARANTINED, [], id="Terminate: another pod is let be"),
        ],
    )  # fmt: skip
    def test_who_holds_on(
        self, policy: Policy, pods: tuple[str, ...], kind: str, state: State, signals: list[str]
    ) -> None:
        world, _ = attached(grace_s=2, policy=policy)
        for pod in pods:
            holder(world, pod, deaf=bool(kind), unkillable=kind == "unkillable")
        world.change("u1", release=ASKED)
        world.run_for(2.0 + BOUND_S + 1.0)

        assert world.entry("u1").state is state
        sent = [signal.Signals(number).name.removeprefix("SIG") for _, number in world.node.signals]
        assert list(dict.fromkeys(sent)) == signals

    def test_a_lost_reservation_ends_the_pods_holders_at_once_whatever_the_policy_says(self) -> None:
        world, container = attached(grace_s=3600)
        holder(world, deaf=True)
        world.change("u1", reservation_lost=True)
        world.run_for(1.0, every_s=0.5)

        assert world.entry("u1").state is State.RELEASED
        assert [number for _, number in world.node.signals] == [signal.SIGKILL]
        assert container.ours == set()

    def test_overdue_turns_into_the_end_when_the_reservation_is_lost(self) -> None:
        world, _ = attached(grace_s=0)
        holder(world)
        world.change("u1", release=ASKED)
        world.run_for(BOUND_S)
        assert world.entry("u1").state is State.OVERDUE

        world.change("u1", reservation_lost=True)
        world.run_for(2.0)
        assert world.entry("u1").state is State.RELEASED

    def test_force_ends_a_quarantine_but_not_one_with_a_rule_that_stands(self) -> None:
        world, container = attached(grace_s=0)
        stranger = holder(world, "b")
        world.change("u1", release=ASKED)
        world.run_for(BOUND_S)
        assert world.entry("u1").state is State.QUARANTINED

        container.ours.add(GPU0.rdev)
        world.node.troubled.add("deny")
        world.change("u1", force=True)
        world.run_for(1.0)
        assert (world.entry("u1").state, world.statuses["u1"].reason) == (State.QUARANTINED, "StillAllowed")

        world.node.troubled.clear()
        world.run_for(1.0)
        assert (world.entry("u1").state, world.entry("u1").reason) == (State.RELEASED, "Forced")
        assert stranger.process.pid in world.node.running

    def test_a_dirty_check_starts_the_count_of_a_quarantine_anew(self) -> None:
        world, _ = attached(grace_s=0)
        stranger = holder(world, "b")
        world.change("u1", release=ASKED)
        world.run_for(BOUND_S)
        for _ in range(2):
            del world.node.running[stranger.process.pid]
            world.run_for(15.0)
            stranger = holder(world, "b")
            world.run_for(11.0)
        assert (world.entry("u1").state, world.entry("u1").clean_checks) == (State.QUARANTINED, 0)

        del world.node.running[stranger.process.pid]
        world.run_for(41.0)
        assert world.entry("u1").state is State.RELEASED

    def test_a_rule_that_was_covered_when_it_could_not_be_denied_does_not_stay(self) -> None:
        """Nobody sees it as long as another program denies too, and it would count again without that one."""
        world, container = attached(grace_s=0)
        world.change("u1", release=ASKED)
        world.node.troubled |= {"deny"}
        world.run_for(5.0)
        container.covered |= container.ours
        world.run_for(BOUND_S)
        assert world.entry("u1").state is State.QUARANTINED

        world.run_for(60.0)
        assert world.entry("u1").state is State.QUARANTINED
        world.node.troubled.clear()
        world.run_for(30.0)
        assert world.entry("u1").state is State.RELEASED
        assert container.ours == set()

    def test_a_pod_that_is_gone_leaves_nothing(self) -> None:
        world, container = attached()
        world.node.end(container)
        del world.wishes["u1"]
        world.run()

        assert world.entries() == []


class TestLease:
    @pytest.mark.parametrize(
        ("jump_s", "lasts_s"),
        [
            pytest.param(0.0, 900.0, id="clocks agree"),
            pytest.param(-3600.0, 900.0, id="the wall clock is set back: it prolongs nothing"),
            pytest.param(600.0, 300.0, id="the wall clock is set forward: the lease's own time counts"),
        ],
    )
    def test_it_ends(self, jump_s: float, lasts_s: float) -> None:
        world, _ = attached()
        world.clock.wall_s += jump_s
        world.clock.go(lasts_s - 1.0)
        world.run()
        assert world.entry("u1").state is State.ATTACHED
        world.clock.go(1.0)
        world.run()

        assert (world.entry("u1").state, world.entry("u1").reason) == (State.RELEASED, "LeaseExpired")

    def test_renewed_in_time_it_goes_on(self) -> None:
        world, _ = attached()
        for _ in range(5):
            world.clock.go(800.0)
            world.change("u1", renew_time_s=world.clock.wall_s)
            world.run()
        assert world.entry("u1").state is State.ATTACHED

    def test_renewed_too_late_it_is_not_called_back(self) -> None:
        world, _ = attached()
        holder(world)
        world.clock.go(900.0)
        world.run()
        world.change("u1", renew_time_s=world.clock.wall_s)
        world.run()

        assert world.entry("u1").state is State.DRAINING

    def test_a_client_whose_clock_is_ahead_gets_one_lease_at_a_time(self) -> None:
        world, _ = attached()
        world.change("u1", renew_time_s=world.clock.wall_s + 1e6)
        world.run()
        world.clock.go(900.0)
        world.run()

        assert world.entry("u1").state is State.RELEASED


def _reload(world: World, container: FakeContainer) -> None:
    container.covered |= container.ours


def _lose(world: World, container: FakeContainer) -> None:
    container.ours.clear()


def _remove(world: World, container: FakeContainer) -> None:
    del container.dev[GPU0.path]


def _remove_control(world: World, container: FakeContainer) -> None:
    del container.dev[CONTROL.path]


class TestDrift:
    @pytest.mark.parametrize(
        ("drift", "reason"),
        [
            pytest.param(_reload, "RuleGone", id="a reload put its own rules beside ours"),
            pytest.param(_lose, "RuleGone", id="a runtime wrote its rules anew"),
            pytest.param(_remove, "NodeGone", id="the node was removed by hand"),
            pytest.param(_remove_control, "NodeGone", id="a companion's node was removed"),
        ],
    )
    def test_it_is_repaired_and_counted(self, drift: Callable[[World, FakeContainer], None], reason: str) -> None:
        world, container = attached()
        drift(world, container)
        world.run()

        assert world.entry("u1").state is State.ATTACHED
        assert GPU0.rdev in container.truth
        assert container.dev[GPU0.path] == GPU0.rdev
        assert (State.ATTACHED, State.ATTACHING, reason) in world.ledger.moves

    def test_what_is_not_ours_is_not_repaired_over(self) -> None:
        world, container = attached()
        container.dev[GPU0.path] = FILE
        world.run()

        assert (world.entry("u1").state, world.entry("u1").reason) == (State.FAILED, "NodeForeign")
        assert container.dev == {"/dev/null": 259, GPU0.path: FILE}
        assert container.ours == set()

    def test_what_cannot_be_repaired_fails_after_a_minute(self) -> None:
        world, container = attached()
        container.ours.clear()
        world.node.troubled.add("allow")
        world.run_for(59.0)
        assert (world.entry("u1").state, world.statuses["u1"].reason) == (State.ATTACHING, "DriverSilent")

        world.run_for(2.0)
        assert world.entry("u1").state is State.FAILED
        assert container.dev.keys() == {"/dev/null"}

    @pytest.mark.parametrize("name", ["a-1", "a-2"], ids=["with the same id", "with another id"])
    def test_a_container_that_starts_again_gets_its_gpu_again(self, name: str) -> None:
        world, old = attached()
        world.node.end(old)
        world.run_for(120.0, every_s=10.0)
        assert world.statuses["u1"].reason == "ContainerGone"

        new = world.node.start(target("a", name))
        world.change("u1", target=new.target)
        world.run()
        assert world.entry("u1").state is State.ATTACHED
        assert new.ours == {GPU0.rdev, CONTROL.rdev}

    def test_another_pod_under_the_same_uid_of_attachment_gets_nothing(self) -> None:
        world, container = attached()
        other = world.node.start(target("b"))
        world.change("u1", target=other.target)
        world.run()

        assert world.statuses["u1"].reason == "SpecChanged"
        assert (GPU0.rdev in container.truth, GPU0.rdev in other.truth) == (True, False)


def test_what_the_runtime_gave_is_left_to_it() -> None:
    """The control device was there before, and is there afterwards."""
    world = World()
    container = world.node.start(target("a"), CONTROL)
    world.wish("u1", "a", 0)
    world.run()
    world.wishes.clear()
    world.run()

    assert container.dev.keys() == {"/dev/null", CONTROL.path}
    assert CONTROL.rdev in container.truth
