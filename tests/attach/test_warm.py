"""What a namespace keeps ready: how much, where, for whom; and that one is handed to one attachment alone."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attach.api import Attachment, Condition, Type, merge_conditions, parse_attachment
from attach.budget import KeptReady, Ledger, bring_up_to, is_due, used_s
from attach.placeholder import Pod, mutation, read_pod, warm_placeholder
from attach.warm import (
    GiveBack,
    Keep,
    Lot,
    Ready,
    busiest,
    choose,
    kept_ready,
    parse_wanted,
    plan,
    read_ready,
    take_stock,
)
from tests.attach.test_api import NOW, attachment
from tests.attach.test_reserve import pod
from tests.sample import answer
from webhook.decision import Ignore, Skip

NAMED = {"name": "p", "uid": "h"}
NOON_S = 1_767_355_200.0  # 2026-01-02T12:00:00Z


def thing(name: str = "w", node: str = "n1", namespace: str = "team-a", *, bound: bool = True) -> dict[str, Any]:
    """A warm placeholder as the API server has it."""
    body = warm_placeholder(name, namespace, "nvidia.com/gpu", pod(node=node), "podsla")
    body["metadata"] |= {"uid": f"uid-{name}", "resourceVersion": "3"}
    if bound:
        body["spec"]["nodeName"] = node
        said = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-02T11:50:00Z"}
        body["status"] = {"phase": "Running", "conditions": [said]}
    return body


def ready(name: str = "w", node: str = "n1", *, bound: bool = True, namespace: str = "team-a", **fields: Any) -> Ready:
    (one,) = read_ready([thing(name, node, namespace, bound=bound)])
    return replace(one, pod=replace(one.pod, **fields))


def waiting(uid: str, age: int = 0, *conditions: Condition, namespace: str = "team-a", **status: Any) -> Attachment:
    """One that waits on n1; a larger *age* came earlier."""
    spec = status.pop("spec", {})
    metadata = {
        "uid": uid, "name": uid, "namespace": namespace, "finalizers": ["podsla.io/gpu-attachment"],
        "creationTimestamp": f"2026-01-02T03:04:{30 - age:02}Z",
    }  # fmt: skip
    everything = {"node": "n1", **status, "conditions": merge_conditions((), conditions, 1, NOW)}
    return parse_attachment(attachment(spec, metadata=metadata, status=everything))


def test_a_warm_placeholder_reserves_one_gpu_for_an_attachment_that_asks_just_that() -> None:
    (one,) = read_ready([thing()])

    assert (one.namespace, one.node, one.pod.node) == ("team-a", "n1", "n1")
    assert one.pod.is_free
    assert mutation(one.pod, "nvidia.com/gpu", 1) == ""
    assert read_ready([thing(bound=False)])[0].node == "n1", "the node that it is for, before it is bound"
    lost = thing(bound=False)
    del lost["spec"]["affinity"]
    assert plan(Lot(1, {}, read_ready([lost]))) == (GiveBack(read_pod(lost)),), "it reserves nowhere in particular"
    assert answer(thing()) == Ignore(Skip.OPTED_OUT)


class TestChoose:
    """Who is handed which."""

    @pytest.mark.parametrize(
        ("one", "expected"),
        [
            pytest.param(ready(), "w", id="its namespace's, on its node"),
            pytest.param(ready(namespace="team-b"), None, id="another namespace's"),
            pytest.param(ready(node="n2"), None, id="on another node"),
            pytest.param(ready(bound=False), None, id="not bound yet: that is no faster"),
            pytest.param(ready(deleting=True), None, id="about to go"),
            pytest.param(ready(phase="Failed"), None, id="refused by its node"),
            pytest.param(ready(attachment="u9"), None, id="handed to another"),
            pytest.param(ready(demands=(("hold", {"nvidia.com/gpu": "2"}),)), None, id="of another size"),
            pytest.param(ready(demands=(("hold", {"example.com/gpu": "1"}),)), None, id="of another resource"),
        ],
    )
    def test_one(self, one: Ready, expected: str | None) -> None:
        asks = waiting("u1")
        found = choose(asks, [asks], [asks], [one])
        assert (found.name if found else None) == expected

    def test_of_several_the_oldest_is_served_first_and_one_that_runs_comes_first(self) -> None:
        old, young, late = waiting("old", 9), waiting("young", 5), waiting("late", 1)
        line, kept = [late, young, old], [ready("a", phase="Pending"), ready("b")]
        chosen = [choose(one, line, line, kept) for one in (old, young, late)]
        assert [one.name if one else None for one in chosen] == ["b", "a", None]

    def test_who_does_not_wait_gets_none(self) -> None:
        assert choose(waiting("u1"), [], [], [ready()]) is None

    def test_two_gpus_are_not_made_of_one(self) -> None:
        two, one = waiting("two", 9, spec={"count": 2}), waiting("one")
        assert choose(two, [two, one], [two, one], [ready()]) is None
        assert choose(one, [two, one], [two, one], [ready()]) is not None

    def test_what_was_chosen_for_one_is_chosen_for_no_other(self) -> None:
        first, second = waiting("u1", 5, placeholder={"name": "w"}), waiting("u2")
        assert choose(second, [second], [first, second], [ready()]) is None

    @given(count=st.integers(1, 6), kept=st.integers(0, 6), picked=st.data())
    def test_no_two_are_offered_the_same(self, count: int, kept: int, picked: st.DataObject) -> None:
        """Whatever part of them has chosen already."""
        pods = [ready(f"w{number}") for number in range(kept)]
        taken = picked.draw(st.sets(st.integers(0, kept - 1), max_size=count - 1)) if kept else set()
        chosen = [waiting(f"t{n}", placeholder={"name": f"w{n}"}) for n in taken]
        line = [waiting(f"u{n}", n) for n in range(count - len(taken))]
        offers = [choose(one, line, [*chosen, *line], pods) for one in line]
        names = [one.name for one in offers if one is not None]
        assert len(set(names)) == len(names) == min(len(line), kept - len(taken))
        assert not set(names) & {f"w{n}" for n in taken}


class TestPlan:
    """How many stand where."""

    @pytest.mark.parametrize(
        ("lot", "expected"),
        [
            pytest.param(Lot(1, {"n1": 1}, []), (Keep("n1"),), id="one, where its pod runs"),
            pytest.param(Lot(1, {"n1": 1}, [ready()]), (), id="it stands"),
            pytest.param(Lot(2, {"n1": 1}, []), (Keep("n1"),), id="no more than may borrow"),
            pytest.param(Lot(3, {"n1": 1, "n2": 4}, []), (Keep("n2"),) * 3, id="where most may borrow"),
            pytest.param(Lot(2, {"n1": 1, "n2": 1}, []), (Keep("n1"), Keep("n2")), id="in turn between nodes"),
            pytest.param(Lot(1, {}, []), (), id="nobody may borrow"),
            pytest.param(Lot(0, {"n1": 1}, [ready()]), (GiveBack(ready().pod),), id="none is wanted any more"),
            pytest.param(Lot(1, {}, [ready()]), (GiveBack(ready().pod),), id="its pods have gone"),
            pytest.param(
                Lot(1, {"n1": 2}, [ready("a", bound=False), ready("b")]),
                (GiveBack(ready("a", bound=False).pod),),
                id="one too many: what is not bound goes first",
            ),
            pytest.param(
                Lot(1, {"n2": 1}, [ready()]), (GiveBack(ready().pod), Keep("n2")), id="its pods run elsewhere now"
            ),
            pytest.param(
                Lot(1, {"n1": 1}, [ready(phase="Failed")]),
                (GiveBack(ready(phase="Failed").pod), Keep("n1")),
                id="refused by its node: put away, and made anew",
            ),
            pytest.param(
                Lot(1, {"n1": 1}, [ready(deleting=True)]),
                (Keep("n1"),),
                id="one that goes is not counted, nor deleted twice",
            ),
            pytest.param(
                Lot(1, {"n1": 1}, [], waited_for=frozenset({"n1"})), (), id="somebody waits there: he comes first"
            ),
            pytest.param(
                Lot(1, {"n1": 1}, [ready(bound=False)], waited_for=frozenset({"n1"})),
                (GiveBack(ready(bound=False).pod),),
                id="somebody waits there: what is not bound stands aside",
            ),
            pytest.param(
                Lot(1, {"n1": 1}, [ready()], waited_for=frozenset({"n1"})),
                (),
                id="what is bound is held, whoever waits",
            ),
            pytest.param(
                Lot(1, {"n1": 1}, [ready()], frozenset({"n1"}), starved=frozenset({"n1"})),
                (GiveBack(ready().pod),),
                id="an own attachment finds no GPU on the node: it comes first",
            ),
            pytest.param(
                Lot(1, {"n1": 1}, [ready()], starved=frozenset({"n2"})), (), id="on another node it would not help"
            ),
            pytest.param(
                Lot(1, {"n1": 1}, [ready()], over_quota=True),
                (GiveBack(ready().pod),),
                id="an own attachment finds no quota: it comes first",
            ),
        ],
    )
    def test_plan(self, lot: Lot, expected: tuple[Keep | GiveBack, ...]) -> None:
        assert plan(lot) == expected

    @given(
        wanted=st.integers(0, 5),
        borrowers=st.dictionaries(st.sampled_from(["n1", "n2", "n3"]), st.integers(1, 3)),
        stand=st.lists(st.tuples(st.sampled_from(["n1", "n2", "n3"]), st.booleans()), max_size=6),
    )
    def test_one_pass_gets_there(self, wanted: int, borrowers: dict[str, int], stand: list[tuple[str, bool]]) -> None:
        lot = Lot(wanted, borrowers, [ready(f"w{n}", node, bound=bound) for n, (node, bound) in enumerate(stand)])
        actions = plan(lot)
        gone = {action.pod.name for action in actions if isinstance(action, GiveBack)}
        left = [one for one in lot.ready if one.pod.name not in gone]
        made = [ready(f"m{n}", a.node) for n, a in enumerate(a for a in actions if isinstance(a, Keep))]
        after = [*left, *made]
        assert plan(replace(lot, ready=after)) == ()
        assert len(after) == min(wanted, sum(borrowers.values()))
        assert all(sum(one.node == node for one in after) <= borrowers.get(node, 0) for node in ("n1", "n2", "n3"))


class TestStock:
    """What of attachments and pods makes a lot."""

    QUOTA = Condition(Type.RESERVED, False, "QuotaExceeded", "")
    BUDGET = Condition(Type.RESERVED, False, "BudgetSpent", "")

    def stock(self, *standing: tuple[Attachment, Pod | None], kept: tuple[Ready, ...] = ()) -> Lot:
        return take_stock("team-a", 1, {"n1": 1}, standing, kept)

    def test_who_waits_for_a_gpu_is_waited_for_whatever_the_namespace(self) -> None:
        for where in ("team-a", "team-b"):
            assert self.stock((waiting("u1", namespace=where), None)).waited_for == {"n1"}

    def test_who_waits_for_quota_or_budget_waits_for_no_gpu(self) -> None:
        for said in (self.QUOTA, self.BUDGET):
            assert self.stock((waiting("u1", 0, said, namespace="team-b"), None)).waited_for == frozenset()

    def test_a_placeholder_that_is_not_bound_is_starved_once_the_scheduler_says_so(self) -> None:
        asks = waiting("u1", placeholder=NAMED)
        unbound = replace(pod(node=""), why="1 Insufficient nvidia.com/gpu")
        assert self.stock((asks, unbound)).starved == {"n1"}
        assert self.stock((asks, replace(unbound, why=""))).starved == frozenset()
        assert self.stock((asks, pod())).starved == frozenset(), "bound"
        other = waiting("u1", namespace="team-b", placeholder=NAMED)
        assert self.stock((other, unbound)).starved == frozenset(), "another namespace's"

    def test_only_the_own_quota_counts(self) -> None:
        assert self.stock((waiting("u1", 0, self.QUOTA), None)).over_quota
        assert not self.stock((waiting("u1", 0, self.QUOTA, namespace="team-b"), None)).over_quota

    def test_what_was_chosen_for_an_attachment_is_not_given_back(self) -> None:
        chosen = waiting("u1", placeholder={"name": "w"})
        assert self.stock((chosen, ready().pod), kept=(ready(), ready("x"))).ready == [ready("x")]
        assert self.stock(kept=(ready(namespace="team-b"),)).ready == []


@pytest.mark.parametrize(("text", "wanted"), [("0", 0), ("2", 2), ("99", 99), ("auto", None)])
def test_what_the_label_says(text: str, wanted: int | None) -> None:
    assert parse_wanted(text) == wanted


@pytest.mark.parametrize("text", ["", "-1", "100", "two", "Auto", "1.5", "٣"])
def test_what_the_label_cannot_say(text: str) -> None:
    with pytest.raises(ValueError, match="is no number of GPUs to keep ready; write one from 0 to 99, or auto"):
        parse_wanted(text)


@pytest.mark.parametrize(
    ("ages_s", "expected"),
    [
        pytest.param([], 0, id="nobody asked"),
        pytest.param([10.0], 1, id="one"),
        pytest.param([10.0, 3000.0, 9000.0], 1, id="one after the other"),
        pytest.param([100.0, 110.0, 159.0, 160.0], 3, id="three within a minute"),
        pytest.param([14399.0], 1, id="in the last four hours"),
        pytest.param([14400.0, 14401.0], 0, id="longer ago"),
    ],
)
def test_auto_is_the_most_that_were_asked_for_within_a_minute(ages_s: list[float], expected: int) -> None:
    assert busiest([NOON_S - age for age in ages_s], NOON_S) == expected


def test_what_is_kept_ready_is_billed_once_until_it_is_handed_over() -> None:
    kept = kept_ready([thing(), thing("unbound", bound=False)])
    assert kept == (KeptReady("team-a", "uid-w", NOON_S - 600),)

    first = bring_up_to(Ledger(), [], NOON_S, kept)
    assert used_s(first, "team-a") == 600
    assert used_s(bring_up_to(first, [], NOON_S + 30, kept), "team-a") == 630
    assert is_due(first, bring_up_to(first, [], NOON_S + 60, kept), [], kept)
    assert not is_due(first, bring_up_to(first, [], NOON_S + 59, kept), [], kept)
    handed = thing()
    handed["metadata"]["labels"]["podsla.io/placeholder"] = "u1"
    assert used_s(bring_up_to(first, [], NOON_S + 900, kept_ready([handed])), "team-a") == 600
    over = thing()
    over["status"]["phase"] = "Failed"
    assert kept_ready([over]) == ()
    assert read_pod(over).ended
