"""
What the controller does next for an attachment. Pure: it is told all that was seen, and names one write.

The finalizer goes on before anything else; the placeholder's name stands in the status before the placeholder is made,
and its UID there is what lets the agent count on it. From when a placeholder is bound to its node on, the agent has the
word; the controller ends only what never got there.

A warm placeholder stands already, and becomes the attachment's by one write on it: its name in the status comes before
that write, and its UID after.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from attach.api import Attachment, Condition, Type, placeholder_name
from attach.budget import Budget
from attach.placeholder import Pod, is_own, mutation
from attach.reasons import Reason
from catalog.problems import nearest

LOST_AFTER_S: Final = 15.0  # so long an agent may take to say what became of it
LOOK_AGAIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Node:
    """
    The node of a target.

    Attributes:
        capacity: Of the resource that is asked; None: the scheduler alone can say, for drivers have it, or nobody yet.
        model: What its label says that its GPUs are; "" where it says nothing.
        spellings: What that label says of the models asked for; none: every model will do.
    """

    name: str
    capacity: int | None
    model: str
    spellings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What there is besides the attachment.

    Attributes:
        target: The pod that has the name now.
        node: The target's node; None: the target has none yet, or it is gone.
        placeholder: The pod that has the placeholder's name.
        refused: Why the API server would not have the placeholder; "" where it was not asked.
        over_quota: Whether that may pass.
        warm: A warm placeholder that it may have; None: there is none for it.
        next: Whether it may reserve now.
        position: Its place among those that wait, from 1.
        missing_s: For how long the placeholder has been missing.
        withdrawn: It was deleted a moment ago, as it was seen: bound to no node.
        budget: GPU-minutes of its namespace; None: it may hold what it likes.
        noted: All that it has held stands in the ledger.
        now_s: Since 1970.
    """

    target: Pod | None
    node: Node | None
    placeholder: Pod | None
    next: bool
    position: int
    now_s: float
    warm: Pod | None = None
    refused: str = ""
    over_quota: bool = False
    missing_s: float = 0.0
    withdrawn: bool = False
    budget: Budget | None = None
    noted: bool = True

    @property
    def spent(self) -> Budget | None:
        """The budget of its namespace, where it is used up."""
        return self.budget if self.budget is not None and self.budget.spent else None


@dataclass(frozen=True, slots=True)
class Claim:
    """Put the finalizer on; and the target as owner, where it is found."""

    owner: Pod | None


@dataclass(frozen=True, slots=True)
class Report:
    """Write fields of the status, and conditions."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Reserve:
    """Create the placeholder."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """Make a warm placeholder the attachment's, if it is still as it was seen."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Delete the placeholder, if it is still as it was seen."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Ask for its release in the client's place."""

    message: str


@dataclass(frozen=True, slots=True)
class Unclaim:
    """Take the finalizer off: nothing is held."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete the attachment, which ended long enough ago."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing is to be done before something changes, or that many seconds have passed."""

    for_s: float | None = None


Action = Claim | Report | Reserve | HandOver | Withdraw | TakeBack | Unclaim | Remove | Idle


def decide(attachment: Attachment, seen: Seen) -> Action:
    """Name the next write; `Idle` once there is none."""
    if attachment.is_finished:
        return _after_the_end(attachment, seen)
    if not attachment.finalized:
        return Idle() if attachment.deleting else Claim(seen.target)
    if attachment.with_agent and seen.node is not None:
        return _with_agent(attachment, seen)
    own = seen.placeholder is not None and is_own(seen.placeholder, attachment)
    if attachment.status.placeholder is None and not own:
        seen = replace(seen, placeholder=None)  # whoever has the name that it would have, it is not ours to take away
    if attachment.awaits_warm and seen.placeholder is not None and not own:
        return _hand_over(attachment, replace(seen, placeholder=None), seen.placeholder)
    if attachment.status.placeholder is not None and seen.placeholder is not None and not own:
        message = f"pod {seen.placeholder.name} has the name of the placeholder and is none; delete it and ask again"
        return _end(Type.FAILED, "PlaceholderForged", message)
    over = _over(attachment, seen)
    if over is not None:
        return _wind_up(attachment, seen, over)
    fields = _settle(attachment, seen)
    if fields:
        return Report({**fields, **_choose(attachment, seen)})
    if seen.node is None:
        return _wait(attachment, "TargetNotRunning", f"pod {attachment.spec.pod_name} is on no node yet", 0)
    return _reserve(attachment, seen)


def _hand_over(attachment: Attachment, seen: Seen, pod: Pod) -> Action:
    """Take the warm placeholder that was chosen, unless nothing is wanted any more, or another has it by now."""
    over = _over(attachment, seen)
    if over is not None:
        return _wind_up(attachment, seen, over)
    return HandOver(pod) if pod.is_free and seen.spent is None else Report({"placeholder": None})


def _with_agent(attachment: Attachment, seen: Seen) -> Action:
    if attachment.status.queue_position:
        return Report({"queuePosition": 0})
    if seen.spent is None or attachment.spec.release or attachment.deleting:
        return Idle()
    return TakeBack(f"it is taken back: {seen.spent}")


def _after_the_end(attachment: Attachment, seen: Seen) -> Action:
    if attachment.status.queue_position:  # its agent was faster than our word that it waits no more
        return Report({"queuePosition": 0})
    pod = seen.placeholder
    if pod is not None and is_own(pod, attachment):
        return Idle(LOOK_AGAIN_S) if pod.deleting else Withdraw(pod)
    if attachment.finalized:
        return Unclaim() if seen.noted else Idle(LOOK_AGAIN_S)
    left_s = (attachment.finished_s or 0.0) + attachment.spec.ttl_s - seen.now_s
    if attachment.deleting:
        return Idle()
    return Remove() if left_s <= 0 else Idle(left_s)


def _over(attachment: Attachment, seen: Seen) -> Condition | None:
    """Say why nothing is to be reserved any more, as the condition that it ends with; None: it is still wanted."""
    name, target, spec = attachment.spec.pod_name, seen.target, attachment.spec
    wanted = attachment.status.pod_uid or spec.pod_uid
    if attachment.deleting or spec.release:
        return Condition(Type.RELEASED, True, "Released", "it was given back before a GPU was reserved for it")
    if target is None:
        reason: Reason = "TargetGone" if attachment.status.pod_uid else "TargetNotFound"
        return Condition(Type.FAILED, True, reason, f"there is no pod {name} in namespace {attachment.namespace}")
    if wanted and target.uid != wanted:
        message = f"pod {name} is {target.uid} now, and was to be {wanted}; a pod that is created anew is another pod"
        return Condition(Type.FAILED, True, "TargetReplaced", message)
    if target.attachment:
        return Condition(Type.FAILED, True, "TargetIsPlaceholder", f"pod {name} reserves GPUs for others; name another")
    if target.ended:
        return Condition(Type.FAILED, True, "TargetFinished", f"pod {name} has ended: its phase is {target.phase}")
    if target.deleting:
        return Condition(Type.FAILED, True, "TargetTerminating", f"pod {name} is being deleted")
    if spec.renew_time_s is not None and spec.renew_time_s + spec.lease_s < seen.now_s:
        late_s = seen.now_s - spec.renew_time_s
        message = f"its lease of {spec.lease_s} s was renewed {late_s:.0f} s ago, before a GPU was reserved for it"
        return Condition(Type.FAILED, True, "LeaseExpired", message)
    return _never(attachment, target, seen.node) if attachment.status.placeholder is None else None


def _never(attachment: Attachment, target: Pod, node: Node | None) -> Condition | None:
    """Say why it can never be had, whoever gives back a GPU."""
    spec = attachment.spec
    known = (*target.containers, *target.init_containers)
    if spec.container and spec.container not in known:
        message = f"pod {spec.pod_name} has no container {spec.container}; {nearest(spec.container, known)}"
        return Condition(Type.FAILED, True, "NoSuchContainer", message)
    if node is None:
        return None
    if node.capacity is not None and node.capacity < spec.count:
        message = f"node {node.name} has {node.capacity} {spec.resource}, and {spec.count} are asked"
        return Condition(Type.FAILED, True, "NoGPU", f"{message}; run the pod on a node with more, or ask for fewer")
    if spec.models and node.model not in node.spellings:
        message = f"node {node.name} has {node.model or 'GPUs of no known model'}; asked is {', '.join(spec.models)}"
        return Condition(Type.FAILED, True, "NoSuchModel", f"{message}; give the pod a class of these models")
    return None


def _wind_up(attachment: Attachment, seen: Seen, over: Condition) -> Action:
    """Take the placeholder away where it has not reached its node; then, and only then, say the end."""
    pod, uid = seen.placeholder, attachment.status.placeholder.uid if attachment.status.placeholder else ""
    on_node = seen.node is not None
    if pod is not None and uid and pod.node and not pod.ended and on_node:
        return Idle(LOOK_AGAIN_S)  # the agent has the word
    if pod is not None:
        return Idle(LOOK_AGAIN_S) if pod.deleting else Withdraw(pod)
    if on_node and uid and not seen.withdrawn and seen.missing_s < LOST_AFTER_S:
        return Idle(LOOK_AGAIN_S)
    return Report({"queuePosition": 0}, (over,))


def _settle(attachment: Attachment, seen: Seen) -> dict[str, Any]:
    """Write down once what it is for: the pod, the container, the node."""
    target = seen.target
    assert target is not None  # noqa: S101 - what is not there is over
    status, spec = attachment.status, attachment.spec
    fields: dict[str, Any] = {}
    if not status.pod_uid:
        usual = target.default_container if target.default_container in target.containers else target.containers[0]
        fields |= {"podUID": target.uid, "container": spec.container or usual}
    if not status.node and target.node:
        fields["node"] = target.node
    return fields


def _choose(attachment: Attachment, seen: Seen) -> dict[str, Any]:
    """Name the placeholder that it is to have, where it is to have one now: before anything is done for it."""
    is_due = attachment.status.placeholder is None and seen.node is not None and seen.spent is None
    if is_due and seen.warm is not None:
        return {"placeholder": {"name": seen.warm.name}}
    return {"placeholder": {"name": placeholder_name(attachment.uid)}} if is_due and seen.next else {}


def _reserve(attachment: Attachment, seen: Seen) -> Action:
    pod, intent = seen.placeholder, attachment.status.placeholder
    if seen.spent is not None and (intent is None or (not pod.node if pod else not intent.uid)):
        return _spent(attachment, seen, seen.spent)
    if seen.withdrawn and pod is None and intent is not None:
        return Report({"placeholder": None})
    if intent is None:
        chosen = _choose(attachment, seen)
        return Report(chosen) if chosen else _queued(attachment, seen)
    if pod is None and attachment.awaits_warm:
        return Report({"placeholder": None})
    if pod is None and not intent.uid:
        return _refused(attachment, seen) if seen.refused else Reserve()
    if pod is None or (intent.uid and pod.uid != intent.uid):
        if seen.missing_s < LOST_AFTER_S:
            return Idle(LOOK_AGAIN_S)  # the agent takes access away first
        message = f"pod {intent.name} is gone before its node had it: deleted, evicted or preempted; ask again"
        return _end(Type.FAILED, "PlaceholderLost", message)
    if not intent.uid:
        changed = mutation(pod, attachment.spec.resource, attachment.spec.count)
        if changed:
            message = f"pod {pod.name}: {changed}; another webhook changed it, which must leave it alone"
            return _end(Type.FAILED, "PlaceholderMutated", message)
        return Report({"placeholder": {"name": pod.name, "uid": pod.uid}})
    return _reserved(attachment, pod)


def _spent(attachment: Attachment, seen: Seen, budget: Budget) -> Action:
    """Let it wait for the next day, and reserve nothing meanwhile."""
    if seen.placeholder is not None and attachment.status.placeholder is not None:
        return Idle(LOOK_AGAIN_S) if seen.placeholder.deleting else Withdraw(seen.placeholder)
    if attachment.status.placeholder is not None:
        return Report({"placeholder": None})
    return _wait(attachment, "BudgetSpent", f"in namespace {attachment.namespace} {budget}", 0)


def _reserved(attachment: Attachment, pod: Pod) -> Action:
    if pod.ended:
        message = f"pod {pod.name} ended as {pod.phase} before a GPU was attached: {pod.why or 'nothing says why'}"
        return _end(Type.FAILED, "PlaceholderFailed", message)
    if pod.node:
        return _wait(attachment, "Scheduled", f"pod {pod.name} reserves it; the agent of {pod.node} is to attach it", 0)
    message = f"it is next, and no {attachment.spec.resource} is free on {attachment.status.node}"
    return _wait(attachment, "Queued", f"{message}: {pod.why}" if pod.why else message, 1)


def _queued(attachment: Attachment, seen: Seen) -> Action:
    condition = attachment.status.condition(Type.RESERVED)
    if condition.get("reason") == "QuotaExceeded":  # what the API server said stays until it is asked again
        return _position(attachment, seen.position)
    message = f"waits for {attachment.spec.count} {attachment.spec.resource} on {attachment.status.node}"
    return _wait(attachment, "Queued", f"{message}; others that wait there come first", seen.position)


def _refused(attachment: Attachment, seen: Seen) -> Action:
    if not seen.over_quota:
        return _end(Type.FAILED, "PlaceholderRefused", f"the API server refuses its placeholder: {seen.refused}")
    waiting = Condition(Type.RESERVED, False, "QuotaExceeded", f"{seen.refused}; it is asked for again")
    return Report({"placeholder": None, "queuePosition": max(1, seen.position)}, (waiting,))


def _position(attachment: Attachment, position: int) -> Action:
    if attachment.status.queue_position == position:
        return Idle(LOOK_AGAIN_S)
    return Report({"queuePosition": position})


def _wait(attachment: Attachment, reason: Reason, message: str, position: int) -> Action:
    old = attachment.status.condition(Type.RESERVED)
    if old.get("reason") == reason and old.get("message") == message and attachment.status.queue_position == position:
        return Idle(LOOK_AGAIN_S)
    return Report({"queuePosition": position}, (Condition(Type.RESERVED, False, reason, message),))


def _end(kind: Type, reason: Reason, message: str) -> Report:
    return Report({"queuePosition": 0}, (Condition(kind, True, reason, message),))


def waits(attachment: Attachment) -> bool:
    """Tell whether an attachment waits for its turn."""
    over = attachment.is_finished or attachment.deleting or attachment.spec.release
    return not over and attachment.finalized and attachment.status.placeholder is None


def is_pending(attachment: Attachment, pod: Pod | None) -> bool:
    """Tell whether a placeholder is on its way to the node: nobody else of its lane may overtake it."""
    if attachment.is_finished or attachment.status.placeholder is None:
        return False
    return not attachment.with_agent and not (pod is not None and pod.node)
