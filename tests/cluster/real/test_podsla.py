"""podsla as it is shipped, in pods on a real node: pods that name a class, and nothing else, run as was promised."""

import json
from collections.abc import Mapping
from subprocess import run
from typing import Any, Final, NamedTuple

import pytest

from catalog.keys import RECORD, SIZE
from catalog.quantity import parse_cpu_m
from kube.api import Object
from kube.kinds import NODES, PODS
from tests.cluster import vm
from tests.cluster.archives import AGNHOST, PAUSE
from tests.cluster.nodeconfig import HOST, VM
from tests.cluster.real.pods import NAMESPACE, OVERHEAD, create_pod
from tests.system.user import User
from tests.waiting import eventually

pytestmark = pytest.mark.nodes

SYSTEM: Final = "podsla-system"
PERIOD_US: Final = 100_000
# A line each of path and value; version 1 has a folder for each controller.
READ_CGROUPS: Final = """
find /sys/fs/cgroup -maxdepth 4 -type d '(' -name "$1" -o -name "$2" ')' | while read -r folder; do
  (cd "$folder" && grep -sH . cpu.max cpu.cfs_quota_us memory.max memory.limit_in_bytes || true)
done
"""
PLAIN: Final = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "main", "image": AGNHOST}]}}


class Case(NamedTuple):
    """A pod, and what becomes of it. CPU in millicores and memory in MiB are the limits of the pod's own cgroup."""

    runtime: str
    node: str
    cpu_m: int
    memory_mib: int


# By class; see catalog.yaml. Kubernetes adds a runtime's overhead to the limits of a pod's cgroup.
CASES: Final = {
    "packets": Case("runc", HOST, 300 + 20, 96 + 16),  # raised to the class's floor, and what the runtime costs
    "enclave": Case("rune", VM, 200 + 50, 64 + 64),  # above the floor: as it was, and the sandbox's cost
    "clock": Case("rund", VM, 1000, 1024),  # all of its size, that is 2 vCPU and 2 GiB less the node's overhead
}


def test_every_replica_runs_as_pod_security_restricted_wants_and_was_never_restarted(installed: User) -> None:
    """So neither probes nor network policies hold anything up; of the latter, no plugin here enforces any."""
    pods = list(installed.api.list(PODS, SYSTEM))

    assert sorted(pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods) == [
        *("podsla-controller", "podsla-controller", "podsla-webhook", "podsla-webhook"),
    ]
    for pod in pods:
        (status,) = pod["status"]["containerStatuses"]
        assert (status["ready"], status["restartCount"]) == (True, 0), pod["metadata"]["name"]
    privileged = ("run", "root", "--image=x", "--privileged", "-n", SYSTEM, "--dry-run=server")
    assert 'violates PodSecurity "restricted:latest"' in installed.kubectl(*privileged).stderr


@pytest.mark.parametrize(
    ("name", "labels", "capacity"),
    [
        (HOST, {"base-mhz": "2500", "nic-queues": "8"}, {"pps": "950k", "disk-iops": "19k"}),
        (VM, {"base-mhz": "3500", "nic-queues": "2"}, {"pps": "285k", "disk-iops": "38k"}),
    ],
)
def test_a_kubelet_keeps_what_the_controller_publishes_and_makes_it_allocatable(
    installed: User, name: str, labels: dict[str, str], capacity: dict[str, str]
) -> None:
    """The kubelet writes labels and capacity of its node too."""

    def node() -> Object:
        found = installed.api.get(NODES, name)
        assert found is not None
        return found

    eventually(lambda: ours(node()["metadata"]["labels"], labels) == labels, f"labels of {name}")
    for field in ("capacity", "allocatable"):
        eventually(lambda field=field: ours(node()["status"][field], capacity) == capacity, f"{field} of {name}")  # type: ignore[misc]


def ours(figures: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str | None]:
    """Pick some of podsla's figures of a node."""
    return {name: figures.get(f"podsla.io/{name}") for name in names}


@pytest.mark.parametrize("name", CASES)
def test_a_pod_that_names_a_class_runs_where_and_as_the_class_says(classed: dict[str, Object], name: str) -> None:
    """It was sent to the webhook through its Service, and came back with size, runtime and record."""
    pod, case = classed[name], CASES[name]

    assert pod["spec"]["nodeName"] == case.node
    assert pod["metadata"]["labels"][SIZE] == f"test.{case.node}.large"
    assert json.loads(pod["metadata"]["annotations"][RECORD])["class"] == name
    assert pod["spec"].get("runtimeClassName") == case.runtime
    assert pod["spec"].get("overhead") == OVERHEAD[case.runtime]


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_holds_a_pod_to_its_limits(classed: dict[str, Object], name: str) -> None:
    """In cgroups of version 1, as this machine has them, and of version 2, as the virtual one has."""
    case = CASES[name]

    quota_us, memory_bytes = cgroup_limits(classed[name])

    assert (quota_us * 1000 / PERIOD_US, memory_bytes / (1 << 20)) == (case.cpu_m, case.memory_mib)


def test_the_network_plugin_limits_what_the_class_says(classed: dict[str, Object]) -> None:
    """In both directions, by a token bucket on the node's side of each link."""
    shown = run(["tc", "qdisc", "show"], capture_output=True, text=True, check=True).stdout

    rates = [line.partition(" rate ")[2].split()[0] for line in shown.splitlines() if " tbf " in line]
    assert rates == ["100Mbit", "100Mbit"]


def cgroup_limits(pod: Object) -> tuple[int, int]:
    """Read the CPU quota in µs of a period, and the memory limit in bytes, of a pod's own cgroup."""
    uid = pod["metadata"]["uid"]
    argv = ["sh", "-c", READ_CGROUPS, "sh", f"pod{uid}", f"*pod{uid.replace('-', '_')}.slice"]
    on_vm = pod["spec"]["nodeName"] == VM
    text = vm.run(argv).output if on_vm else run(argv, capture_output=True, text=True, check=True).stdout
    found = {path.rpartition("/")[2]: value for path, _, value in (line.partition(":") for line in text.splitlines())}
    if "cpu.max" in found:
        return int(found["cpu.max"].split()[0]), int(found["memory.max"])
    return int(found["cpu.cfs_quota_us"]), int(found["memory.limit_in_bytes"])


def test_the_scheduler_counts_what_is_reserved(installed: User, classed: dict[str, Object]) -> None:
    """A second pod like the first would overbook the packets of the one node that has them."""
    body = {**PLAIN, "metadata": {"name": "packets-2", "annotations": {"podsla.io/class": "packets"}}}
    assert installed.apply(body).returncode == 0

    assert "1 Insufficient podsla.io/pps" in refusal(installed, "packets-2")


def test_the_scheduler_counts_what_a_sandbox_costs_beside_its_containers(
    installed: User, classed: dict[str, Object]
) -> None:
    """A pod is refused that would find room twice over, were overhead not counted."""
    here = [pod["spec"] for pod in classed.values() if pod["spec"]["nodeName"] == VM]
    costs_m = [parse_cpu_m(spec["overhead"]["cpu"]) for spec in here]
    asked_m = free_cpu_m(installed, VM) + sum(costs_m) // 2
    create_pod(installed, "large", VM, {"image": PAUSE, "resources": {"requests": {"cpu": f"{asked_m}m"}}})

    assert "1 Insufficient cpu" in refusal(installed, "large")


def free_cpu_m(user: User, node: str) -> int:
    """CPU of a node that neither containers, nor pods as a whole, nor their sandboxes request; in millicores."""
    found = user.api.get(NODES, node)
    assert found is not None
    specs = [pod["spec"] for pod in user.api.list(PODS, fieldSelector=f"spec.nodeName={node}")]
    return parse_cpu_m(found["status"]["allocatable"]["cpu"]) - sum(map(cpu_requested_m, specs))


def cpu_requested_m(spec: Mapping[str, Any]) -> int:
    """Sum a pod up as Kubernetes documents it, for pods without init containers."""
    whole = spec.get("resources", {}).get("requests", {}).get("cpu")
    each = [container.get("resources", {}).get("requests", {}).get("cpu", "0") for container in spec["containers"]]
    return sum(map(parse_cpu_m, [*([whole] if whole else each), spec.get("overhead", {}).get("cpu", "0")]))


def refusal(user: User, name: str) -> str:
    """Wait for the scheduler's word on a pod that no node takes."""

    def said() -> str:
        pod = user.api.get(PODS, name, NAMESPACE)
        assert pod is not None
        (condition,) = (c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
        return str(condition.get("message", ""))

    return eventually(said, f"a word on {name}")
