"""From what the API server and the kubelet say to what is wanted of the node, and back into the status."""

from dataclasses import replace
from typing import Any, Final

import pytest

from attach.api import Attachment, Type, parse_attachment
from attach.cluster import LOST_AFTER_S, ClusterView, is_here, orphans, unlisted, wanted
from attach.entry import Entry, Now, Policy, Trouble, Wish
from attach.live import pod_facts
from attach.model import Target
from attach.reasons import Over, Reason
from attach.reconcile import Status
from attach.report import is_over, report
from attach.reservation import Device, PodDevices
from attach.transitions import State

NOW: Final = Now(1_800_000_000.0, 5_000.0)
CONTAINER: Final = "c" * 64
HOLDER: Final = "podsla-gpu-0123456789"
Fields = dict[str, Any]


def attachment(spec: Fields | None = None, status: Fields | None = None, **metadata: Any) -> Attachment:
    """Make one of node-1 whose placeholder is known, as it stands in the API server."""
    meta = {"name": "eval", "namespace": "team-a", "uid": "a-1", "resourceVersion": "7", "generation": 3, **metadata}
    known = {"node": "node-1", "podUID": "p-1", "container": "main", "placeholder": {"name": HOLDER, "uid": "h-1"}}
    kind = {"apiVersion": "podsla.io/v1beta1", "kind": "GPUAttachment"}
    return parse_attachment(
        {**kind, "metadata": meta, "spec": {"podName": "eval-x", **(spec or {})}, "status": {**known, **(status or {})}}
    )


def pod(name: str, uid: str, phase: str = "Running", container_id: str = CONTAINER, **metadata: Any) -> Fields:
    """Make a pod with one container."""
    running = {"name": "main", "containerID": f"containerd://{container_id}", "state": {"running": {}}}
    return {
        "metadata": {"name": name, "namespace": "team-a", "uid": uid, **metadata},
        "spec": {"restartPolicy": "Never"},
        "status": {"phase": phase, "containerStatuses": [running]},
    }


TARGET: Final = pod("eval-x", "p-1")
OURS: Final = {"podsla.io/placeholder": "a-1"}
PLACEHOLDER: Final = pod(HOLDER, "h-1", labels=OURS)
OTHERS: Final = PodDevices("team-b", "x", (Device("nvidia.com/gpu", "GPU-1"),))
GIVEN: Final = (PodDevices("team-a", HOLDER, (Device("nvidia.com/gpu", "GPU-1"),)),)


def view(*pods: Fields, of: Attachment | None = None, given: Any = GIVEN, **other: Any) -> ClusterView:
    """See one attachment, by default with its target and its placeholder, and what the kubelet lists."""
    found = {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in pods or (TARGET, PLACEHOLDER)}
    return ClusterView(NOW, (of or attachment(),), found, given, **other)


WISH: Final = Wish(
    uid="a-1",
    target=Target("team-a", "eval-x", "p-1", CONTAINER),
    devices=("GPU-1",),
    renew_time_s=NOW.wall_s,
    lease_s=900,
    grace_s=30,
    policy=Policy.WAIT,
    release=None,
    reservation_lost=False,
    force=False,
)


def entry(state: State = State.ATTACHED, reason: Reason = "Attached", **changes: Any) -> Entry:
    """Make what the journal keeps of the attachment."""
    made = Entry(
        wish=WISH, gpus=(), container=None, made=(), granted=(), residents=frozenset(), state=state, reason=reason,
        message="a sentence", since_s=NOW.wall_s - 60, until_s=0.0, lease_until_s=0.0, failed=False, signalled=0,
        clean_checks=0,
    )  # fmt: skip
    return replace(made, **changes)


def held_wish(seen: ClusterView) -> Wish:
    """Say what is wanted of what the journal holds."""
    return wanted(seen, {"a-1": entry()}).desired.wishes["a-1"]


def test_an_attachment_begins_once_its_devices_are_reserved() -> None:
    """All that it says is in the wish; a lease that nobody renewed begins now."""
    assert wanted(view(), {}).desired.wishes == {"a-1": WISH}


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(view(given=()), id="the kubelet has not given the device"),
        pytest.param(view(given=Trouble("KubeletSilent", "")), id="the kubelet is silent"),
        pytest.param(view(of=attachment({"count": 2})), id="not all devices are given"),
        pytest.param(view(TARGET), id="the API server does not know the placeholder"),
        pytest.param(view(TARGET, pod(HOLDER, "h-2", labels=OURS)), id="another pod has the placeholder's name"),
        pytest.param(view(TARGET, pod(HOLDER, "h-1")), id="the pod does not say that it is the placeholder"),
        pytest.param(view(of=attachment(status={"placeholder": None})), id="there is no placeholder yet"),
        pytest.param(
            view(TARGET, pod(HOLDER, "h-1", labels={"podsla.io/placeholder": "warm"})),
            id="it was kept ready, and is not the attachment's yet",
        ),
        pytest.param(
            view({**TARGET, "status": {"phase": "Pending"}}, PLACEHOLDER), id="the container does not run yet"
        ),
    ],
)
def test_it_does_not_begin_before(seen: ClusterView) -> None:
    """And it is not over either: it waits."""
    found = wanted(seen, {})

    assert (found.desired.wishes, found.over, found.desired.complete) == ({}, {}, True)


ENDS: Final = [
    pytest.param((TARGET, PLACEHOLDER), attachment({"release": True}), "ReleaseRequested", id="released"),
    pytest.param(
        (TARGET, PLACEHOLDER), attachment(deletionTimestamp="2027-01-01T00:00:00Z"), "ReleaseRequested", id="deleted"
    ),
    pytest.param((PLACEHOLDER,), attachment(), "TargetGone", id="the pod is gone"),
    pytest.param((pod("eval-x", "p-2"), PLACEHOLDER), attachment(), "TargetGone", id="the pod is another one"),
    pytest.param((pod("eval-x", "p-1", "Succeeded"), PLACEHOLDER), attachment(), "TargetGone", id="the pod has ended"),
    pytest.param(
        (TARGET, pod(HOLDER, "h-1", labels=OURS, deletionTimestamp="2027-01-01T00:00:00Z")),
        attachment(),
        "PlaceholderDeleted",
        id="somebody deleted the placeholder",
    ),
]


def exited(code: int, policy: str, group: str = "containers", own: str | None = None) -> Fields:
    """See the target's container after its exit, in a pod and with a container of these restart policies."""
    kind = {"containers": "container", "initContainers": "initContainer", "ephemeralContainers": "ephemeralContainer"}
    ended = {"name": "main", "containerID": "", "state": {"terminated": {"exitCode": code}}}
    spec = {"restartPolicy": policy, group: [{"name": "main", "restartPolicy": own}]}
    return {**TARGET, "spec": spec, "status": {"phase": "Running", f"{kind[group]}Statuses": [ended]}}


@pytest.mark.parametrize(
    ("target", "ends"),
    [
        pytest.param(exited(0, "Never"), True, id="never"),
        pytest.param(exited(1, "Never"), True, id="never, after a failure"),
        pytest.param(exited(0, "OnFailure"), True, id="on failure, and it did not fail"),
        pytest.param(exited(1, "OnFailure"), False, id="on failure"),
        pytest.param(exited(0, "Always"), False, id="always"),
        pytest.param(exited(1, "Always", own="Never"), True, id="the container's own word counts"),
        pytest.param(exited(1, "Never", own="OnFailure"), False, id="the container's own word counts, on failure"),
        pytest.param(exited(0, "Always", "initContainers"), True, id="an init container that is done"),
        pytest.param(exited(1, "Always", "initContainers"), False, id="an init container that failed"),
        pytest.param(exited(1, "Never", "initContainers"), True, id="an init container that failed for good"),
        pytest.param(exited(0, "Never", "initContainers", "Always"), False, id="a sidecar"),
        pytest.param(exited(1, "Always", "ephemeralContainers"), True, id="an ephemeral container"),
    ],
)
def test_a_container_has_ended_where_the_kubelet_does_not_start_it_again(target: Fields, ends: bool) -> None:
    assert (held_wish(view(target, PLACEHOLDER)).release is not None) is ends
    kept = dict(pod_facts(target))
    assert (held_wish(view(kept, PLACEHOLDER)).release is not None) is ends


@pytest.mark.parametrize(("pods", "of", "reason"), ENDS)
def test_what_ends_it(pods: tuple[Fields, ...], of: Attachment, reason: str) -> None:
    """Held, the device is taken back in peace; not begun, it never begins."""
    seen = view(*pods, of=of)

    over = wanted(seen, {}).over["a-1"]
    assert over[0] == reason
    assert (held_wish(seen).release, held_wish(seen).reservation_lost) == (over, False)


@pytest.mark.parametrize(
    ("seen", "lost"),
    [
        pytest.param(view(), False, id="all is well"),
        pytest.param(view(TARGET), True, id="the API server has lost the placeholder"),
        pytest.param(view(TARGET, pod(HOLDER, "h-2", labels=OURS)), True, id="another pod has its name"),
        pytest.param(view(TARGET, pod(HOLDER, "h-1", "Failed", labels=OURS)), True, id="it was evicted"),
        pytest.param(
            view(given=(), unlisted={"a-1": NOW.boot_s - LOST_AFTER_S + 1}),
            False,
            id="the kubelet has not listed it lately",
        ),
        pytest.param(view(given=()), False, id="a kubelet that has just started lists nothing"),
        pytest.param(
            view(given=(), unlisted={"a-1": NOW.boot_s - LOST_AFTER_S}),
            True,
            id="the kubelet does not list it for long",
        ),
        pytest.param(view(given=Trouble("KubeletSilent", "")), False, id="a silent kubelet is no answer"),
        pytest.param(view(given=(OTHERS,)), True, id="the kubelet has given it to another pod"),
        pytest.param(view(ended=("h-1",)), True, id="its process has ended, and the API server has not heard of it"),
        pytest.param(view(ended=("h-0",)), False, id="the process of an earlier one has ended"),
        pytest.param(
            view(
                given=(*GIVEN, PodDevices("team-b", "x", (Device("nvidia.com/gpu", "GPU-2"), Device("x/nic", "GPU-1"))))
            ),
            False,
            id="another pod has another device",
        ),
    ],
)
def test_what_loses_the_reservation(seen: ClusterView, lost: bool) -> None:
    """Then access is taken back at once."""
    assert held_wish(seen).reservation_lost is lost


@pytest.mark.parametrize(
    ("pods", "state", "wishes"),
    [
        pytest.param(
            (TARGET,), State.ATTACHED, {"a-1": replace(WISH, reservation_lost=True)}, id="nothing reserves it"
        ),
        pytest.param(
            (TARGET, pod(HOLDER, "h-1", "Failed", labels=OURS)),
            State.OVERDUE,
            {"a-1": replace(WISH, reservation_lost=True)},
            id="what reserved it has ended",
        ),
        pytest.param((TARGET, PLACEHOLDER), State.ATTACHED, {}, id="it is still reserved: there is a grace period"),
        pytest.param((TARGET,), State.RELEASED, {}, id="it is not held any more"),
    ],
)
def test_what_the_api_server_has_forgotten(pods: tuple[Fields, ...], state: State, wishes: dict[str, Wish]) -> None:
    """An etcd that was restored from an older snapshot knows no attachment, and the kubelet gives its device away."""
    seen = replace(view(*pods), attachments=())

    assert wanted(seen, {"a-1": entry(state)}).desired.wishes == wishes


@pytest.mark.parametrize("pods", [(TARGET,), (TARGET, pod(HOLDER, "h-1", "Succeeded", labels=OURS))])
def test_what_the_api_server_takes_for_attached_and_the_journal_does_not_is_over(pods: tuple[Fields, ...]) -> None:
    """An etcd that was restored from a snapshot that is older than the end; its conditions say so no more."""
    true = [{"type": kind, "status": "True", "reason": "Attached", "message": ""} for kind in ("Attached", "Reserved")]
    told = attachment(status={"attachedAt": "2027-01-15T07:59:00Z", "conditions": true})

    over = wanted(view(*pods, of=told), {}).over["a-1"]

    assert over[0] == "ReservationLost"
    assert wanted(view(of=told), {}).desired.wishes.keys() == {"a-1"}, "what still reserves it attaches it again"
    assert conditions(written(None, over=over, ended=True, of=told)) == {
        "Released": ("True", "ReservationLost"),
        "Attached": ("False", "ReservationLost"),
        "Reserved": ("False", "ReservationLost"),
    }


def test_the_kubelet_is_believed_only_after_a_while() -> None:
    """Counted from when it first left the device out, and from anew once it listed it again."""
    entries = {"a-1": entry()}
    first = unlisted(view(given=()), entries)

    assert first == {"a-1": NOW.boot_s}
    assert unlisted(replace(view(given=()), now=Now(0, NOW.boot_s + 5), unlisted=first), entries) == first
    assert unlisted(replace(view(), unlisted=first), entries) == {}
    assert unlisted(view(given=(replace(GIVEN[0], devices=(Device("nvidia.com/gpu", "GPU-2"),)),)), entries) == first
    assert unlisted(view(given=()), {"a-1": entry(State.RELEASED)}) == {}


def test_a_lease_is_counted_from_the_renewal_else_from_the_attachment() -> None:
    """Whatever the clock says by now."""
    renewed = attachment({"renewTime": "2027-01-15T08:00:00.250Z"})

    assert held_wish(view(attached={"a-1": 17.0})).renew_time_s == 17.0
    assert held_wish(view(of=renewed, attached={"a-1": 17.0})).renew_time_s == 1_800_000_000.25


def test_a_container_that_was_started_again_is_followed() -> None:
    """One that is about to be keeps its place."""
    again = pod("eval-x", "p-1", container_id="e" * 64)
    waiting = {**TARGET, "spec": {}, "status": {"containerStatuses": [{"name": "main", "state": {"terminated": {}}}]}}

    assert held_wish(view(again, PLACEHOLDER)).target.container_id == "e" * 64
    assert held_wish(view(waiting, PLACEHOLDER)) == WISH


def test_what_concerns_another_node_or_has_ended_is_not_ours() -> None:
    """A condition alone says the end."""
    ended = attachment(status={"conditions": [{"type": "Released", "status": "True"}]})

    assert is_here(attachment(), "node-1")
    assert not is_here(attachment(), "node-2")
    assert not is_here(attachment(status={"podUID": ""}), "node-1")
    assert not is_here(ended, "node-1")


def test_a_placeholder_that_nobody_else_ends() -> None:
    """Being deleted, and neither its attachment nor a device is left."""
    left = pod(HOLDER, "h-1", deletionTimestamp="2027-01-01T00:00:00Z", labels={"podsla.io/placeholder": "a-0"})
    seen = view(TARGET, left)

    assert orphans(seen, {}) == (left,)
    assert orphans(seen, {"a-0": entry()}) == ()
    assert orphans(seen, {"a-0": entry(State.RELEASED)}) == (left,)
    assert orphans(view(TARGET, pod(HOLDER, "h-1", labels={"podsla.io/placeholder": "a-0"})), {}) == ()
    warm = pod(HOLDER, "h-1", deletionTimestamp="2027-01-01T00:00:00Z", labels={"podsla.io/placeholder": "warm"})
    assert orphans(view(TARGET, warm), {"a-1": entry()}) == (warm,), "what was kept ready and is given back"


def written(status: Status | None, *, over: Any = None, ended: bool = False, of: Attachment | None = None) -> Fields:
    """Report, and merge as the API server would; what was attached was so for a minute."""
    told = report(of or attachment(), status, over, NOW.wall_s - 60, NOW, placeholder_ended=ended)
    return told or {}


def conditions(fields: Fields) -> dict[str, tuple[str, str]]:
    """Conditions by type: value and reason."""
    return {each["type"]: (each["status"], each["reason"]) for each in fields.get("conditions", ())}


def status(state: State, reason: Reason = "ReleaseRequested") -> Status:
    """How an attachment stands after a pass."""
    return Status("a-1", entry(state, reason), reason, "a sentence")


def test_what_is_told_of_an_attached_device() -> None:
    """Which, since when, and until when."""
    told = written(status(State.ATTACHED))

    assert told["devices"] == [{"uuid": "GPU-1"}]
    assert (told["attachedAt"], told["leaseExpiresAt"]) == ("2027-01-15T07:59:00Z", "2027-01-15T08:15:00Z")
    assert told["heldSeconds"] == 60
    assert conditions(told) == {"Attached": ("True", "ReleaseRequested"), "Reserved": ("True", "Reserved")}


def test_nothing_is_told_twice() -> None:
    """And conditions of others are left as they are."""
    foreign = {"type": "Other", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "t"}
    before = attachment(status={"conditions": [foreign]})
    told = written(status(State.ATTACHED), of=before)
    after = attachment(status={**told, "conditions": told["conditions"]})

    assert foreign in told["conditions"]
    assert report(after, status(State.ATTACHED), None, NOW.wall_s - 60, NOW, placeholder_ended=False) is None


@pytest.mark.parametrize(
    ("state", "true"),
    [
        (State.ATTACHING, {"Reserved"}),
        (State.ATTACHED, {"Reserved", "Attached"}),
        (State.DRAINING, {"Reserved", "Draining"}),
        (State.REVOKING, {"Reserved", "Draining"}),
        (State.VERIFYING, {"Reserved", "Draining"}),
        (State.OVERDUE, {"Reserved", "Overdue"}),
        (State.QUARANTINED, {"Reserved", "Quarantined"}),
        (State.RELEASED, {"Reserved"}),
        (State.FAILED, {"Reserved"}),
    ],
)
def test_every_state_has_its_condition(state: State, true: set[str]) -> None:
    """An end is told once the placeholder has ended, and not before."""
    assert {kind for kind, (value, _) in conditions(written(status(state))).items() if value == "True"} == true


@pytest.mark.parametrize(("state", "kind"), [(State.RELEASED, Type.RELEASED), (State.FAILED, Type.FAILED)])
def test_an_end_is_told_once_the_placeholder_has_ended(state: State, kind: Type) -> None:
    """Nothing is reserved then."""
    told = conditions(written(status(state), ended=True))

    assert told[kind] == ("True", "ReleaseRequested")
    assert told["Reserved"] == ("False", kind.value)


@pytest.mark.parametrize(
    ("status", "over", "is_end"),
    [
        pytest.param(None, None, False, id="it waits"),
        pytest.param(None, ("TargetGone", ""), True, id="it never begins"),
        pytest.param(Status("a-1", None, "DeviceBusy", ""), None, False, id="the node may take it later"),
        pytest.param(Status("a-1", None, "UnknownDevice", ""), None, True, id="the node refuses it"),
        pytest.param(status(State.ATTACHED), None, False, id="attached"),
        pytest.param(status(State.QUARANTINED), None, False, id="a quarantine holds the device"),
        pytest.param(status(State.RELEASED), None, True, id="released"),
    ],
)
def test_when_the_placeholder_may_end(status: Status | None, over: Over | None, is_end: bool) -> None:
    assert is_over(status, over) is is_end


def test_what_never_begins_is_told_as_released_and_what_is_refused_as_failed() -> None:
    """With the reason; and one that the node may take later says what it waits for."""
    refused, busy = Status("a-1", None, "UnknownDevice", "no such"), Status("a-1", None, "DeviceBusy", "busy")

    assert conditions(written(None, over=("TargetGone", "gone"), ended=True)) == {"Released": ("True", "TargetGone")}
    assert written(None, over=("TargetGone", "gone"), ended=False) == {}
    assert conditions(written(refused, ended=True))["Failed"] == ("True", "UnknownDevice")
    assert "Failed" not in conditions(written(refused, ended=False))
    assert conditions(written(busy, ended=True)) == {
        "Attached": ("False", "DeviceBusy"),
        "Reserved": ("True", "Reserved"),
    }
