"""What is seen of attachments: what each step costs, whose turn it was, and whether two had one device."""

from typing import Any

import pytest

from bench.cluster.__main__ import Report, is_missed
from bench.cluster.crowd import Crowd
from bench.cluster.moments import Spread
from bench.cluster.replay import Replay, is_over
from bench.cluster.steps import ACCESS, Attaches, Cost, Seen, sum_up

SPREAD = Spread(0.0, 0.0, 0.0)


def placeholder(label: str, *, name: str = "p", node: str = "", phase: str = "Pending") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"podsla.io/placeholder": label}},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase},
    }


def attachment(uid: str, *true: str, devices: tuple[str, ...] = (), second: int = 0, node: str = "") -> dict[str, Any]:
    status: dict[str, Any] = {"conditions": [{"type": kind, "status": "True"} for kind in true]}
    status["devices"] = [{"uuid": device} for device in devices]
    if node:
        status |= {"node": node, "placeholder": {"name": f"p-{uid}"}}
    return {"metadata": {"uid": uid, "creationTimestamp": f"2026-11-29T10:00:{second:02}Z"}, "status": status}


def test_a_step_is_noted_when_it_is_first_seen() -> None:
    seen = Seen()
    seen.see_placeholder("ADDED", placeholder("a"), 1.0)
    seen.see_placeholder("MODIFIED", placeholder("a", node="n"), 2.0)
    seen.see_placeholder("MODIFIED", placeholder("a", node="n", phase="Running"), 3.0)
    seen.see_attachment("MODIFIED", attachment("a", "Attached"), 4.0)
    seen.see_attachment("MODIFIED", attachment("a", "Attached"), 5.0)
    seen.see_attachment("MODIFIED", attachment("a", "Released"), 6.0)
    seen.see_placeholder("MODIFIED", placeholder("a", node="n", phase="Succeeded"), 7.0)
    seen.see_placeholder("DELETED", placeholder("a", node="n", phase="Succeeded"), 8.0)

    assert seen.at_s["a"] == {"reserved": 1.0, "scheduled": 2.0, "told": 4.0, "ended": 6.0, "gone": 7.0}
    assert seen.ended == {"a": "Released"}


def test_what_is_kept_ready_is_nobodys_until_it_is_handed_over() -> None:
    seen = Seen()
    seen.see_placeholder("ADDED", placeholder("warm", node="n"), 1.0)
    assert not seen.warm
    seen.see_placeholder("MODIFIED", placeholder("warm", node="n", phase="Running"), 2.0)
    assert seen.warm == {"p"}
    seen.see_placeholder("MODIFIED", placeholder("a", node="n", phase="Running"), 3.0)

    assert not seen.warm
    assert seen.at_s == {"a": {"reserved": 3.0, "scheduled": 3.0}}


def test_the_agents_log_says_when_it_began_and_when_access_was_verified() -> None:
    line = '{"time":"2026-11-29T10:00:0%s+00:00","message":"attachment changed","uid":"a","to":"%s"}'
    seen = Seen()
    seen.see_log(
        ["no JSON", '{"message":"agent started"}', line % ("1.250", "Attaching"), line % ("1.500", "Attached")]
    )

    at_s = seen.at_s["a"]
    assert at_s[ACCESS] - at_s["agent begins"] == pytest.approx(0.25)


def test_a_step_costs_what_passes_after_all_before_it() -> None:
    moments = {"asked": 10.0, "created": 10.01, "scheduled": 10.2, "device given": 10.1, ACCESS: 10.5}
    slower = {**moments, ACCESS: 10.9}

    found = sum_up([moments, slower])

    assert [cost.step for cost in found.steps] == ["created", "scheduled", "device given", ACCESS]
    assert [cost.longest_s for cost in found.steps] == pytest.approx([0.01, 0.19, 0.0, 0.7])
    assert (found.access.median_s, found.access.p99_s) == pytest.approx((0.7, 0.9))
    with pytest.raises(KeyError):
        sum_up([{"asked": 1.0}])


def test_two_that_have_one_device_are_found_and_one_after_the_other_is_none() -> None:
    seen = Seen()
    seen.see_attachment("MODIFIED", attachment("a", "Attached", devices=("g",)), 1.0)
    seen.see_attachment("MODIFIED", attachment("a", "Draining", devices=("g",)), 2.0)
    seen.see_attachment("MODIFIED", attachment("a", "Released", devices=("g",)), 3.0)
    seen.see_attachment("MODIFIED", attachment("b", "Attached", devices=("g",)), 4.0)
    assert not seen.twice
    seen.see_attachment("MODIFIED", attachment("c", "Attached", devices=("g",)), 5.0)

    assert seen.twice == ["g"]


def test_one_that_drains_still_has_its_device() -> None:
    seen = Seen()
    seen.see_attachment("MODIFIED", attachment("a", "Attached", devices=("g",)), 1.0)
    seen.see_attachment("MODIFIED", attachment("a", "Draining", devices=("g",)), 2.0)
    seen.see_attachment("MODIFIED", attachment("b", "Attached", devices=("g",)), 3.0)

    assert seen.twice == ["g"]


@pytest.mark.parametrize(
    ("order", "overtaken"),
    [
        pytest.param([("n", 1), ("n", 1), ("n", 2)], 0, id="as they came"),
        pytest.param([("n", 2), ("n", 1), ("n", 1), ("n", 3)], 2, id="a later one was first"),
        pytest.param([("n", 2), ("m", 1)], 0, id="another node is another lane"),
    ],
)
def test_who_was_overtaken_in_its_lane(order: list[tuple[str, int]], overtaken: int) -> None:
    seen = Seen()
    for number, (node, second) in enumerate(order):
        thing = attachment(f"u{number}", second=second, node=node)
        seen.see_attachment("MODIFIED", thing, 1.0)
        seen.see_attachment("MODIFIED", thing, 2.0)

    assert seen.overtaken == overtaken


def attaches(p99_s: float) -> Attaches:
    return Attaches(200, Cost("asked to access", 0.05, p99_s, p99_s), ())


def crowd(overtaken: int = 0, twice: tuple[str, ...] = (), left: tuple[str, ...] = ()) -> Crowd:
    return Crowd(100, 1.0, {"host": 9.0}, SPREAD, overtaken, twice, left)


def replay(held: float = 0.41, twice: tuple[str, ...] = (), left: tuple[str, ...] = ()) -> Replay:
    return Replay(143, 506, 10.0, held, 0.413, 0.333, 0.0, SPREAD, 0.0, twice, left)


@pytest.mark.parametrize(
    ("report", "missed"),
    [
        pytest.param(Report(cold=attaches(1.0), warm=attaches(0.1)), False, id="as fast as may be"),
        pytest.param(Report(cold=attaches(1.01), warm=attaches(0.1)), True, id="cold too slow"),
        pytest.param(Report(cold=attaches(1.0), warm=attaches(0.11)), True, id="warm too slow"),
        pytest.param(Report(crowd=crowd()), False, id="a crowd is served"),
        pytest.param(Report(crowd=crowd(overtaken=1)), True, id="overtaken"),
        pytest.param(Report(crowd=crowd(twice=("g",))), True, id="one GPU in two pods"),
        pytest.param(Report(crowd=crowd(left=("p",))), True, id="a placeholder stays"),
        pytest.param(Report(replay=replay()), False, id="as little is held as the bar says"),
        pytest.param(Report(replay=replay(held=0.414)), True, id="more is held, by less than a percent"),
        pytest.param(Report(replay=replay(left=("p",))), True, id="something stays"),
        pytest.param(Report(replay=replay(twice=("g",))), True, id="one GPU twice"),
    ],
)
def test_which_bars_are_missed(report: Report, missed: bool) -> None:
    assert is_missed(report) == missed


@pytest.mark.parametrize(
    ("at_s", "over"),
    [
        pytest.param({"asked": 1.0, "reserved": 2.0, "ended": 3.0, "gone": 4.0}, True, id="gone"),
        pytest.param({"asked": 1.0, "reserved": 2.0, "ended": 3.0}, False, id="its placeholder is still there"),
        pytest.param({"asked": 1.0, "ended": 3.0}, True, id="given back while it waited"),
        pytest.param({"asked": 1.0}, False, id="it waits"),
    ],
)
def test_a_phase_is_over_when_nothing_reserves_for_it_any_more(at_s: dict[str, float], over: bool) -> None:
    assert is_over(at_s) is over
