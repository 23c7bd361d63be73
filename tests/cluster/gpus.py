"""EDGE: gives real nodes stand-in GPUs: devices that exist and open, a device plugin that offers them, the agent."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from attach.inventory import open_inventory
from attach.model import DeviceNode, Gpu
from tests.attach.node.world import CANDIDATES
from tests.cluster import host, vm
from tests.cluster.archives import PODSLA
from tests.cluster.deviceplugin import FOLDER
from tests.cluster.install import OVERLAYS, describe, kubectl
from tests.cluster.nodeconfig import HOST, KUBELET_ROOT, VM
from tests.cluster.state import Cluster, ClusterError

AGENTS: Final = "podsla-agents"
LABEL: Final = "nvidia.com/gpu.present"
MODEL: Final = "nvidia.com/gpu.product"
# The launcher takes the kubelet's folder back.
STATE: Final = KUBELET_ROOT / "podsla-attach"
METRICS: Final = KUBELET_ROOT / "podsla-metrics"
INVENTORY: Final = "test-gpus"
READY_S: Final = 480  # two Pythons begin at once, on a busy machine's software emulation
LENT_CLASS: Final = "gpu-on-demand"
_CLASS: Final = {
    "name": LENT_CLASS,
    "description": "A place beside a GPU, and the GPU only while it is asked for.",
    "reserve": "ask",
    "floor": {"vcpu": "50m", "memory": "32Mi"},
    "gpu": {"models": ["T4"], "count": 1, "mode": "on-demand"},
}
_TARGET: Final = {
    "description": "One real node.",
    "nodeOverhead": {"vcpu": "1", "memory": "1Gi"},
    "consumers": [{"by": "node-labels"}, {"by": "reservation"}],
    "gpu": {
        "resource": "nvidia.com/gpu",
        "modelLabel": MODEL,
        "models": {"T4": ["Tesla-T4"]},
        "phaseImage": PODSLA,
    },
}


def _succeeds_here(argv: Sequence[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _succeeds_in_vm(argv: Sequence[str]) -> bool:
    return vm.run(argv).returncode == 0


RUNS: Final[Mapping[str, Callable[[Sequence[str]], bool]]] = {HOST: _succeeds_here, VM: _succeeds_in_vm}


def stand_ins(node: str) -> list[dict[str, Any]]:
    """Name devices of a node that stand for GPUs, as its inventory does: what exists there, and opens."""
    opening: list[dict[str, Any]] = []
    for major, minor in CANDIDATES:
        at = f"/dev/podsla-test-{os.getpid()}"
        probe = f"mknod {at} c {major} {minor} && (exec 3<>{at}); code=$?; rm -f {at}; exit $code"
        if RUNS[node](["sh", "-c", probe]):
            opening.append({"uuid": f"GPU-{node}-{len(opening)}", "major": major, "minor": minor})
    if not opening:
        raise ClusterError(f"node {node} has none of the devices {CANDIDATES}")
    return [{**gpu, "path": f"/dev/gpu{number}"} for number, gpu in enumerate(opening)]


def nvidia_gpus() -> list[dict[str, Any]]:
    """Name the GPUs of this machine's NVIDIA driver, as an inventory does: whole and healthy ones; none without it."""
    found = open_inventory(None).gpus()
    return [listed(gpu) for gpu in found if gpu.uuid.startswith("GPU-") and not gpu.unhealthy]


def listed(gpu: Gpu) -> dict[str, Any]:
    """Write a GPU as an inventory lists it."""

    def numbers(node: DeviceNode) -> dict[str, Any]:
        return {"path": node.path, "major": node.major, "minor": node.minor}

    companions = {"companions": [numbers(node) for node in gpu.companions]} if gpu.companions else {}
    return {"uuid": gpu.uuid, **numbers(gpu.node), **companions}


def install_gpus(cluster: Cluster, gpus: Mapping[str, Sequence[Mapping[str, Any]]], *, dying: bool = False) -> None:
    """
    Start device plugin and agent on these nodes.

    Args:
        dying: The agent heeds the orders of `dying_agent`.
    """
    for node in gpus:
        kubectl(cluster, "label", "node", node, f"{LABEL}=true", f"{MODEL}=Tesla-T4", "--overwrite")
    kubectl(cluster, "apply", "--server-side", "-k", str(_overlay(cluster, gpus, dying=dying)))


@contextmanager
def offering(
    cluster: Cluster, gpus: Mapping[str, Sequence[Mapping[str, Any]]], *, dying: bool = False
) -> Iterator[None]:
    """Have nodes offer these devices meanwhile, once this machine does; an agent that stays would hold it for good."""
    install_gpus(cluster, gpus, dying=dying)
    try:
        wait_for_gpus(cluster, HOST, len(gpus[HOST]))
        yield
    finally:
        remove_gpus(cluster)


def lend_here(cluster: Cluster, count: int, report: Callable[[str], None], *, real: bool = False) -> None:
    """
    Give this machine, a node, so many GPUs, with an agent and a class whose pods may borrow them.

    They are NVIDIA's where it has as many and *real* asks for them, and stand-ins elsewhere.

    Raises:
        ClusterError: It has fewer devices that can stand for one.
    """
    gpus = nvidia_gpus() if real else []
    gpus = gpus if len(gpus) >= count else stand_ins(HOST)
    if len(gpus) < count:
        raise ClusterError(f"this machine has {len(gpus)} devices that can stand for a GPU, and {count} are asked")
    report("a catalogue of it, a device plugin, and the agent on the node")
    folder = cluster.folder / "lent"
    folder.mkdir(exist_ok=True)
    head = {"apiVersion": "podsla.io/v1beta1", "metadata": {"name": "lent"}}
    size = {"name": "test.host.large", "vcpu": "2", "memory": "2Gi", "gpu": {"model": "T4", "count": count}}
    catalog = {**head, "kind": "SpecCatalog", "spec": {"sizes": [size], "classes": [_CLASS]}}
    (folder / "catalog.yaml").write_text(json.dumps(catalog))
    (folder / "target.yaml").write_text(json.dumps({**head, "kind": "Target", "spec": _TARGET}))
    describe(cluster, folder)
    install_gpus(cluster, {HOST: gpus[:count]})
    wait_for_gpus(cluster, HOST, count)


def wait_for_gpus(cluster: Cluster, node: str, count: int) -> None:
    """Wait until a node offers its devices, and its agent is there to give them."""
    path = r"jsonpath={.status.allocatable.nvidia\.com/gpu}=" + str(count)
    kubectl(cluster, "wait", f"node/{node}", f"--for={path}", f"--timeout={READY_S}s")
    agent = ("-l", "app.kubernetes.io/name=podsla-agent", f"--field-selector=spec.nodeName={node}")
    kubectl(cluster, "-n", AGENTS, "wait", "pod", *agent, "--for=condition=Ready", f"--timeout={READY_S}s")


def run_in_container(cluster: Cluster, node: str, container_id: str, script: str) -> bool:
    """Run a script in a container by way of its runtime, for no API server is needed there; whether it succeeds."""
    config, run = (cluster.data / HOST, host.RUN) if node == HOST else (vm.CONFIG, vm.NODE_RUN)
    ctr = [f"{config}/bin/ctr", f"--address={run}/containerd.sock", "--namespace=k8s.io", "tasks", "exec"]
    options = [f"--exec-id=try-{time.monotonic_ns()}", f"--fifo-dir={run}/fifo"]  # else it makes /run/containerd
    return RUNS[node]([*ctr, *options, container_id, "sh", "-c", script])


def remove_gpus(cluster: Cluster) -> None:
    """Take away what `install_gpus` brought; the nodes' capacity stays at 0."""
    kubectl(cluster, "delete", "-k", str(cluster.folder / "gpus"), "--ignore-not-found", f"--timeout={READY_S}s")
    kubectl(cluster, "label", "node", "--all", f"{LABEL}-", f"{MODEL}-")


def _overlay(cluster: Cluster, gpus: Mapping[str, Sequence[Mapping[str, Any]]], *, dying: bool) -> Path:
    """Write a kustomization over the component: the inventory from a file, and the plugin that agrees with it."""
    folder = cluster.folder / "gpus"
    folder.mkdir(exist_ok=True)
    kind = {"apiVersion": "podsla.io/v1beta1", "kind": "NodeInventory"}
    files = {f"{node}.yaml": json.dumps({**kind, "gpus": list(listed)}) for node, listed in gpus.items()}
    files |= {name: (Path(__file__).parent / name).read_text() for name in ("deviceplugin.py", "dradriver.py")}
    files["sitecustomize.py"] = (Path(__file__).parent / "dying_agent.py").read_text()
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": INVENTORY, "namespace": AGENTS}}
    (folder / "config.json").write_text(json.dumps({**config, "data": files}))
    (folder / "plugin.json").write_text(json.dumps(_plugin()))
    patch = [
        {
            "op": "add",
            "path": "/spec/template/spec/containers/0/args/-",
            "value": "--inventory=/gpus/$(NODE_NAME).yaml",
        },
        {
            "op": "add",
            "path": "/spec/template/spec/containers/0/volumeMounts/-",
            "value": {"name": "gpus", "mountPath": "/gpus"},
        },
        {"op": "add", "path": "/spec/template/spec/volumes/-", "value": _mounted()},
        {"op": "replace", "path": "/spec/template/spec/volumes/2/hostPath/path", "value": str(STATE)},
        {"op": "replace", "path": "/spec/template/spec/volumes/3/hostPath/path", "value": str(METRICS)},
    ]
    if dying:
        env = {"name": "PYTHONPATH", "value": "/gpus"}
        patch.append({"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": env})
    body = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["config.json", "plugin.json"],
        "components": [os.path.relpath(OVERLAYS.parent / "components" / "gpu-attach", folder)],
        "patches": [{"target": {"kind": "DaemonSet", "name": "podsla-agent"}, "patch": json.dumps(patch)}],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(body))
    return folder


def _mounted() -> dict[str, Any]:
    return {"name": "gpus", "configMap": {"name": INVENTORY}}


def _plugin() -> dict[str, Any]:
    labels = {"app": "test-gpus"}
    container = {
        "name": "plugin",
        "image": PODSLA,
        "imagePullPolicy": "Never",
        "command": ["python3", "/gpus/deviceplugin.py", "/gpus/$(NODE_NAME).yaml"],
        "env": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "gpus", "mountPath": "/gpus"}, {"name": "sockets", "mountPath": str(FOLDER)}],
    }
    spec = {
        "nodeSelector": {LABEL: "true"},
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [_mounted(), {"name": "sockets", "hostPath": {"path": str(FOLDER)}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "test-gpus", "namespace": AGENTS},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
