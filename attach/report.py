"""What the agent writes into the status of an attachment: its own fields and conditions, and no others. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from attach.api import Attachment, Condition, Type, merge_conditions, render_time
from attach.entry import Entry, Now
from attach.reasons import Over, Reason
from attach.reconcile import Status
from attach.transitions import State

REFUSED: Final[frozenset[Reason]] = frozenset(
    {
        "AlreadyAllowed",
        "AllDevicesAllowed",
        "AmbiguousDevice",
        "DeviceLost",
        "DeviceUnhealthy",
        "NodeForeign",
        "SandboxedRuntime",
        "UnknownDevice",
    }
)
"""Why an attachment that has not begun never will."""

MAX_MESSAGE: Final = 1024
Fields = dict[str, Any]

_TRUE_IN: Final[Mapping[Type, frozenset[State]]] = {
    Type.ATTACHED: frozenset({State.ATTACHED}),
    Type.DRAINING: frozenset({State.DRAINING, State.REVOKING, State.VERIFYING}),
    Type.OVERDUE: frozenset({State.OVERDUE}),
    Type.QUARANTINED: frozenset({State.QUARANTINED}),
}
_END: Final[Mapping[State, tuple[Type, Reason]]] = {
    State.RELEASED: (Type.RELEASED, "Released"),
    State.FAILED: (Type.FAILED, "Failed"),
}


def is_over(status: Status | None, over: Over | None) -> bool:
    """Say whether nothing is held, and nothing will be: the placeholder may end."""
    if status is None:
        return over is not None
    return status.entry.is_final if status.entry is not None else status.reason in REFUSED


def report(
    attachment: Attachment,
    status: Status | None,
    over: Over | None,
    attached_s: float | None,
    now: Now,
    *,
    placeholder_ended: bool,
) -> Fields | None:
    """
    Write what has changed of the status; None: nothing.

    Args:
        status: After a pass; None: it was not wanted.
        over: Why it never begins, where it has not begun.
        placeholder_ended: Whether the pod that reserved for it has ended: only then is an end told.
    """
    entry = status.entry if status is not None else None
    fields: Fields = {}
    if status is None:
        new = _over(attachment, over) if over is not None and placeholder_ended else []
    elif entry is None:
        new = _refused(status, ended=placeholder_ended)
    else:
        fields = _fields(entry, attachment, attached_s)
        new = _conditions(entry, status, attachment, ended=placeholder_ended)
    return _changed(attachment, fields, new, attached_s, now)


def _over(attachment: Attachment, over: Over) -> list[Condition]:
    """Say the end of what the journal does not know; what was said of it before etcd was restored is so no more."""
    undone = [Condition(kind, False, *over) for kind in (Type.RESERVED, Type.ATTACHED) if attachment.status.has(kind)]
    return [*undone, Condition(Type.RELEASED, True, *over)]


def _fields(entry: Entry, attachment: Attachment, attached_s: float | None) -> Fields:
    fields: Fields = {}
    if attachment.status.devices != entry.wish.devices:
        fields["devices"] = [{"uuid": uuid} for uuid in entry.wish.devices]
    if attached_s is not None:
        if attachment.status.attached_s is None:
            fields["attachedAt"] = render_time(attached_s)
        if attachment.status.lease_expires_s != int(entry.wish.expires_s):
            fields["leaseExpiresAt"] = render_time(entry.wish.expires_s)
    return fields


def _reserved() -> Condition:
    return Condition(Type.RESERVED, True, "Reserved", "the kubelet has given every device to the placeholder")


def _refused(status: Status, *, ended: bool) -> list[Condition]:
    """Say of what has not begun why not: it waits, or never will."""
    message = status.message[:MAX_MESSAGE]
    waits = [_reserved(), Condition(Type.ATTACHED, False, status.reason, message)]
    if status.reason not in REFUSED or not ended:
        return waits
    given_back = Condition(Type.RESERVED, False, "Failed", "the device is given back")
    return [given_back, *waits[1:], Condition(Type.FAILED, True, status.reason, message)]


def _conditions(entry: Entry, status: Status, attachment: Attachment, *, ended: bool) -> list[Condition]:
    """Say of what has begun how it stands; conditions that were never true are not written."""
    message = status.message[:MAX_MESSAGE]
    new = [
        Condition(kind, entry.state in states, status.reason, message)
        for kind, states in _TRUE_IN.items()
        if entry.state in states or kind is Type.ATTACHED or attachment.status.condition(kind)
    ]
    if entry.state not in _END or not ended:
        return [_reserved(), *new]
    end, reason = _END[entry.state]
    given_back = Condition(Type.RESERVED, False, reason, "the device is given back")
    return [given_back, *new, Condition(end, True, entry.reason, entry.message[:MAX_MESSAGE])]


def _changed(
    attachment: Attachment, fields: Fields, new: list[Condition], attached_s: float | None, now: Now
) -> Fields | None:
    old = [dict(one) for one in attachment.status.conditions]
    merged = merge_conditions(old, new, attachment.generation, datetime.fromtimestamp(now.wall_s, UTC))
    if merged != old:
        fields = {**fields, "conditions": merged}
    if fields and attached_s is not None:
        fields["heldSeconds"] = max(0, int(now.wall_s - attached_s))
    return fields or None
