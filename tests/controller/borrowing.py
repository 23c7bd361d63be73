"""A cluster that lends GPUs: simulated nodes, the controller with its own rights, and a stand-in for the agent."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

from attach.api import Attachment, Condition, Type, merge_conditions, parse_attachment, render_time
from controller.attachments import Attachments
from controller.catalogs import Catalogs
from controller.meter import Meter
from controller.metrics import Metrics
from controller.serving import Serving
from controller.taints import Quarantine
from controller.warm import Warm
from controller.world import World
from kube.api import Api, ApiError, Object, PatchKind, Resource
from kube.kinds import GPU_ATTACHMENTS, NAMESPACES, NODES, PODS
from tests.system.user import User
from tests.waiting import eventually

SYSTEM: Final = "podsla-system"
NAME: Final = "podsla-attachments"
ONE, TWO, NONE = "gpu-one", "gpu-two", "gpu-none"
GPUS: Final = {ONE: 1, TWO: 2, NONE: 0}
_numbers = count()
HEAD: Final = {"apiVersion": "podsla.io/v1beta1", "kind": "GPUAttachment"}


@dataclass
class Lending:
    """
    What a test does to the cluster, as an administrator.

    Attributes:
        api: The administrator's connection.
        controller: The controller's own, with its rights and no more.
        user: The administrator, with kubectl and podsla.
    """

    api: Api
    controller: Api
    user: User
    namespace: str = ""

    def node(self, name: str, gpus: int) -> None:
        """Add a node that kwok plays; one without GPUs publishes nothing of them."""
        own = {"cpu": "16", "memory": "64Gi", "pods": "110", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
        metadata = {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}}
        status = {"capacity": own, "allocatable": own}
        self.api.create(NODES, {"metadata": metadata, "status": status})
        eventually(lambda: self._is_ready(name), f"node {name} is ready", 60)

    def publish(self, node: str, gpus: int) -> None:
        """Say how many GPUs a node has, as the kubelet does."""
        amounts = {"nvidia.com/gpu": str(gpus)}
        body = {"status": {"capacity": amounts, "allocatable": amounts}}
        self.api.patch(NODES, node, body, subresource="status")

    def _is_ready(self, name: str) -> bool:
        node = self.api.get(NODES, name) or {}
        conditions = node.get("status", {}).get("conditions") or ()
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        return ready and not node["spec"].get("taints")

    def pod(self, name: str, node: str, namespace: str = "", **spec: Any) -> str:
        """Run a pod on a node, and name its UID."""
        container = {"name": "worker", "image": "x", "resources": {"requests": {"cpu": "10m"}}}
        body = {"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [container], **spec}}
        made = self.api.create(PODS, body, namespace or self.namespace)
        return str(made["metadata"]["uid"])

    def borrower(self, name: str, node: str) -> None:
        """Run a pod that has a seat beside a GPU, as the webhook gives one to who may borrow."""
        seat = {"podsla.io/gpu-seats": "1"}
        container = {"name": "worker", "image": "x", "resources": {"requests": seat, "limits": seat}}
        metadata = {"name": name, "labels": {"podsla.io/size": "gn.xlarge"}}
        self.api.create(
            PODS, {"metadata": metadata, "spec": {"nodeName": node, "containers": [container]}}, self.namespace
        )

    def keep_ready(self, text: str | None) -> None:
        """Say how many GPUs the namespace is to keep ready; None: nothing."""
        self.api.patch(NAMESPACES, self.namespace, {"metadata": {"labels": {"podsla.io/warm-gpus": text}}})

    def warm(self) -> list[str]:
        """Name the warm placeholders of the namespace that are bound to a node, and stay."""
        found = self.api.list(PODS, self.namespace, labelSelector="podsla.io/placeholder=warm")
        bound = [one for one in found if one["spec"].get("nodeName") and "deletionTimestamp" not in one["metadata"]]
        return sorted(one["metadata"]["name"] for one in bound)

    def until_cold(self) -> None:
        """Keep nothing ready any more, and wait until nothing is left of what was."""
        self.keep_ready(None)
        warm = {"labelSelector": "podsla.io/placeholder=warm"}
        eventually(lambda: not list(self.api.list(PODS, self.namespace, **warm)), "nothing is kept ready", 30)

    def ask(self, name: str, pod: str, namespace: str = "", **spec: Any) -> None:
        """Create an attachment."""
        body = {**HEAD, "metadata": {"name": name}, "spec": {"podName": pod, **spec}}
        self.api.create(GPU_ATTACHMENTS, body, namespace or self.namespace)

    def thing(self, name: str, namespace: str = "") -> Object:
        """Read an attachment as it is on the wire."""
        found = self.api.get(GPU_ATTACHMENTS, name, namespace or self.namespace)
        assert found is not None, f"there is no attachment {name}"
        return found

    def read(self, name: str, namespace: str = "") -> Attachment:
        """Read an attachment."""
        return parse_attachment(self.thing(name, namespace))

    def release(self, name: str, namespace: str = "") -> None:
        """Ask for the GPU to be taken back."""
        self.api.patch(GPU_ATTACHMENTS, name, {"spec": {"release": True}}, namespace=namespace or self.namespace)

    def placeholder(self, attachment: Attachment) -> Object | None:
        """Find the placeholder of an attachment."""
        return self.api.get(PODS, attachment.reserving, attachment.namespace)

    def until(self, name: str, kind: Type, namespace: str = "", timeout_s: float = 30.0) -> Attachment:
        """Wait for a condition to be True."""

        def holds() -> bool:
            status = self.read(name, namespace).status
            assert status.has(kind), status  # what it is instead is told when time is up
            return True

        eventually(holds, f"{name} is {kind}", timeout_s)
        return self.read(name, namespace)

    def until_reason(self, name: str, reason: str, namespace: str = "", timeout_s: float = 30.0) -> Attachment:
        """Wait until a condition gives a reason."""

        def given() -> bool:
            return any(c["reason"] == reason for c in self.read(name, namespace).status.conditions)

        eventually(given, f"{name} says {reason}", timeout_s)
        return self.read(name, namespace)


def namespace(lending: Lending) -> str:
    """Make a namespace."""
    name = f"team-{next(_numbers)}"
    lending.api.create(NAMESPACES, {"metadata": {"name": name}})
    eventually(lambda: lending.api.get(Resource("v1", "serviceaccounts"), "default", name), "the service account")
    return name


def gone_for_good(lending: Lending, name: str) -> None:
    """Wait until an attachment is gone."""
    eventually(lambda: lending.api.get(GPU_ATTACHMENTS, name, lending.namespace) is None, f"{name} is gone", 60)


def labels(thing: Object) -> Object:
    """Read the labels of an object."""
    found: Object = thing["metadata"].get("labels") or {}
    return found


def ended(lending: Lending, name: str, kind: Type, reason: str, where: str = "", timeout_s: float = 30.0) -> None:
    """The attachment ends so, and nothing is left of it but the object."""
    attachment = lending.until(name, kind, where, timeout_s)
    assert attachment.status.condition(kind)["reason"] == reason
    eventually(lambda: lending.read(name, where).status.queue_position == 0, "it waits no more")
    eventually(lambda: lending.placeholder(attachment) is None, "the placeholder is gone")
    eventually(lambda: not lending.read(name, where).finalized, "the finalizer is gone")


def look(lending: Lending) -> None:
    """One round of a controller that has just begun."""
    world = World(lending.controller, SYSTEM, lambda: None).start()
    try:
        eventually(lambda: world.synced, "everything is listed")
        Attachments(world, Metrics(lambda: True), Serving(world)).reconcile()
    finally:
        world.stop()


@contextmanager
def controlling(lending: Lending) -> Iterator[Metrics]:
    """Run the controller of attachments, and of catalogues, on a thread of its own, with its own rights."""
    woken, stopped = threading.Event(), threading.Event()
    world = World(lending.controller, SYSTEM, woken.set).start()
    metrics = Metrics(lambda: True)
    serving = Serving(world)
    catalogs, attachments = Catalogs(world, metrics, serving), Attachments(world, metrics, serving)
    warm, meter = Warm(world, metrics, serving, attachments), Meter(world, metrics, serving, attachments)
    quarantine = Quarantine(world)
    raised: list[Exception] = []

    def run() -> None:
        while not stopped.is_set():
            woken.wait(1.0)
            woken.clear()
            if world.synced:
                try:
                    catalogs.reconcile()
                    attachments.reconcile()
                    quarantine.reconcile()
                    warm.reconcile()
                    meter.reconcile()
                except ApiError as error:
                    raised.append(error)
            stopped.wait(0.1)

    thread = threading.Thread(target=run, name="controller")
    thread.start()
    try:
        yield metrics
    finally:
        stopped.set()
        woken.set()
        thread.join(30)
        world.stop()
    assert not [error for error in raised if "forbidden" in str(error)], raised


@dataclass
class Agent:
    """
    Plays the agent of every node by the API alone: what is reserved is attached; what is given back is released.

    Attributes:
        gpus: How many there are, by node.
        most: The most that were attached at once, by node.
    """

    lending: Lending
    gpus: dict[str, int]
    most: dict[str, int] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def working(self) -> Iterator["Agent"]:
        """Work on a thread of its own."""
        thread = threading.Thread(target=self._run, name="agent")
        thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            thread.join(30)

    def _run(self) -> None:
        while not self.stopped.wait(0.1):
            self.look()

    def look(self) -> None:
        """Look at every attachment once."""
        attached: dict[str, int] = {}
        for thing in list(self.lending.api.list(GPU_ATTACHMENTS)):
            attachment = parse_attachment(thing)
            if not attachment.is_finished:
                try:
                    self._look_at(thing, attachment)
                except ApiError as error:
                    if error.status not in (404, 409):
                        raise
            if attachment.status.has(Type.ATTACHED):
                node = attachment.status.node
                attached[node] = attached.get(node, 0) + attachment.spec.count
        for node, gpus in attached.items():
            self.most[node] = max(self.most.get(node, 0), gpus)

    def _look_at(self, thing: Object, attachment: Attachment) -> None:
        intent, pod = attachment.status.placeholder, self.lending.placeholder(attachment)
        if intent is None or not intent.uid:
            return
        mine = attachment.status.has(Type.RESERVED)
        here = pod is not None and pod["metadata"]["uid"] == intent.uid and bool(pod["spec"].get("nodeName"))
        runs = here and pod is not None and pod["status"]["phase"] == "Running"
        if runs and not mine and not self._over(attachment):
            said = [
                Condition(Type.RESERVED, True, "Reserved", "by the stand-in"),
                Condition(Type.ATTACHED, True, "Attached", "by the stand-in"),
            ]
            now = render_time(time.time())
            self._say(thing, attachment, said, devices=[{"uuid": "GPU-1"}], attachedAt=now)
            return
        if (here or mine) and self._over(attachment, lost=mine and not here):
            said = [
                Condition(Type.ATTACHED, False, "ReleaseRequested", "by the stand-in"),
                Condition(Type.RELEASED, True, "Released", "by the stand-in"),
            ]
            self._say(thing, attachment, said, heldSeconds=1)  # before another may have the GPU: `most` counts by it
            self._end_placeholder(attachment, pod)

    def _over(self, attachment: Attachment, *, lost: bool = False) -> bool:
        target = self.lending.api.get(PODS, attachment.spec.pod_name, attachment.namespace)
        gone = target is None or target["metadata"]["uid"] != attachment.status.pod_uid
        return lost or gone or attachment.spec.release or attachment.deleting

    def _end_placeholder(self, attachment: Attachment, pod: Object | None) -> None:
        if pod is not None and pod["status"].get("phase") not in ("Succeeded", "Failed"):
            self.lending.api.patch(
                PODS,
                pod["metadata"]["name"],
                {"status": {"phase": "Succeeded"}},
                namespace=attachment.namespace,
                subresource="status",
            )

    def _say(self, thing: Object, attachment: Attachment, said: list[Condition], **fields: Any) -> None:
        old = attachment.status.conditions
        conditions = merge_conditions(old, said, attachment.generation, datetime.now(UTC))
        body = {
            "metadata": {"resourceVersion": attachment.version},
            "status": {**fields, "conditions": conditions},
        }
        self.lending.api.patch(
            GPU_ATTACHMENTS,
            attachment.name,
            body,
            namespace=attachment.namespace,
            subresource="status",
            kind=PatchKind.MERGE,
        )
