"""
EDGE: nodes with GPUs that kwok plays, each with the real agent over a kernel and a kubelet in memory.

Scheduler, quota, controller and the agent's loop are what they are; played are the kubelet's gift of a device, which it
gives to every placeholder that is bound to the node, and the rules and device nodes of containers.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Final

from attach.agent import Agent, FromCluster, Settings
from attach.clock import SystemClock
from attach.live import ClusterSource
from attach.model import DeviceNode, Gpu, Target
from attach.reservation import Device, PodDevices
from bench.cluster.moments import is_ready
from bench.cluster.stand import Stand
from catalog.keys import PLACEHOLDER
from kube.api import Api, Object
from kube.kinds import NODES, PODS
from kube.watch import Watched
from tests.attach.fakes import FakeNode, MemoryStore
from tests.cluster.processes import wait_ready

RESOURCE: Final = "nvidia.com/gpu"
CONNECTIONS: Final = 16
EVERY_S: Final = 5.0


class PlayedKubelet:
    """Gives a device to each placeholder that is bound to the node, for as long as that pod is there."""

    def __init__(self, uuids: Iterable[str], placeholders: Watched) -> None:
        self._free, self._placeholders = list(uuids), placeholders
        self._given: dict[str, str] = {}  # by the pod's UID

    def pods(self) -> tuple[PodDevices, ...]:
        """See the port."""
        there = {pod["metadata"]["uid"]: pod for pod in self._placeholders.items() if not _has_ended(pod)}
        for gone in self._given.keys() - there.keys():
            self._free.append(self._given.pop(gone))
        for uid in there:
            if uid not in self._given and self._free:
                self._given[uid] = self._free.pop(0)
        return tuple(
            PodDevices(meta["namespace"], meta["name"], (Device(RESOURCE, self._given[uid]),))
            for uid, meta in ((uid, pod["metadata"]) for uid, pod in there.items())
            if uid in self._given
        )


def _has_ended(pod: Object) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


class PlayedNode:
    """A node with GPUs, and an agent that follows the cluster."""

    def __init__(self, api: Api, name: str, gpus: int) -> None:
        listed = [Gpu(f"GPU-{name}-{n}", DeviceNode(f"/dev/nvidia{n}", 195, n)) for n in range(gpus)]
        self.name, self.kernel = name, FakeNode(*listed)
        selectors = {"fieldSelector": f"spec.nodeName={name}", "labelSelector": PLACEHOLDER}
        self._placeholders = Watched(api, PODS, selectors=selectors, on_change=self._wake)
        kubelet = PlayedKubelet([gpu.uuid for gpu in listed], self._placeholders)
        source = ClusterSource(api, name, kubelet, self.kernel, SystemClock())
        settings = Settings(FromCluster(api, name, Path()), Path(), None, None, EVERY_S)
        self._source, self.agent = source, Agent(settings, self.kernel.ports, MemoryStore(), source)

    def _wake(self) -> None:
        self._source.wake()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Let the agent work, on a thread of its own."""
        self._placeholders.start()
        self._source.start()
        thread = Thread(target=self.agent.watch, name=f"agent of {self.name}")
        thread.start()
        try:
            yield
        finally:
            self.agent.stop()
            thread.join()
            self._source.close()
            self._placeholders.stop()

    @property
    def open_devices(self) -> int:
        """How many devices some container may open."""
        return sum(len(container.ours) for container in self.kernel.containers)


@contextmanager
def played_nodes(stand: Stand, names: Sequence[str], gpus: int) -> Iterator[tuple[PlayedNode, ...]]:
    """Register nodes of so many GPUs each, and let their agents work."""
    for name in names:
        own = {"cpu": "64", "memory": "256Gi", "pods": "110", RESOURCE: str(gpus)}
        metadata = {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}, "labels": {"type": "gpus"}}
        stand.api.create(NODES, {"metadata": metadata, "status": {"capacity": own, "allocatable": own}})
    with ExitStack() as stack:
        made = tuple(PlayedNode(stand.api, name, gpus) for name in names)
        for name in names:
            wait_ready(stand.cluster, f"node {name}", lambda name=name: _is_free(stand.api, name))  # type: ignore[misc]
        for node in made:
            stack.enter_context(node.working())
        yield made


def _is_free(api: Api, name: str) -> bool:
    node = api.get(NODES, name) or {"status": {}, "spec": {}}
    return is_ready(node) and "taints" not in node["spec"]


def run_pods(stand: Stand, nodes: Sequence[PlayedNode], where: str, count: int) -> list[str]:
    """Run pods on played nodes in turn, each with a container that its node's kernel knows; their names."""

    def run(number: int) -> str:
        node, name = nodes[number % len(nodes)], f"pod-{number}"
        container = {"name": "main", "image": "x", "resources": {"requests": {"cpu": "10m"}}}
        body = {"metadata": {"name": name}, "spec": {"nodeName": node.name, "containers": [container]}}
        uid = str(stand.api.create(PODS, body, where)["metadata"]["uid"])
        wait_ready(stand.cluster, f"pod {where}/{name} runs", lambda: _runs(stand.api, name, where))
        (status,) = _pod(stand.api, name, where)["status"]["containerStatuses"]
        said = {"containerStatuses": [{**status, "containerID": f"containerd://{uid}"}]}
        stand.api.patch(PODS, name, {"status": said}, namespace=where, subresource="status")
        node.kernel.start(Target(where, name, uid, uid))
        return name

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return list(pool.map(run, range(count)))


def _pod(api: Api, name: str, where: str) -> dict[str, Any]:
    return dict(api.get(PODS, name, where) or {"status": {}})


def _runs(api: Api, name: str, where: str) -> bool:
    return str(_pod(api, name, where)["status"].get("phase")) == "Running"
