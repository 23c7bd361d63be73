"""The table of states: complete, closed, and drawn as it is."""

import os
from pathlib import Path

import pytest

from attach.plan import _PLANS
from attach.transitions import FINAL, TRANSITIONS, Event, IllegalTransitionError, State, follow, render_diagram

DOC = Path(__file__).parents[2] / "docs" / "gpu-attach.md"


def test_the_diagram_in_the_docs_is_the_table() -> None:
    """REGENERATE=1 draws it anew."""
    head, fence, rest = DOC.read_text().partition("```mermaid\n")
    drawn, end, tail = rest.partition("```")
    if os.environ.get("REGENERATE"):
        DOC.write_text(head + fence + render_diagram() + end + tail)
        return

    assert fence
    assert drawn == render_diagram()


def test_every_state_is_in_the_table_and_has_decisions() -> None:
    assert set(TRANSITIONS) == set(State) == set(_PLANS)


def test_every_event_ends_some_state() -> None:
    assert {event for events in TRANSITIONS.values() for event in events} == set(Event)


def test_every_state_is_reached_and_leads_to_an_end() -> None:
    def reach(start: State) -> set[State]:
        found: set[State] = set()
        ahead = [start]
        while ahead:
            state = ahead.pop()
            if state not in found:
                found.add(state)
                ahead += TRANSITIONS[state].values()
        return found

    assert reach(State.ATTACHING) == set(State)
    assert all(reach(state) & FINAL for state in State)


@pytest.mark.parametrize("state", State)
def test_an_event_that_a_state_does_not_know_is_an_error(state: State) -> None:
    for event in set(Event) - set(TRANSITIONS[state]):
        with pytest.raises(IllegalTransitionError, match=f"an attachment that is {state} knows no event {event.name}"):
            follow(state, event)
