"""What is told of attachments as events, where agents have written."""

from typing import Any, cast

import pytest

from attach.api import Attachment, Type, parse_attachment
from controller.announce import ACTIONS, announce, became
from kube.api import Api, Object, Resource

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


class Board:
    """Keeps the events that are written."""

    def __init__(self) -> None:
        self.events: list[Object] = []

    def create(self, resource: Resource, body: Object, namespace: str) -> Object:
        assert (resource.plural, namespace) == ("events", "team-a")
        self.events.append(body)
        return body


KINDS = [
    pytest.param(Type.RESERVED, "Normal", "Reserve", id="Reserved"),
    pytest.param(Type.ATTACHED, "Normal", "Attach", id="Attached"),
    pytest.param(Type.DRAINING, "Normal", "Detach", id="Draining"),
    pytest.param(Type.OVERDUE, "Warning", "Detach", id="Overdue"),
    pytest.param(Type.QUARANTINED, "Warning", "Detach", id="Quarantined"),
    pytest.param(Type.RELEASED, "Normal", "Detach", id="Released"),
    pytest.param(Type.FAILED, "Warning", "Attach", id="Failed"),
]


@pytest.mark.parametrize(("what", "kind", "action"), KINDS)
def test_every_condition_is_told_on_the_attachment_and_its_pod(what: Type, kind: str, action: str) -> None:
    """As a warning where somebody should look."""
    board = Board()
    before, now = attachment(1), attachment(2, (what.value, "True", "Because"))

    announce(cast(Api, board), {"a-1": before}, {"a-1": now})

    assert [(one["regarding"]["kind"], one["regarding"]["name"]) for one in board.events] == [
        ("GPUAttachment", "eval"), ("Pod", "web")
    ]  # fmt: skip
    said = {(one["type"], one["reason"], one["action"], one["note"]) for one in board.events}
    assert said == {(kind, "Because", action, "said")}


def test_no_condition_is_left_out() -> None:
    assert {each.values[0] for each in KINDS} == set(ACTIONS) == set(Type)
