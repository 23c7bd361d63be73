"""EDGE: reserves GPUs for attachments by placeholder pods, and puts away what has ended."""

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from attach.api import Attachment, Condition, Type, merge_conditions, parse_attachment, parse_time
from attach.placeholder import Pod, is_own, owner_of, placeholder, read_pod
from attach.queue import Lane, Waiting, next_of, order, waited_s
from attach.reserve import (
    Action,
    Claim,
    HandOver,
    Idle,
    Node,
    Remove,
    Report,
    Reserve,
    Seen,
    TakeBack,
    Unclaim,
    Withdraw,
    decide,
    is_pending,
    waits,
)
from attach.warm import Ready, choose, read_ready
from catalog.keys import ATTACHMENT_FINALIZER, PLACEHOLDER
from catalog.problems import InvalidError
from catalog.quantity import QuantityError, parse_integer
from controller.announce import announce
from controller.budgets import Budgets
from controller.metrics import Metrics
from controller.serving import Serving
from controller.world import Failures, World, delete_seen, dynamic_resources, is_refused
from kube.api import ApiError, Object
from kube.events import post
from kube.kinds import GPU_ATTACHMENTS, PODS

MOST_STEPS: Final = 10  # writes for one attachment in one round
LONGEST_S: Final = 10.0  # without a look at all of them
QUOTA_AGAIN_S: Final = 10.0
TARGET_KEPT_S: Final = 5.0  # a target that goes takes its attachment along, which is seen at once
GRACE_S: Final = 1  # of a placeholder with which nothing is held any more
DEFAULT_IMAGE: Final = "docker.io/podsla/podsla:dev"  # of a controller that runs beside the cluster

_SCARCE: Final = ("QuotaExceeded", "BudgetSpent")
_log: Final = logging.getLogger(__name__)


class Attachments:
    """
    Reconciles GPUAttachments: one write after the other, each on the version that it was planned for.

    What the controller keeps in memory are waiting times and a look at targets; a new leader starts anew.

    Attributes:
        due_s: In how many seconds one of them is due, though nothing changes.
    """

    def __init__(self, world: World, metrics: Metrics, serving: Serving) -> None:
        self.world, self.metrics, self.serving = world, metrics, serving
        self.due_s, self.budgets = LONGEST_S, Budgets(world, serving)
        self._not_before_s: dict[str, float] = {}  # by UID, on the monotonic clock: when quota is tried again
        self._missing_since_s: dict[str, float] = {}
        self._targets: dict[str, tuple[float, Object | None]] = {}
        self._read: dict[str, tuple[Object, Attachment]] = {}
        self._ready: tuple[Ready, ...] = ()
        self._dynamic: frozenset[str] | None = None  # asked once in a round, where a node lacks what is asked
        self._image = ""

    def reconcile(self) -> bool:
        """Bring every attachment as far as it goes now."""
        before = self._by_uid()
        self._read, self.due_s, self._dynamic = dict(self._readable()), LONGEST_S, None
        now = self._by_uid()
        self.metrics.waited(waited_s(before, now))
        self._ready = read_ready(self.world.placeholders.items())
        failures = Failures()
        with failures.noted():
            self.budgets.look(attachment for _, attachment in self._read.values())
        for uid in sorted(self._read, key=lambda uid: (self._read[uid][1].created_s, uid)):
            with failures.noted():
                self._advance(uid)
        memories: tuple[dict[str, Any], ...] = (self._not_before_s, self._missing_since_s, self._targets)
        for memory in memories:
            for uid in memory.keys() - self._read.keys():
                del memory[uid]
        self.metrics.gpu_seconds(self.budgets.held_s())
        self.metrics.attachments(Counter(_state(attachment) for _, attachment in self._read.values()))
        announce(self.world.api, before, now)  # last: those who wait for a GPU do not wait for it
        failures.end()
        return True

    def forget(self) -> None:
        """Have seen none: who got a GPU while another leads is counted by that one."""
        self._read = {}

    def all(self) -> tuple[Attachment, ...]:
        """List them as they were left by the last round."""
        return tuple(attachment for _, attachment in self._read.values())

    def _by_uid(self) -> dict[str, Attachment]:
        return {uid: attachment for uid, (_, attachment) in self._read.items()}

    def _readable(self) -> list[tuple[str, tuple[Object, Attachment]]]:
        """Read those that have changed; what has ended stands for a day, and reading one takes a millisecond."""
        found = []
        for thing in self.world.attachments.items():
            known = self._read.get(thing["metadata"]["uid"])
            if known is None or known[0]["metadata"]["resourceVersion"] != thing["metadata"]["resourceVersion"]:
                try:
                    known = thing, parse_attachment(thing)
                except InvalidError as error:  # stored before the CRD was what it is
                    _log.warning("cannot read an attachment", extra={"fields": {"error": str(error)[:512]}})
                    continue
            found.append((known[1].uid, known))
        return found

    def _advance(self, uid: str) -> None:
        """Carry out one write after the other, until there is none, or another writes too."""
        step = Step(self, *self._read[uid])
        if not step.attachment.with_agent and self.serving.current() is None:
            return  # neither budgets nor the label that names the model of a node are known yet
        for _ in range(MOST_STEPS):
            action = decide(step.attachment, step.seen())
            if isinstance(action, Idle):
                self.due_s = min(self.due_s, LONGEST_S if action.for_s is None else action.for_s)
                break
            if not step.take(action):
                break
        self._read[uid] = (step.thing, step.attachment)

    def target(self, attachment: Attachment) -> Object | None:
        """
        Ask for the pod that is to get the GPU: at first each time, later once in `TARGET_KEPT_S`.

        Not of one that has ended, nor of one that the agent has: nothing is decided by it here.
        """
        with_agent = attachment.with_agent and self.world.nodes.get(attachment.status.node) is not None
        if attachment.is_finished or with_agent:
            return None
        now_s = time.monotonic()
        asked_s, found = self._targets.get(attachment.uid, (float("-inf"), None))
        if found is None or not attachment.status.node or now_s - asked_s > TARGET_KEPT_S:
            found = self.world.api.get(PODS, attachment.spec.pod_name, attachment.namespace)
            self._targets[attachment.uid] = now_s, found
        return found

    def capacity(self, node: Object, resource: str) -> int | None:
        """
        Say how many of a resource a node has; None: that is not for the node to say.

        0 is of a device plugin that has yet to register, as after a boot: the kubelet keeps its resource.
        """
        published = node["status"].get("capacity") or {}
        if resource not in published:
            self._dynamic = dynamic_resources(self.world.api) if self._dynamic is None else self._dynamic
            return None if resource in self._dynamic else 0
        try:
            return parse_integer(str(published[resource])) or None
        except QuantityError:
            return 0

    def image(self) -> str:
        """Find the image of this process, which stays what it is: the placeholder's, and the agent's."""
        if not self._image and _in_cluster():
            own = self.world.api.get(PODS, os.environ.get("HOSTNAME", "-"), self.world.namespace)
            self._image = str(own["spec"]["containers"][0]["image"]) if own is not None else ""
        return self._image or DEFAULT_IMAGE

    def turn(self, attachment: Attachment, wall_s: float) -> tuple[bool, int, Pod | None]:
        """Say whether an attachment may reserve now, its place in its lane, from 1, and what is kept ready for it."""
        lane = _lane(attachment)
        if not lane[0] or attachment.status.placeholder is not None:
            return False, 0, None
        same = [other for _, other in self._read.values() if _lane(other) == lane]
        same = [other for other in same if other.uid != attachment.uid] + [attachment]
        line = [one for one in same if self._may_wait(one)]
        warm = choose(attachment, line, self.all(), self._ready) if self._ready else None
        waiting = [Waiting(one.uid, one.namespace, one.created_s) for one in line]
        served: dict[str, float] = {}
        for one in same:
            if one.status.placeholder is not None:
                served[one.namespace] = max(served.get(one.namespace, 0.0), _served_s(one, wall_s))
        ordered = order(waiting, served)
        pending = sum(is_pending(one, self.placeholder(one)) for one in same)
        now_s = time.monotonic()
        blocked = {uid for uid, until_s in self._not_before_s.items() if until_s > now_s}
        may = not pending and next_of(ordered, blocked) == attachment.uid
        return may, ordered.index(attachment.uid) + 1 + pending if attachment.uid in ordered else 0, warm

    def _may_wait(self, attachment: Attachment) -> bool:
        if not waits(attachment):
            return False
        budget = self.budgets.of(attachment.namespace)
        return budget is None or not budget.spent

    def placeholder(self, attachment: Attachment) -> Pod | None:
        """Find the pod that reserves for an attachment, as it was seen last."""
        found = self.world.placeholders.get(attachment.reserving, attachment.namespace)
        return read_pod(found) if found is not None else None

    def missing_s(self, uid: str, *, missing: bool) -> float:
        """Say for how long a placeholder has been missing."""
        if not missing:
            self._missing_since_s.pop(uid, None)
            return 0.0
        now_s = time.monotonic()
        return now_s - self._missing_since_s.setdefault(uid, now_s)

    def try_again(self, uid: str) -> None:
        """Let others go first for a while: there is no quota for this one."""
        self._not_before_s[uid] = time.monotonic() + QUOTA_AGAIN_S


class Step:
    """One attachment on its way through one round: what was read of it last, and what to write."""

    def __init__(self, all_: Attachments, thing: Object, attachment: Attachment) -> None:
        self.all, self.api, self.thing, self.attachment = all_, all_.world.api, thing, attachment
        self.name, self.namespace = attachment.name, attachment.namespace
        self.placeholder: Pod | None = None
        self.looked = ""  # for the pod of this name
        self.passed: set[str] = set()  # warm ones that another has, or that are gone
        self.refused, self.over_quota, self.withdrawn = "", False, False
        found = all_.target(attachment)
        self.target_thing = found
        self.target = read_pod(found) if found is not None else None

    def seen(self) -> Seen:
        """Look at what a decision needs, as it is now."""
        attachment, wall_s = self.attachment, time.time()
        pod = self._look()
        uid = attachment.status.placeholder.uid if attachment.status.placeholder else ""
        may, position, warm = self.all.turn(self._aimed(), wall_s)
        return Seen(
            target=self.target,
            node=self._node(),
            placeholder=pod,
            next=may,
            position=position,
            now_s=wall_s,
            warm=warm if warm is not None and warm.name not in self.passed else None,
            refused=self.refused,
            over_quota=self.over_quota,
            missing_s=self.all.missing_s(attachment.uid, missing=bool(uid) and (pod is None or pod.uid != uid)),
            withdrawn=self.withdrawn,
            budget=self.all.budgets.of(attachment.namespace),
            noted=self.all.budgets.has(attachment),
        )

    def _aimed(self) -> Attachment:
        """Name the node that is written down with the choice of a placeholder, as if it stood there."""
        status = self.attachment.status
        if status.node or self.target is None:
            return self.attachment
        return replace(self.attachment, status=replace(status, node=self.target.node))

    def _look(self) -> Pod | None:
        """
        Find the placeholder; what is not seen here yet, as it is by now, is asked for, where one may be.

        Of a warm one that is seen to be free nothing is asked: it is handed over as it was seen, or not at all.
        """
        name = self.attachment.reserving
        if self.looked == name:
            return self.placeholder
        seen, may_be = self.all.placeholder(self.attachment), self.attachment.status.placeholder is not None
        is_known = seen is not None and (
            is_own(seen, self.attachment) or (self.attachment.awaits_warm and seen.is_free)
        )
        self.placeholder, self.looked = seen, name
        if self.attachment.finalized and may_be and not is_known:
            self._ask(name)
        return self.placeholder

    def _ask(self, name: str) -> None:
        """Read the placeholder as it is now."""
        found = self.api.get(PODS, name, self.namespace)
        self.placeholder = read_pod(found) if found is not None else None

    def _node(self) -> Node | None:
        name = self.attachment.status.node or (self.target.node if self.target else "")
        thing = self.all.world.nodes.get(name) if name else None
        if thing is None:
            return None
        spec, gpu = self.attachment.spec, None
        served = self.all.serving.current()
        if served is not None:
            gpu = served.target.gpu
        labels = thing["metadata"].get("labels") or {}
        model = labels.get(gpu.model_label, "") if gpu else ""
        return Node(
            name, self.all.capacity(thing, spec.resource), model, (gpu.spellings(spec.models) if gpu else spec.models)
        )

    def take(self, action: Action) -> bool:
        """Carry out one write; False where another wrote in between, or there is nothing after it in this round."""
        match action:
            case Claim(owner):
                return self._claim(owner)
            case Report(fields, conditions):
                return self._report(dict(fields), conditions)
            case Reserve():
                return self._reserve()
            case HandOver(pod):
                return self._hand_over(pod)
            case Withdraw(pod):
                return self._withdraw(pod)
            case TakeBack(message):
                return self._take_back(message)
            case Unclaim():
                left = [one for one in self.thing["metadata"].get("finalizers") or () if one != ATTACHMENT_FINALIZER]
                return self._patch({"metadata": {"finalizers": left}})
            case Remove():
                delete_seen(self.api, GPU_ATTACHMENTS.path(self.namespace, self.name), {"uid": self.attachment.uid})
        return False

    def _claim(self, owner: Pod | None) -> bool:
        metadata = self.thing["metadata"]
        body: dict[str, Any] = {"finalizers": [*(metadata.get("finalizers") or ()), ATTACHMENT_FINALIZER]}
        if owner is not None and not self.attachment.owned and self.attachment.spec.pod_uid in ("", owner.uid):
            body["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": owner.name, "uid": owner.uid}]
        return self._patch({"metadata": body})

    def _report(self, fields: dict[str, Any], conditions: tuple[Condition, ...]) -> bool:
        attachment, before = self.attachment, self.attachment.status
        if attachment.awaits_warm and fields.get("placeholder", True) is None:
            self.passed.add(attachment.reserving)
        if conditions:
            merged = merge_conditions(before.conditions, conditions, attachment.generation, datetime.now(UTC))
            fields["conditions"] = merged
        if self.refused:
            self.all.try_again(attachment.uid)
            self.refused, self.over_quota = "", False
        self.withdrawn = False
        if not self._patch({"status": fields}, "status"):
            return False
        for condition in conditions:
            if before.condition(condition.kind).get("reason") != condition.reason:
                self._tell(condition)
        return True

    def _take_back(self, message: str) -> bool:
        if not self._patch({"spec": {"release": True}}):
            return False
        self.target_thing = self.api.get(PODS, self.attachment.spec.pod_name, self.namespace)
        self._tell(Condition(Type.ATTACHED, False, "BudgetSpent", message))
        return True

    def _tell(self, condition: Condition) -> None:
        """Say it on the attachment and on its pod."""
        fields = {"attachment": str(self.attachment), "reason": condition.reason, "message": condition.message}
        _log.info("attachment", extra={"fields": fields})
        for about in filter(None, (self.thing, self.target_thing)):
            kind: Any = "Warning" if condition.kind is Type.FAILED or condition.reason in _SCARCE else "Normal"
            post(self.api, about, kind=kind, reason=condition.reason, action="Reserve", note=condition.message)

    def _patch(self, body: Mapping[str, Any], subresource: str = "") -> bool:
        metadata = {**body.get("metadata", {}), "resourceVersion": self.attachment.version}
        try:
            answer = self.api.patch(
                GPU_ATTACHMENTS,
                self.name,
                {**body, "metadata": metadata},
                namespace=self.namespace,
                subresource=subresource,
            )
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        self.thing, self.attachment = answer, parse_attachment(answer)
        self.all._read[self.attachment.uid] = (self.thing, self.attachment)
        return True

    def _reserve(self) -> bool:
        assert self.target is not None  # noqa: S101 - without one nothing is reserved
        body = placeholder(self.attachment, self.target, self.all.image(), self.all.serving.placeholder_metadata())
        try:
            self.placeholder = read_pod(self.api.create(PODS, body, self.namespace))
        except ApiError as error:
            if error.reason == "AlreadyExists":
                self.looked = ""
                return self._look() is not None
            if not is_refused(error):
                raise
            self.refused, self.over_quota = str(error).partition(": ")[2], "exceeded quota" in str(error)
        return True

    def _hand_over(self, pod: Pod) -> bool:
        """Make a warm placeholder this attachment's; one that has changed since is looked at again."""
        own = {"labels": {PLACEHOLDER: self.attachment.uid}, "ownerReferences": [owner_of(self.attachment)]}
        body = {"metadata": {"resourceVersion": pod.version, **own}}
        try:
            self.placeholder = read_pod(self.api.patch(PODS, pod.name, body, namespace=self.namespace))
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            self._ask(pod.name)
        return True

    def _withdraw(self, pod: Pod) -> bool:
        """Delete the placeholder as it was seen: one that was bound to its node since stays."""
        same = {"uid": pod.uid, "resourceVersion": pod.version}
        self.withdrawn = delete_seen(self.api, PODS.path(self.namespace, pod.name), same, GRACE_S)
        self._ask(pod.name)
        return self.withdrawn or self.placeholder is None


def _in_cluster() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ


def _state(attachment: Attachment) -> str:
    return next((kind.value for kind in Type if attachment.status.has(kind)), "Waiting")


def _lane(attachment: Attachment) -> Lane:
    return attachment.status.node, attachment.spec.resource


def _served_s(attachment: Attachment, wall_s: float) -> float:
    reserved = attachment.status.condition(Type.RESERVED)
    since = reserved.get("lastTransitionTime") if reserved.get("status") == "True" else None
    return parse_time(since).timestamp() if since else wall_s
