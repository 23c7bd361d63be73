"""
What the API server and the kubelet say ↔ what is wanted of this node. Pure.

A device is reserved once the kubelet lists it for the placeholder and the API server says that this pod is the
attachment's. It is lost once either is known to be so no more; a kubelet that was just restarted lists nothing for a
moment, so its silence must last.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from attach.desired import parse_time
from attach.entry import Entry, Now, Policy, Trouble, Wish
from attach.model import Target
from attach.reconcile import Desired
from attach.reservation import PodDevices, reserved
from catalog.keys import FORCE_RELEASE, PLACEHOLDER
from kube.api import Object
from kube.objects import has_condition

LOST_AFTER_S: Final = 10.0  # that a running placeholder is not listed
FINISHED: Final = ("Released", "Failed")
_ENDED: Final = ("Succeeded", "Failed")
STATUSES: Final = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


@dataclass(frozen=True, slots=True)
class ClusterView:
    """
    What was read.

    Attributes:
        pods: Of this node, by namespace and name.
        given: What the kubelet has given to pods, or why that is not known.
        slices: The node's ResourceSlices.
        attached: When attachments were first attached, by UID, in seconds since 1970.
        unlisted: Since when the kubelet has not listed the placeholder of an attachment, by UID and the boot clock.
    """

    node: str
    attachments: tuple[Object, ...]
    pods: Mapping[tuple[str, str], Object]
    given: tuple[PodDevices, ...] | Trouble
    now: Now
    slices: tuple[Object, ...] = ()
    attached: Mapping[str, float] = field(default_factory=dict)
    unlisted: Mapping[str, float] = field(default_factory=dict)
    system_namespaces: Collection[str] = ()

    @property
    def own(self) -> Iterable[Object]:
        """The attachments whose target is known to be on this node, and that have not ended."""
        for each in self.attachments:
            status = each.get("status") or {}
            is_here = status.get("node") == self.node and status.get("podUID") and status.get("container")
            if is_here and not any(has_condition(each, kind) for kind in FINISHED):
                yield each


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What is wanted of this node.

    Attributes:
        over: Why attachments that have not begun never will, by UID: reason and sentence.
    """

    desired: Desired
    over: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def wanted(view: ClusterView, entries: Mapping[str, Entry]) -> Wanted:
    """Say what is wanted; *entries* are the journal's, whose devices and target stay what they are."""
    wishes: dict[str, Wish] = {}
    refused: dict[str, Trouble] = {}
    over: dict[str, tuple[str, str]] = {}
    for each in view.own:
        uid = each["metadata"]["uid"]
        entry = entries.get(uid)
        try:
            if entry is not None:
                wishes[uid] = _held(each, entry, view)
            elif (why := _end(each, view)) is not None:
                over[uid] = why
            elif (wish := _new(each, view)) is not None:
                wishes[uid] = wish
        except (KeyError, TypeError, ValueError) as error:
            refused[uid] = Trouble("InvalidAttachment", f"it can't be read: {error}", refused=True)
    system = frozenset(
        pod["metadata"]["uid"] for (where, _), pod in view.pods.items() if where in view.system_namespaces
    )
    return Wanted(Desired(wishes, refused, complete=True, system_pods=system), over)


def placeholder(attachment: Object, view: ClusterView) -> Object | None:
    """Find the pod that reserves for an attachment, if it still is that very pod."""
    named = attachment["status"].get("placeholder") or {}
    pod = view.pods.get((attachment["metadata"]["namespace"], named.get("name", "")))
    return pod if pod is not None and pod["metadata"]["uid"] == named.get("uid") else None


def unlisted(view: ClusterView, entries: Mapping[str, Entry]) -> dict[str, float]:
    """Note since when placeholders of what is held are not listed; while the kubelet is silent, nothing is noted."""
    if isinstance(view.given, Trouble):
        return {}
    missing = [
        each["metadata"]["uid"]
        for each in view.own
        if (entry := entries.get(each["metadata"]["uid"])) is not None and _devices(each, view) != entry.wish.devices
    ]
    return {uid: view.unlisted.get(uid, view.now.boot_s) for uid in missing}


def orphans(view: ClusterView, entries: Mapping[str, Entry]) -> tuple[Object, ...]:
    """Find placeholders that are being deleted, and whose attachment is over or gone: nobody else lets them end."""
    known = {each["metadata"]["uid"] for each in view.own}
    held = {uid for uid, entry in entries.items() if not entry.is_final}
    return tuple(
        pod
        for pod in view.pods.values()
        if (uid := (pod["metadata"].get("labels") or {}).get(PLACEHOLDER))
        and pod["metadata"].get("deletionTimestamp")
        and uid not in known | held
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
    for each in (one for kind in STATUSES for one in status.get(kind) or ()):
        if not name or each["name"] == name:
            state = each.get("state") or {}
            if "running" in state:
                return str(each.get("containerID", "")).rpartition("://")[2], True
            return "", "terminated" not in state or (pod.get("spec") or {}).get("restartPolicy") != "Never"
    return "", True


def _new(attachment: Object, view: ClusterView) -> Wish | None:
    """Begin once the container runs and every device is reserved; None: not yet."""
    meta, spec, status = attachment["metadata"], attachment["spec"], attachment["status"]
    container_id, _ = container_of(view.pods[meta["namespace"], spec["podName"]], status["container"])
    devices = _devices(attachment, view)
    if not container_id or len(devices) != spec.get("count", 1):
        return None
    return Wish(
        uid=meta["uid"],
        target=Target(meta["namespace"], spec["podName"], status["podUID"], container_id),
        devices=devices,
        renew_time_s=_renewed(attachment, view),
        lease_s=spec.get("leaseSeconds", 900),
        grace_s=spec.get("gracePeriodSeconds", 30),
        policy=Policy(spec.get("detachPolicy", Policy.WAIT)),
        release=False,
        reservation_lost=False,
        force=_force(attachment),
    )


def _held(attachment: Object, entry: Entry, view: ClusterView) -> Wish:
    """Take over what may change of what the journal knows."""
    pod, wish = _target(attachment, view), entry.wish
    container_id, _ = container_of(pod, attachment["status"]["container"]) if pod else ("", False)
    return replace(
        wish,
        target=replace(wish.target, container_id=container_id or wish.target.container_id),
        renew_time_s=_renewed(attachment, view),
        release=_end(attachment, view) is not None,
        reservation_lost=_is_lost(attachment, view),
        force=_force(attachment),
    )


def _target(attachment: Object, view: ClusterView) -> Object | None:
    pod = view.pods.get((attachment["metadata"]["namespace"], attachment["spec"]["podName"]))
    return pod if pod is not None and pod["metadata"]["uid"] == attachment["status"].get("podUID") else None


def _end(attachment: Object, view: ClusterView) -> tuple[str, str] | None:
    """Say why the device is to be taken back, as far as the API server knows."""
    meta, spec = attachment["metadata"], attachment["spec"]
    if spec.get("release") or meta.get("deletionTimestamp"):
        return "ReleaseRequested", "its release was asked for"
    pod = _target(attachment, view)
    if pod is None:
        return "TargetGone", f"pod {spec['podName']} with UID {attachment['status'].get('podUID')} is gone"
    if not container_of(pod, attachment["status"]["container"])[1]:
        return "TargetGone", f"container {attachment['status']['container']} of pod {spec['podName']} has ended"
    reserving = placeholder(attachment, view)
    if reserving is not None and reserving["metadata"].get("deletionTimestamp"):
        return "PlaceholderDeleted", f"pod {reserving['metadata']['name']}, which reserves the device, was deleted"
    return None


def _is_lost(attachment: Object, view: ClusterView) -> bool:
    pod = placeholder(attachment, view)
    if pod is None or (pod.get("status") or {}).get("phase") in _ENDED:
        return True
    since_s = view.unlisted.get(attachment["metadata"]["uid"])
    return since_s is not None and view.now.boot_s - since_s >= LOST_AFTER_S


def _devices(attachment: Object, view: ClusterView) -> tuple[str, ...]:
    pod = placeholder(attachment, view)
    if pod is None or isinstance(view.given, Trouble):
        return ()
    meta = pod["metadata"]
    resource = attachment["spec"].get("resource", "nvidia.com/gpu")
    return reserved(view.given, meta["namespace"], meta["name"], resource, view.slices)


def _renewed(attachment: Object, view: ClusterView) -> float:
    """Say when the lease was last renewed; one that never was begins when the device is first attached."""
    said: Any = attachment["spec"].get("renewTime")
    if said:
        return parse_time(said).timestamp()
    attached_s = view.attached.get(attachment["metadata"]["uid"])
    return attached_s if attached_s is not None else view.now.wall_s


def _force(attachment: Object) -> bool:
    return bool((attachment["metadata"].get("annotations") or {}).get(FORCE_RELEASE) == "true")
