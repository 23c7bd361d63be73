"""What a namespace has held today, and that nobody gets minutes back by deleting what says so."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attach.api import Attachment, Condition, Type, merge_conditions, parse_attachment, render_time
from attach.budget import (
    Budget,
    Ledger,
    bring_up_to,
    day_ends_s,
    held_today_s,
    is_due,
    read_ledger,
    render_ledger,
    used_s,
)
from tests.attach.test_api import attachment

MIDNIGHT_S = datetime(2026, 1, 2, tzinfo=UTC).timestamp()
NOON_S = MIDNIGHT_S + 12 * 3600


def held(attached_s: float | None, *said: tuple[Type, bool, float], count: int = 1, uid: str = "u1") -> Attachment:
    """An attachment since it was attached, with conditions and since when they are so."""
    conditions: list[Any] = []
    for kind, true, since_s in said:
        condition = Condition(kind, true, "Released", "")
        conditions = list(merge_conditions(conditions, [condition], 1, datetime.fromtimestamp(since_s, UTC)))
    status: dict[str, Any] = {"conditions": conditions}
    if attached_s is not None:
        status["attachedAt"] = render_time(attached_s)
    return parse_attachment(attachment({"count": count}, metadata={"uid": uid}, status=status))


@pytest.mark.parametrize(
    ("one", "noted_s", "expected"),
    [
        pytest.param(held(None), 0, 0, id="one that waits holds nothing"),
        pytest.param(held(NOON_S - 90), 0, 90, id="from the attach on"),
        pytest.param(held(NOON_S - 90, count=4), 0, 360, id="times its GPUs"),
        pytest.param(held(MIDNIGHT_S - 500), 0, 12 * 3600, id="what was held yesterday was yesterday's"),
        pytest.param(held(NOON_S - 90, (Type.RELEASED, True, NOON_S - 30)), 0, 60, id="until it ended"),
        pytest.param(held(MIDNIGHT_S - 90, (Type.RELEASED, True, MIDNIGHT_S - 30)), 0, 0, id="ended yesterday"),
        pytest.param(held(NOON_S - 90, (Type.OVERDUE, True, NOON_S - 80)), 0, 90, id="kept open past its end"),
        pytest.param(held(NOON_S - 90, (Type.QUARANTINED, True, NOON_S - 50)), 0, 40, id="a quarantine is nobody's"),
        pytest.param(
            held(NOON_S - 90, (Type.QUARANTINED, False, NOON_S - 10), (Type.RELEASED, True, NOON_S - 10)),
            40,
            40,
            id="nor one that is over: what was noted stays",
        ),
        pytest.param(held(NOON_S + 5), 30, 30, id="a clock that went back gives nothing back"),
    ],
)
def test_what_an_attachment_has_held_of_today(one: Attachment, noted_s: int, expected: int) -> None:
    assert held_today_s(one, noted_s, NOON_S) == expected


def test_minutes_outlive_the_attachment_and_end_with_the_day() -> None:
    one = held(NOON_S - 600)
    noted = read_ledger(render_ledger(bring_up_to(Ledger(), [one], NOON_S)))
    assert used_s(noted, "team-a") == 600
    assert used_s(bring_up_to(noted, [], NOON_S + 60), "team-a") == 600
    assert used_s(bring_up_to(noted, [one], NOON_S + 60), "team-a") == 660
    assert used_s(bring_up_to(noted, [held(NOON_S, uid="u2")], NOON_S + 60), "team-a") == 660
    assert used_s(noted, "team-b") == 0
    assert bring_up_to(noted, [], day_ends_s(NOON_S)) == Ledger("2026-01-03", {})


def test_it_is_written_at_an_end_and_each_minute_and_not_in_between() -> None:
    one = held(NOON_S)
    noted = bring_up_to(Ledger(), [one], NOON_S)
    for later_s, due in ((59.0, False), (60.0, True)):
        assert is_due(noted, bring_up_to(noted, [one], NOON_S + later_s), [one]) is due
    ended = held(NOON_S, (Type.RELEASED, True, NOON_S + 1))
    new = bring_up_to(noted, [ended], NOON_S + 2)
    assert is_due(noted, new, [ended])
    assert not is_due(new, bring_up_to(new, [ended], NOON_S + 900), [ended])
    assert is_due(new, bring_up_to(new, [], day_ends_s(NOON_S)), [])


@given(cuts=st.lists(st.floats(0.0, 7200.0), max_size=8))
def test_looking_often_counts_nothing_twice(cuts: list[float]) -> None:
    """Whatever controllers died in between, each having written or not."""
    one, ledger = held(NOON_S, count=3), Ledger()
    for cut_s in sorted(cuts):
        ledger = bring_up_to(ledger, [one], NOON_S + cut_s)
    assert bring_up_to(ledger, [one], NOON_S + 7200) == bring_up_to(Ledger(), [one], NOON_S + 7200)


def test_a_budget_says_both_figures_and_what_to_do() -> None:
    budget = Budget(600, 600 * 60 - 1, day_ends_s(NOON_S))
    assert not budget.spent
    spent = replace(budget, used_s=601 * 60)
    assert spent.spent
    assert str(spent) == (
        "601 of its 600 GPU-minutes of today are used; there are more from 2026-01-03T00:00:00Z on, "
        "or ask the owner of the catalogue"
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"day": "x"}', '{"day": "x", "held": {"a": 1}}', '{"day": 1, "held": 5}'])
def test_what_is_no_ledger_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no ledger of GPU-seconds|Expecting"):
        read_ledger(text)
    assert read_ledger("") == Ledger()
