"""EDGE: what an attachment takes on this machine as a node, from asking to access: cold, and of GPUs kept ready."""

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread
from typing import Any, Final

import urllib3

from bench.cluster.stand import Stand
from bench.cluster.steps import Attaches, Seen, sum_up
from catalog.keys import CLASS, PLACEHOLDER, WARM_GPUS
from kube.api import Api, Object, Resource
from kube.kinds import GPU_ATTACHMENTS, NAMESPACES, PODS
from kube.watch import events_of
from podsla.output import note
from tests.cluster.archives import PODSLA
from tests.cluster.deviceplugin import FOLDER
from tests.cluster.gpus import AGENTS, LENT_CLASS
from tests.cluster.install import kubectl
from tests.cluster.processes import wait_ready
from tests.cluster.state import ClusterError

HEAD: Final = {"apiVersion": "podsla.io/v1beta1", "kind": "GPUAttachment"}
CHECKPOINT: Final = FOLDER / "kubelet_internal_checkpoint"  # the kubelet writes it as it gives a device
SEED: Final = 20261129
REST_S: Final = 0.15  # between attachments, and up to as much again: whoever asks comes at any moment
WATCH_S: Final = 3600
COMES_S: Final = 60.0
GPUS: Final = 2
_POLL_S: Final = 0.002
_SLEEPER: Final = "trap exit TERM; while :; do sleep 1; done"


def lend_one_by_one(stand: Stand, count: int, *, warm: bool) -> Attaches:
    """Attach and release *count* times on this machine; *warm*: in a namespace that keeps a GPU ready."""
    with seeing(stand.api) as seen:
        uids = _one_by_one(stand, seen, count, warm=warm)
    logs = kubectl(stand.cluster, "-n", AGENTS, "logs", "-l", "app.kubernetes.io/name=podsla-agent", "--tail=-1")
    seen.see_log(logs.splitlines())
    return sum_up([seen.at_s[uid] for uid in uids])


def _one_by_one(stand: Stand, seen: Seen, count: int, *, warm: bool) -> list[str]:
    """Attach and release, one after the other; their UIDs."""
    where, rest = f"bench-{'warm' if warm else 'cold'}", random.Random(SEED)  # noqa: S311 - a pause, no secret
    note(f"{count} attachments in {where}", style="dim")
    make_namespace(stand, where, {WARM_GPUS: "1"} if warm else {})
    pods = [run_borrower(stand, f"borrower-{number}", where) for number in range(GPUS)]
    found = []
    for number in range(count):
        if warm:
            until(lambda: bool(seen.warm), "a GPU is kept ready")
        time.sleep(REST_S * (1 + rest.random()))
        found.append(_attach(stand.api, seen, f"attach-{number}", pods[number % GPUS], where))
        if not warm:
            seen.note(found[-1], "device given", os.stat(CHECKPOINT).st_mtime)
        stand.api.patch(GPU_ATTACHMENTS, f"attach-{number}", {"spec": {"release": True}}, namespace=where)
        until(lambda: found[-1] in seen.ended, f"{where}/attach-{number} has ended")
    stand.api.send("DELETE", NAMESPACES.path("", where)).drain_conn()
    wait_ready(stand.cluster, f"namespace {where} is gone", lambda: stand.api.get(NAMESPACES, where) is None)
    return found


def _attach(api: Api, seen: Seen, name: str, pod: str, where: str) -> str:
    """Ask, and wait until the status says that it is attached; the attachment's UID."""
    asked_s = time.time()
    uid = ask(api, name, pod, where)
    seen.note(uid, "created", time.time())
    seen.note(uid, "asked", asked_s)
    until(lambda: "told" in seen.at_s[uid] or uid in seen.ended, f"{where}/{name} is attached")
    if "told" not in seen.at_s[uid]:
        why = (api.get(GPU_ATTACHMENTS, name, where) or {}).get("status", {}).get("conditions")
        raise ClusterError(f"attachment {where}/{name} ended as {seen.ended[uid]}, and was to be attached: {why}")
    return uid


def ask(api: Api, name: str, pod: str, where: str) -> str:
    """Create an attachment; its UID."""
    body = {**HEAD, "metadata": {"name": name}, "spec": {"podName": pod, "gracePeriodSeconds": 0}}
    return str(api.create(GPU_ATTACHMENTS, body, where)["metadata"]["uid"])


def until(condition: Callable[[], bool], what: str, within_s: float = COMES_S) -> None:
    """
    Look often, until it is so.

    Raises:
        ClusterError: It is not in time.
    """
    end_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end_s:
            raise ClusterError(f"{what}: not within {within_s:.0f} s")
        time.sleep(_POLL_S)


def what_stays(api: Api, where: str) -> list[str]:
    """Name the placeholders of a namespace that are there though all attachments have ended; time is given to go."""

    def names() -> list[str]:
        return [f"pod {pod['metadata']['name']}" for pod in api.list(PODS, where, labelSelector=PLACEHOLDER)]

    with suppress(ClusterError):
        until(lambda: not names(), "placeholders are gone")
    return names()


def make_namespace(stand: Stand, name: str, labels: Mapping[str, str]) -> None:
    """Make a namespace, and wait for its service account."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}
    stand.api.create(NAMESPACES, body)
    accounts = Resource("v1", "serviceaccounts")
    wait_ready(stand.cluster, f"namespace {name}", lambda: stand.api.get(accounts, "default", name) is not None)


def run_borrower(stand: Stand, name: str, where: str) -> str:
    """Run a pod that may borrow; its name."""
    container = {"name": "main", "image": PODSLA, "imagePullPolicy": "Never", "command": ["sh", "-c", _SLEEPER]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    metadata = {"name": name, "annotations": {CLASS: LENT_CLASS}}
    stand.api.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, where)
    wait_ready(stand.cluster, f"pod {where}/{name} runs", lambda: _phase(stand.api, name, where) == "Running")
    return name


def _phase(api: Api, name: str, where: str) -> str:
    return str((api.get(PODS, name, where) or {})["status"].get("phase", ""))


@contextmanager
def seeing(api: Api) -> Iterator[Seen]:
    """Note every event of attachments and of pods that reserve for them."""
    seen = Seen()
    with (
        following(api, PODS, seen.see_placeholder, labelSelector=PLACEHOLDER),
        following(api, GPU_ATTACHMENTS, seen.see_attachment),
    ):
        yield seen


@contextmanager
def following(
    api: Api, resource: Resource, see: Callable[[str, Object, float], None], **selectors: str
) -> Iterator[None]:
    """Call *see* with every event of a collection, on a thread of its own: its kind, the object, and when it came."""
    query = {"watch": "true", "timeoutSeconds": str(WATCH_S), **selectors}
    response: Any = api.send("GET", resource.path(), query, read_timeout_s=WATCH_S)

    def read() -> None:
        with suppress(OSError, ValueError, urllib3.exceptions.HTTPError):  # what a stream that is shut down ends with
            for event in events_of(response):
                see(event["type"], event["object"], time.time())

    thread = Thread(target=read, name=f"watch {resource.plural}", daemon=True)
    thread.start()
    with ExitStack() as stack:
        stack.callback(thread.join, 5.0)
        stack.callback(response.shutdown)
        yield
