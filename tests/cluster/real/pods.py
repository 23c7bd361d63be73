"""EDGE: pods on real nodes: made, waited for, looked into."""

from collections.abc import Mapping
from typing import Any, Final

from kube.api import Object
from kube.kinds import PODS
from tests.cluster import host, vm
from tests.cluster.archives import PAUSE
from tests.cluster.nodeconfig import HOST, VM
from tests.cluster.state import Cluster
from tests.system.user import User
from tests.waiting import eventually

RUNNING_S: Final = 180.0  # software emulation on a busy machine
NAMESPACE: Final = "default"
# By runtime handler. All three run runc here: what RuntimeClass does can be seen all the same.
OVERHEAD: Final = {
    "runc": {"cpu": "20m", "memory": "16Mi"},
    "rund": {"cpu": "250m", "memory": "160Mi"},
    "rune": {"cpu": "50m", "memory": "64Mi"},
}
# By class, what the pod itself asks for: see catalog.yaml.
GUARANTEED: Final = {"limits": {"cpu": "200m", "memory": "64Mi"}}
CLASSES: Final[Mapping[str, Any]] = {"packets": GUARANTEED, "enclave": GUARANTEED, "clock": {}}


def create_pod(
    user: User, name: str, node: str, container: dict[str, Any], namespace: str = NAMESPACE, **spec: Any
) -> None:
    """Create a pod on a node."""
    meta = {"name": name, "namespace": namespace, "labels": {"name": name}}
    main = {"name": "main", "imagePullPolicy": "Never", **container}
    chosen = {"nodeSelector": {"kubernetes.io/hostname": node}, "terminationGracePeriodSeconds": 0}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {**chosen, "containers": [main], **spec}}
    done = user.apply(body)
    assert done.returncode == 0, done.stderr


def wait_running(user: User, name: str, namespace: str = NAMESPACE) -> Object:
    """Wait until a pod runs."""

    def running() -> Object | None:
        pod = user.api.get(PODS, name, namespace)
        return pod if pod is not None and pod["status"].get("phase") == "Running" else None

    found = eventually(running, f"pod {name} runs", RUNNING_S)
    assert found is not None
    return found


def restart_kubelets(user: User, cluster: Cluster, mark: str) -> None:
    """Restart both kubelets, and wait until each has admitted its pods anew: those that it had, then one more."""
    host.restart_kubelet(cluster)
    vm.restart_kubelet()
    names = {node: f"{mark}-{node}" for node in (HOST, VM)}
    for node, name in names.items():
        create_pod(user, name, node, {"image": PAUSE})
    for name in names.values():
        wait_running(user, name)


def running(user: User, pods: Mapping[str, Object]) -> dict[str, tuple[str, str, int]]:
    """How each of these very pods runs, whatever was done to it before."""
    found = {name: state(user, name) for name in pods}
    assert all(found[name][:2] == (pod["metadata"]["uid"], "Running") for name, pod in pods.items()), found
    return found


def state(user: User, name: str) -> tuple[str, str, int]:
    """Which pod it is, its phase, and how often its container was restarted."""
    pod = user.api.get(PODS, name, NAMESPACE)
    assert pod is not None
    (container,) = pod["status"]["containerStatuses"]
    return pod["metadata"]["uid"], pod["status"]["phase"], container["restartCount"]


def run_in(user: User, pod: str, *argv: str, namespace: str = NAMESPACE, container: str = "main") -> str:
    """Run a program in a container of a pod; its output."""
    done = user.kubectl("-n", namespace, "exec", pod, "-c", container, "--", *argv)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
