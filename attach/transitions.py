"""The states of an attachment on its node, as a table; docs/gpu-attach.md draws it. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """What the journal says of an attachment; each is written before the first effect that it stands for."""

    ATTACHING = "Attaching"  # rule and nodes are being made, or made again
    ATTACHED = "Attached"  # a process of the container was seen to open the device
    DRAINING = "Draining"  # nodes are hidden; the pod has its grace period
    REVOKING = "Revoking"  # rules are being taken away
    VERIFYING = "Verifying"  # no rule is left; who still has the device open?
    OVERDUE = "Overdue"  # the target pod has; the device stays its own until it closes
    QUARANTINED = "Quarantined"  # nobody may have the device, for it isn't known to be free
    RELEASED = "Released"  # free; nothing of ours is left
    FAILED = "Failed"  # never attached, or no longer to be; nothing of ours is left


class Event(StrEnum):
    """What was seen that ends a state."""

    OPENED = "the container opens every device"
    DRIFTED = "rule, node or container is gone"
    ENDED = "released, withdrawn, lease expired, or reservation lost"
    REFUSED = "it can't be attached"
    DRAINED = "closed, or the grace period is over"
    DENIED = "no rule is left"
    STUCK = "the rules can't be taken away or read"
    CLEAN = "nobody has it open"
    CLEAN_REFUSED = "nobody has it open, and it failed"
    HELD_BY_POD = "the target pod still has it open"
    HELD_OTHERWISE = "another has, none can be named or killed, unknown, or unhealthy"
    LOST = "the reservation is lost"
    FORCED = "released by force"


TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    State.ATTACHING: {
        Event.OPENED: State.ATTACHED,
        Event.ENDED: State.DRAINING,
        Event.REFUSED: State.DRAINING,
    },
    State.ATTACHED: {
        Event.DRIFTED: State.ATTACHING,
        Event.ENDED: State.DRAINING,
        Event.REFUSED: State.DRAINING,
    },
    State.DRAINING: {Event.DRAINED: State.REVOKING},
    State.REVOKING: {Event.DENIED: State.VERIFYING, Event.STUCK: State.QUARANTINED},
    State.VERIFYING: {
        Event.CLEAN: State.RELEASED,
        Event.CLEAN_REFUSED: State.FAILED,
        Event.HELD_BY_POD: State.OVERDUE,
        Event.HELD_OTHERWISE: State.QUARANTINED,
    },
    State.OVERDUE: {
        Event.CLEAN: State.RELEASED,
        Event.CLEAN_REFUSED: State.FAILED,
        Event.LOST: State.VERIFYING,
        Event.HELD_OTHERWISE: State.QUARANTINED,
    },
    State.QUARANTINED: {
        Event.CLEAN: State.RELEASED,
        Event.CLEAN_REFUSED: State.FAILED,
        Event.FORCED: State.RELEASED,
    },
    State.RELEASED: {},
    State.FAILED: {},
}

FINAL: Final = frozenset(state for state, events in TRANSITIONS.items() if not events)
HAS_ACCESS: Final = frozenset({State.ATTACHING, State.ATTACHED, State.DRAINING})  # rules of ours may stand


class IllegalTransitionError(Exception):
    """A state knows no such event; nothing was changed."""


def follow(state: State, event: Event) -> State:
    """
    Find the state after *event*.

    Raises:
        IllegalTransitionError: *state* knows no such event.
    """
    after = TRANSITIONS[state].get(event)
    if after is None:
        raise IllegalTransitionError(f"an attachment that is {state} knows no event {event.name}")
    return after


def render_diagram() -> str:
    """Draw the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.ATTACHING}: every check passed"]
    for state, events in TRANSITIONS.items():
        arrows: dict[State, list[str]] = {}
        for event, after in events.items():
            arrows.setdefault(after, []).append(event)
        lines += [f"    {state} --> {after}: {'; or '.join(texts)}" for after, texts in arrows.items()]
        if not events:
            lines.append(f"    {state} --> [*]: no longer desired")
    return "\n".join(lines) + "\n"
