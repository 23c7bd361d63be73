"""EDGE: keeps GPUs ready in namespaces whose label asks for it."""

import logging
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attach.api import Attachment
from attach.placeholder import mutation, read_pod, warm_placeholder
from attach.warm import LOOK_BACK_S, GiveBack, Keep, Ready, busiest, parse_wanted, plan, read_ready, take_stock
from catalog.keys import GPU_SEATS, WARM_GPUS
from controller.attachments import GRACE_S, Attachments
from controller.metrics import Metrics
from controller.serving import Serving
from controller.world import Failures, World, delete_seen, is_refused
from kube.api import ApiError
from kube.kinds import PODS

REFUSED_AGAIN_S: Final = 30.0
UNSEEN_S: Final = 30.0  # for which one that was made counts, though the watch does not show it

_log: Final = logging.getLogger(__name__)
Borrowers = Mapping[str, Sequence[str]]  # names of pods, by node


class Warm:
    """
    Reconciles warm placeholders, namespace by namespace.

    What is kept in memory are refusals, what the watch does not show yet, and what was asked for by attachments that
    are gone; a new leader sizes `auto` by those that still stand.
    """

    def __init__(self, world: World, metrics: Metrics, serving: Serving, attachments: Attachments) -> None:
        self.world, self.metrics, self.serving, self.attachments = world, metrics, serving, attachments
        self._unseen: dict[str, tuple[float, Ready]] = {}  # by name, and until when
        self._not_before_s: dict[str, float] = {}  # by namespace
        self._asked: dict[str, tuple[str, float]] = {}  # by UID: namespace, and when

    def reconcile(self) -> bool:
        """Make and give back what the plan says, once what is served is known."""
        served = self.serving.current()
        if served is None:
            return True
        resource = served.target.gpu.resource if served.target.gpu is not None else ""
        listed, wall_s = self.attachments.all(), time.time()
        asking, ready = self._labelled(), self._ready()
        self._note(listed, wall_s)
        if not (asking or ready):
            self.metrics.warm(ready=0, waiting=0)
            return True
        standing = [(one, self.attachments.placeholder(one)) for one in listed]
        failures = Failures()
        for namespace in sorted({*asking, *(one.namespace for one in ready)}):
            borrowers = self._borrowers(namespace, listed)
            wanted = self._wanted(namespace, asking.get(namespace, "0"), wall_s) if resource else 0
            counts = {node: len(names) for node, names in borrowers.items()}
            for action in plan(take_stock(namespace, wanted, counts, standing, ready)):
                with failures.noted():
                    self._take(action, namespace, resource, borrowers)
        bound = sum(bool(one.pod.node) for one in ready)
        self.metrics.warm(ready=bound, waiting=len(ready) - bound)
        failures.end()
        return True

    def _labelled(self) -> dict[str, str]:
        found = (
            (thing["metadata"]["name"], thing["metadata"].get("labels") or {})
            for thing in self.world.namespaces.items()
        )
        return {name: str(labels[WARM_GPUS]) for name, labels in found if WARM_GPUS in labels}

    def _ready(self) -> tuple[Ready, ...]:
        """List those that stand, and those that were made a moment ago."""
        now_s, things = time.monotonic(), self.world.placeholders.items()
        names = {thing["metadata"]["name"] for thing in things}
        self._unseen = {
            name: (until_s, one)
            for name, (until_s, one) in self._unseen.items()
            if until_s > now_s and name not in names
        }
        return (*read_ready(things), *(one for _, one in self._unseen.values()))

    def _note(self, listed: Iterable[Attachment], wall_s: float) -> None:
        asked = {one.uid: (one.namespace, one.created_s) for one in listed if one.spec.count == 1}
        self._asked = {uid: one for uid, one in {**self._asked, **asked}.items() if wall_s - one[1] < LOOK_BACK_S}

    def _wanted(self, namespace: str, text: str, wall_s: float) -> int:
        budget = self.attachments.budgets.of(namespace)
        if budget is not None and budget.spent:
            return 0
        try:
            wanted = parse_wanted(text)
        except ValueError as error:  # labelled before the policy was there
            _log.warning("nothing is kept ready", extra={"fields": {"namespace": namespace, "error": str(error)}})
            return 0
        if wanted is None:
            return busiest((asked_s for where, asked_s in self._asked.values() if where == namespace), wall_s)
        return wanted

    def _borrowers(self, namespace: str, listed: Iterable[Attachment]) -> Borrowers:
        """Find the pods that may borrow and hold nothing, by the seats that they have."""
        holding = {
            one.spec.pod_name
            for one in listed
            if one.namespace == namespace and one.status.placeholder is not None and not one.is_finished
        }
        found: dict[str, list[str]] = {}
        for bound in self.world.bound():
            where, _, name = bound.pod.partition("/")
            if where == namespace and bound.node and bound.figures.get(GPU_SEATS) and name not in holding:
                found.setdefault(bound.node, []).append(name)
        return {node: sorted(names) for node, names in found.items()}

    def _take(self, action: Keep | GiveBack, namespace: str, resource: str, borrowers: Borrowers) -> None:
        match action:
            case Keep(node):
                self._keep(namespace, resource, node, borrowers[node][0])
            case GiveBack(pod):
                self._unseen.pop(pod.name, None)
                same = {"uid": pod.uid, "resourceVersion": pod.version}
                delete_seen(self.world.api, PODS.path(namespace, pod.name), same, GRACE_S)

    def _keep(self, namespace: str, resource: str, node: str, beside: str) -> None:
        """Make one beside a pod that may borrow; what quota or policy refuse is tried again later."""
        if time.monotonic() < self._not_before_s.get(namespace, 0.0):
            return
        found = self.world.api.get(PODS, beside, namespace)
        if found is None:
            return
        name = f"podsla-warm-{secrets.token_hex(5)}"  # never the same again: the kubelet knows pods by their names
        more = self.serving.placeholder_metadata()
        body = warm_placeholder(name, namespace, resource, read_pod(found), self.attachments.image(), more)
        try:
            made = self.world.api.create(PODS, body, namespace)
        except ApiError as error:
            if not is_refused(error):
                raise
            self._pause(namespace, str(error)[:512])
            return
        pod = read_pod(made)
        self._unseen[name] = time.monotonic() + UNSEEN_S, Ready(namespace, node, pod)
        if changed := mutation(pod, resource, 1):
            self._pause(namespace, f"pod {name}: {changed}; another webhook changed it, which must leave it alone")
            self._take(GiveBack(pod), namespace, resource, {})

    def _pause(self, namespace: str, why: str) -> None:
        self._not_before_s[namespace] = time.monotonic() + REFUSED_AGAIN_S
        _log.warning("no GPU is kept ready", extra={"fields": {"namespace": namespace, "why": why}})
