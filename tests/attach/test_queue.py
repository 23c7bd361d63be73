"""Whose turn it is: in turn between namespaces, by age within one."""

from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attach.api import Attachment, parse_attachment, render_time
from attach.queue import Waiting, next_of, order, waited_s
from tests.attach.test_api import attachment

WAITING = st.lists(
    st.builds(Waiting, st.integers(0, 99).map(str), st.sampled_from("xyz"), st.integers(0, 9).map(float)),
    unique_by=lambda one: one.uid,
)
SERVED = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 9).map(float))


def test_a_namespace_that_floods_the_queue_waits_behind_its_own() -> None:
    flood = [Waiting(f"a{n}", "a", float(n)) for n in range(4)]
    late = [Waiting("b0", "b", 9.0), Waiting("c0", "c", 10.0)]
    assert order([*flood, *late], {}) == ("a0", "b0", "c0", "a1", "a2", "a3")


def test_who_was_served_longest_ago_comes_first() -> None:
    assert order([Waiting("a", "a", 0.0), Waiting("b", "b", 1.0)], {"a": 7.0, "b": 6.0}) == ("b", "a")


@pytest.mark.parametrize(
    ("blocked", "expected"), [(set(), "a"), ({"a"}, "b"), ({"a", "b"}, None)], ids=["all", "one refused", "all refused"]
)
def test_who_was_refused_holds_up_nobody(blocked: set[str], expected: str | None) -> None:
    assert next_of(("a", "b"), blocked) == expected


@given(waiting=WAITING, served=SERVED)
def test_nobody_is_forgotten_and_a_namespace_keeps_its_order(waiting: list[Waiting], served: dict[str, float]) -> None:
    ordered = order(waiting, served)
    assert sorted(ordered) == sorted(one.uid for one in waiting)
    by_uid = {one.uid: one for one in waiting}
    for namespace in "xyz":
        own = [by_uid[uid].age for uid in ordered if by_uid[uid].namespace == namespace]
        assert own == sorted(own)


@given(waiting=WAITING, served=SERVED)
def test_nobody_has_a_second_turn_while_another_waits_for_a_first(
    waiting: list[Waiting], served: dict[str, float]
) -> None:
    by_uid = {one.uid: one for one in waiting}
    turns = [by_uid[uid].namespace for uid in order(waiting, served)]
    seen: set[str] = set()
    first_round = list(takewhile(lambda name: not (name in seen or seen.add(name)), turns))  # type: ignore[func-returns-value]
    assert set(first_round) == set(turns)


@given(waiting=WAITING, served=SERVED)
def test_the_order_is_the_same_whoever_asks(waiting: list[Waiting], served: dict[str, float]) -> None:
    assert order(reversed(waiting), served) == order(waiting, served)


def made(attached_s: float | None) -> Attachment:
    """An attachment of the 1000th second since 1970."""
    status = {"attachedAt": render_time(attached_s)} if attached_s is not None else {}
    metadata = {"uid": "u1", "creationTimestamp": render_time(1000)}
    return parse_attachment(attachment({}, metadata=metadata, status=status))


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param({"u1": made(None)}, {"u1": made(1007)}, [7.0], id="it got its GPU"),
        pytest.param({"u1": made(None)}, {"u1": made(None)}, [], id="it waits on"),
        pytest.param({"u1": made(1007)}, {"u1": made(1007)}, [], id="it was told of"),
        pytest.param({}, {"u1": made(1007)}, [], id="an earlier leader told of it"),
        pytest.param({"u1": made(None)}, {"u1": made(990)}, [0.0], id="a node whose clock is behind"),
        pytest.param({"u1": made(None)}, {}, [], id="it is gone"),
    ],
)
def test_a_wait_is_told_once(before: dict[str, Attachment], now: dict[str, Attachment], expected: list[float]) -> None:
    assert list(waited_s(before, now)) == expected
