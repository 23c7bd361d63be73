"""EDGE: events of what agents did with attachments; an agent says it in conditions, and may write nothing else."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from attach.api import Attachment, Type
from kube.api import Api, Object
from kube.events import post

ACTIONS: Final = {
    Type.RESERVED: "Reserve",
    Type.ATTACHED: "Attach",
    Type.DRAINING: "Detach",
    Type.OVERDUE: "Detach",
    Type.QUARANTINED: "Detach",
    Type.RELEASED: "Detach",
    Type.FAILED: "Attach",
}
_WARNINGS: Final = (Type.OVERDUE, Type.QUARANTINED, Type.FAILED)


def announce(api: Api, before: Mapping[str, Attachment], now: Mapping[str, Attachment]) -> None:
    """
    Tell of each condition that became true between two looks, on the attachment and on its pod.

    Args:
        before: By UID, as *now*; of one that it lacks nothing is told: whoever looked before has.
    """
    for attachment, condition in became(before, now):
        kind: Any = "Warning" if condition["type"] in _WARNINGS else "Normal"
        for about in _both(attachment):
            action, note = ACTIONS[condition["type"]], str(condition.get("message", ""))
            post(api, about, kind=kind, reason=condition["reason"], action=action, note=note)


def became(before: Mapping[str, Attachment], now: Mapping[str, Attachment]) -> Iterator[tuple[Attachment, Object]]:
    """List conditions that are true now, and were not, or for another reason."""
    for uid, attachment in now.items():
        old = before.get(uid)
        if old is None or old.version == attachment.version:
            continue
        for condition in attachment.status.conditions:
            if condition["status"] == "True" and condition["type"] in ACTIONS and not _stood(old, condition):
                yield attachment, condition


def _stood(old: Attachment, condition: Object) -> bool:
    was = old.status.condition(Type(condition["type"]))
    return (was.get("status"), was.get("reason")) == (condition["status"], condition["reason"])


def _both(attachment: Attachment) -> Iterator[Object]:
    where = {"namespace": attachment.namespace}
    own = {"name": attachment.name, "uid": attachment.uid, "resourceVersion": attachment.version}
    yield {"apiVersion": "podsla.io/v1beta1", "kind": "GPUAttachment", "metadata": {**own, **where}}
    pod = {"name": attachment.spec.pod_name, "uid": attachment.status.pod_uid}
    yield {"apiVersion": "v1", "kind": "Pod", "metadata": {**pod, **where}}
