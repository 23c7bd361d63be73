"""What is told of attachments as events, where agents have written."""

from typing import Any

from attach.api import Attachment, parse_attachment
from controller.announce import became

ATTACHED = ("Attached", "True", "Attached")
OVERDUE = ("Overdue", "True", "StillOpen")


def attachment(version: int, *conditions: tuple[str, str, str]) -> Attachment:
    metadata = {"name": "eval", "namespace": "team-a", "uid": "a-1", "resourceVersion": str(version)}
    made: list[dict[str, Any]] = [
        {"type": kind, "status": status, "reason": reason, "message": "said"} for kind, status, reason in conditions
    ]
    return parse_attachment(
        {
            "apiVersion": "podsla.io/v1beta1",
            "kind": "GPUAttachment",
            "metadata": metadata,
            "spec": {"podName": "web"},
            "status": {"conditions": made},
        }
    )


def told(before: Attachment | None, now: Attachment) -> list[str]:
    found = became({} if before is None else {"a-1": before}, {"a-1": now})
    return [f"{condition['type']} {condition['reason']}" for _, condition in found]


def test_what_became_true_is_told_once() -> None:
    waits = attachment(1, ("Attached", "False", "Attaching"))
    held, late = attachment(2, ATTACHED), attachment(3, ("Attached", "False", "Overdue"), OVERDUE)
    assert told(waits, held) == ["Attached Attached"]
    assert told(held, held) == []
    assert told(held, attachment(3, ATTACHED)) == []
    assert told(held, late) == ["Overdue StillOpen"]
    assert told(late, attachment(4, ("Overdue", "True", "Unreadable"))) == ["Overdue Unreadable"]


def test_of_what_was_not_looked_at_before_nothing_is_told() -> None:
    """Whoever led before has told of it."""
    assert told(None, attachment(2, ATTACHED)) == []
