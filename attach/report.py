"""What the agent writes into the status of an attachment: its own fields and conditions, and no others. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from attach.entry import Entry, Now
from attach.inspect import render_time
from attach.reconcile import Status
from attach.transitions import State
from kube.api import Object

REFUSED: Final = frozenset(
    {
        "AlreadyAllowed",
        "AllDevicesAllowed",
        "AmbiguousDevice",
        "DeviceLost",
        "DeviceUnhealthy",
        "InvalidAttachment",
        "NodeForeign",
        "SandboxedRuntime",
        "UnknownDevice",
    }
)
"""Why an attachment that has not begun never will."""

MAX_MESSAGE: Final = 1024
Fields = dict[str, Any]
_TRUE_IN: Final[Mapping[str, frozenset[State]]] = {
    "Attached": frozenset({State.ATTACHED}),
    "Draining": frozenset({State.DRAINING, State.REVOKING, State.VERIFYING}),
    "Overdue": frozenset({State.OVERDUE}),
    "Quarantined": frozenset({State.QUARANTINED}),
}
_END: Final = {State.RELEASED: "Released", State.FAILED: "Failed"}


def is_over(status: Status | None, over: tuple[str, str] | None) -> bool:
    """Say whether nothing is held, and nothing will be: the placeholder may end."""
    if status is None:
        return over is not None
    return status.entry.is_final if status.entry is not None else over is not None or status.reason in REFUSED


def report(
    attachment: Object,
    status: Status | None,
    over: tuple[str, str] | None,
    attached_s: float | None,
    now: Now,
    *,
    placeholder_ended: bool,
) -> Fields | None:
    """
    Write what has changed of the status; None: nothing.

    Args:
        over: Why it never begins, where it has not begun.
        placeholder_ended: Whether the pod that reserved for it has ended: only then an end is told.
    """
    written = _Writer(attachment, now)
    entry = status.entry if status is not None else None
    if entry is not None and status is not None:
        _write_entry(written, entry, status, attached_s, now, ended=placeholder_ended)
    elif over is not None:
        if placeholder_ended:
            written.set("Released", True, *over)
    elif status is not None:
        written.set("Reserved", True, "Reserved", "the kubelet has given every device to the placeholder")
        written.set("Attached", False, status.reason, status.message)
        if status.reason in REFUSED and placeholder_ended:
            written.set("Reserved", False, "Failed", "the node refused it")
            written.set("Failed", True, status.reason, status.message)
    return written.changed()


def _write_entry(
    written: "_Writer", entry: Entry, status: Status, attached_s: float | None, now: Now, *, ended: bool
) -> None:
    written.fields["devices"] = [{"uuid": uuid} for uuid in entry.wish.devices]
    if attached_s is not None:
        written.fields["attachedAt"] = written.known("attachedAt") or render_time(attached_s)
        written.fields["leaseExpiresAt"] = render_time(entry.wish.expires_s)
    written.set("Reserved", True, "Reserved", "the kubelet has given every device to the placeholder")
    for kind, states in _TRUE_IN.items():
        if entry.state in states or kind == "Attached" or written.is_there(kind):
            written.set(kind, entry.state in states, status.reason, status.message)
    if entry.state in _END and ended:
        end = _END[entry.state]
        written.set("Reserved", False, end, "the device is given back")
        written.set(end, True, entry.reason, entry.message)
    if attached_s is not None and written.changed() is not None:
        written.fields["heldSeconds"] = max(0, int(now.wall_s - attached_s))


class _Writer:
    """The agent's part of a status, over what stands there."""

    def __init__(self, attachment: Object, now: Now) -> None:
        self.before: Mapping[str, Any] = attachment.get("status") or {}
        self.generation = attachment["metadata"].get("generation", 1)
        self.when = render_time(now.wall_s)
        self.fields: Fields = {}
        self._conditions = {each["type"]: dict(each) for each in self.before.get("conditions") or ()}

    def known(self, name: str) -> Any:
        return self.before.get(name)

    def is_there(self, kind: str) -> bool:
        return kind in self._conditions

    def set(self, kind: str, holds: bool, reason: str, message: str) -> None:
        """Set a condition; its time is that of its last change between True and False."""
        old, value = self._conditions.get(kind, {}), "True" if holds else "False"
        when = old["lastTransitionTime"] if old.get("status") == value else self.when
        said = {"type": kind, "status": value, "reason": reason, "message": message[:MAX_MESSAGE]}
        self._conditions[kind] = {**said, "lastTransitionTime": when, "observedGeneration": self.generation}

    def changed(self) -> Fields | None:
        """Name the fields that differ from what stands there."""
        fields = {**self.fields, "conditions": list(self._conditions.values())}
        found = {name: value for name, value in fields.items() if value != self.before.get(name, [])}
        return found or None
