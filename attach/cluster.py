"""
What the API server and the kubelet say → what is wanted of this node. Pure.

A device is reserved once the kubelet lists it for the placeholder and the API server says that this pod is the
attachment's. It is lost once either is known to be so no more; a kubelet that was just restarted lists nothing for a
moment, so what it leaves out must stay out for a while.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from attach.api import Attachment
from attach.entry import Entry, Now, Trouble, Wish
from attach.model import Target
from attach.reasons import ASKED, Over
from attach.reconcile import Desired
from attach.reservation import PodDevices, reserved
from catalog.keys import PLACEHOLDER
from kube.api import Object

LOST_AFTER_S: Final = 10.0  # that a running placeholder is not listed
STATUSES: Final = {  # of a pod's status, by what the spec has of the same containers
    "containerStatuses": "containers",
    "initContainerStatuses": "initContainers",
    "ephemeralContainerStatuses": "ephemeralContainers",
}
_ENDED: Final = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class ClusterView:
    """
    What was read.

    Attributes:
        attachments: Of this node, that have not ended: the target's node, UID and container are known.
        pods: Of this node, by namespace and name.
        given: What the kubelet has given to pods, or why that is not known.
        slices: The node's ResourceSlices.
        attached: When attachments were first attached, by UID, in seconds since 1970.
        unlisted: Since when the kubelet has not listed the devices of an attachment, by UID and the boot clock.
        ended: UIDs of placeholders whose process has ended, by the node itself: the API server hears of it later.
        system_namespaces: Whose pods may have any device open.
    """

    now: Now
    attachments: tuple[Attachment, ...] = ()
    pods: Mapping[tuple[str, str], Object] = field(default_factory=dict)
    given: tuple[PodDevices, ...] | Trouble = ()
    slices: tuple[Object, ...] = ()
    attached: Mapping[str, float] = field(default_factory=dict)
    unlisted: Mapping[str, float] = field(default_factory=dict)
    ended: Collection[str] = ()
    system_namespaces: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What is wanted of this node.

    Attributes:
        over: Why attachments that have not begun never will, by UID: reason and sentence.
    """

    desired: Desired = field(default_factory=lambda: Desired(complete=False))
    over: Mapping[str, Over] = field(default_factory=dict)


def is_here(attachment: Attachment, node: str) -> bool:
    """Say whether an attachment concerns a node."""
    status = attachment.status
    return bool(status.node == node and status.pod_uid and status.container) and not attachment.is_finished


def wanted(view: ClusterView, entries: Mapping[str, Entry]) -> Wanted:
    """Say what is wanted; *entries* are the journal's, whose devices and target stay what they are."""
    wishes: dict[str, Wish] = {}
    over: dict[str, Over] = {}
    for each in view.attachments:
        if (entry := entries.get(each.uid)) is not None:
            wishes[each.uid] = _held(each, entry, view)
        elif (why := _end(each, view) or _undone(each, view)) is not None:
            over[each.uid] = why
        elif (wish := _new(each, view)) is not None:
            wishes[each.uid] = wish
    for uid in _forgotten(view, entries):
        wishes[uid] = replace(entries[uid].wish, reservation_lost=True)
    system = [pod["metadata"]["uid"] for (where, _), pod in view.pods.items() if where in view.system_namespaces]
    return Wanted(Desired(wishes, system_pods=frozenset(system)), over)


def _forgotten(view: ClusterView, entries: Mapping[str, Entry]) -> tuple[str, ...]:
    """Find what is held and the API server knows nothing of, no placeholder either: so it is when etcd was restored."""
    reserving = {_attachment_uid(pod) for pod in view.pods.values() if pod["status"].get("phase") not in _ENDED}
    known = reserving | {each.uid for each in view.attachments}
    return tuple(uid for uid, entry in entries.items() if not entry.is_final and uid not in known)


def placeholder_of(attachment: Attachment, view: ClusterView) -> Object | None:
    """Find the pod that reserves for an attachment, if it still is that very pod, and says so itself."""
    named = attachment.status.placeholder
    pod = view.pods.get((attachment.namespace, named.name)) if named else None
    if pod is None or named is None:
        return None
    is_it = pod["metadata"]["uid"] == named.uid and _attachment_uid(pod) == attachment.uid
    return pod if is_it else None


def _attachment_uid(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(PLACEHOLDER, ""))


def unlisted(view: ClusterView, entries: Mapping[str, Entry]) -> dict[str, float]:
    """Note since when devices that are held are not listed; while the kubelet is silent, nothing is noted."""
    if isinstance(view.given, Trouble):
        return {}
    return {
        each.uid: view.unlisted.get(each.uid, view.now.boot_s)
        for each in view.attachments
        if (entry := entries.get(each.uid)) is not None
        and not entry.is_final
        and _devices(each, view) != entry.wish.devices
    }


def orphans(view: ClusterView, entries: Mapping[str, Entry]) -> tuple[Object, ...]:
    """Find placeholders that are being deleted, and whose attachment is over or gone: nobody else lets them end."""
    held = {uid for uid, entry in entries.items() if not entry.is_final} | {each.uid for each in view.attachments}
    return tuple(
        pod
        for pod in view.pods.values()
        if (uid := _attachment_uid(pod)) and pod["metadata"].get("deletionTimestamp") and uid not in held
    )


def container_of(pod: Object, name: str = "") -> tuple[str, bool]:
    """
    Find a container of a pod; without a name, the only one.

    Returns:
        Its ID, "" where it does not run; and whether it may still run, now or later.
    """
    status = pod.get("status") or {}
    if status.get("phase") in _ENDED:
        return "", False
    for where, each in ((group, one) for kind, group in STATUSES.items() for one in status.get(kind) or ()):
        if not name or each["name"] == name:
            state = each.get("state") or {}
            if state.get("running") is not None:
                return str(each.get("containerID", "")).rpartition("://")[2], True
            ended = state.get("terminated")
            return "", ended is None or _restarts(pod["spec"], where, each["name"], ended.get("exitCode"))
    return "", True


def _restarts(spec: Object, group: str, name: str, exit_code: int | None) -> bool:
    """Say whether the kubelet starts a container again, by its own policy, or else its pod's."""
    own = next((one.get("restartPolicy") for one in spec.get(group) or () if one["name"] == name), None)
    policy = own or spec.get("restartPolicy", "Always")
    if group == "ephemeralContainers" or (group == "initContainers" and own != "Always" and exit_code == 0):
        return False
    return bool(policy == "Always" or (policy == "OnFailure" and exit_code != 0))


def _new(attachment: Attachment, view: ClusterView) -> Wish | None:
    """Begin once the container runs and every device is reserved; None: not yet."""
    spec, status = attachment.spec, attachment.status
    pod, devices = _target(attachment, view), _devices(attachment, view)
    container_id = container_of(pod, status.container)[0] if pod else ""
    if not container_id or len(devices) != spec.count:
        return None
    return Wish(
        uid=attachment.uid,
        target=Target(attachment.namespace, spec.pod_name, status.pod_uid, container_id),
        devices=devices,
        renew_time_s=_renewed_s(attachment, view),
        lease_s=spec.lease_s,
        grace_s=spec.grace_s,
        policy=spec.policy,
        release=None,
        reservation_lost=False,
        force=attachment.force,
    )


def _held(attachment: Attachment, entry: Entry, view: ClusterView) -> Wish:
    """Take over what may change of what the journal knows."""
    pod, wish = _target(attachment, view), entry.wish
    container_id = container_of(pod, attachment.status.container)[0] if pod else ""
    return replace(
        wish,
        target=replace(wish.target, container_id=container_id or wish.target.container_id),
        renew_time_s=_renewed_s(attachment, view),
        release=_end(attachment, view),
        reservation_lost=_is_lost(attachment, wish.devices, view),
        force=attachment.force,
    )


def _target(attachment: Attachment, view: ClusterView) -> Object | None:
    pod = view.pods.get((attachment.namespace, attachment.spec.pod_name))
    return pod if pod is not None and pod["metadata"]["uid"] == attachment.status.pod_uid else None


def _end(attachment: Attachment, view: ClusterView) -> Over | None:
    """Say why the device is to be taken back, as far as the API server knows."""
    spec, status = attachment.spec, attachment.status
    if spec.release or attachment.deleting:
        return ASKED
    pod = _target(attachment, view)
    if pod is None:
        return "TargetGone", f"pod {spec.pod_name} with UID {status.pod_uid} is gone"
    if not container_of(pod, status.container)[1]:
        return "TargetGone", f"container {status.container} of pod {spec.pod_name} has ended"
    reserving = placeholder_of(attachment, view)
    if reserving is not None and reserving["metadata"].get("deletionTimestamp"):
        return "PlaceholderDeleted", f"pod {reserving['metadata']['name']}, which reserves the device, was deleted"
    return None


def _undone(attachment: Attachment, view: ClusterView) -> Over | None:
    """Say why what was attached, and is not any more by the journal, is over: so it is when etcd was restored."""
    if attachment.status.attached_s is None or _reserving(attachment, view) is not None:
        return None
    return "ReservationLost", "it was given back, and the API server knows nothing of that; no pod reserves the device"


def _reserving(attachment: Attachment, view: ClusterView) -> Object | None:
    """Find the placeholder, if it has not ended."""
    pod = placeholder_of(attachment, view)
    return None if pod is None or pod["status"].get("phase") in _ENDED else pod


def _is_lost(attachment: Attachment, devices: Collection[str], view: ClusterView) -> bool:
    pod = _reserving(attachment, view)
    if pod is None or pod["metadata"]["uid"] in view.ended or _is_another_given(attachment, devices, view):
        return True
    since_s = view.unlisted.get(attachment.uid)
    return since_s is not None and view.now.boot_s - since_s >= LOST_AFTER_S


def _is_another_given(attachment: Attachment, devices: Collection[str], view: ClusterView) -> bool:
    """Tell whether the kubelet has given a device to another pod: it knows first, and starts that pod at once."""
    named, resource = attachment.status.placeholder, attachment.spec.resource
    if named is None or isinstance(view.given, Trouble):
        return False
    own = attachment.namespace, named.name
    others = (pod for pod in view.given if (pod.namespace, pod.name) != own)
    return any(one.resource == resource and one.name in devices for pod in others for one in pod.devices)


def _devices(attachment: Attachment, view: ClusterView) -> tuple[str, ...]:
    pod, resource = placeholder_of(attachment, view), attachment.spec.resource
    if pod is None or isinstance(view.given, Trouble):
        return ()
    return reserved(view.given, attachment.namespace, pod["metadata"]["name"], resource, view.slices)


def _renewed_s(attachment: Attachment, view: ClusterView) -> float:
    """Say when the lease was last renewed; one that never was begins when the device is first attached."""
    if attachment.spec.renew_time_s is not None:
        return attachment.spec.renew_time_s
    return view.attached.get(attachment.uid, view.now.wall_s)
