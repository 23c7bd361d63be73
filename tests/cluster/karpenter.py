"""EDGE: Karpenter with its kwok provider: an autoscaler that buys nodes which kwok plays."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from catalog.dimension import MEMORY, VCPU
from catalog.load import SHIPPED_CATALOG, load_catalog
from catalog.model import SandboxSize
from tests.cluster.api import Admin
from tests.cluster.network import LOOPBACK
from tests.cluster.nodes import SIZES, ZONES
from tests.cluster.pins import KARPENTER_CRDS
from tests.cluster.processes import start, wait_ready
from tests.cluster.state import Cluster

PORTS: Final = ("karpenter", "karpenter-metrics")
NODE_POOL: Final = {
    "apiVersion": "karpenter.sh/v1",
    "kind": "NodePool",
    "metadata": {"name": "every-type"},
    "spec": {
        "template": {
            "spec": {
                "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "kwok"},
                "requirements": [
                    {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
                ],
            }
        },
        "disruption": {"consolidateAfter": "Never"},
    },
}
NODE_CLASS: Final = {
    "apiVersion": "karpenter.kwok.sh/v1alpha1",
    "kind": "KWOKNodeClass",
    "metadata": {"name": "kwok"},
}


def instance_types(sizes: Iterable[SandboxSize]) -> list[dict[str, Any]]:
    """
    Write the types that can be bought, as a cloud tells them: CPU, memory and price, and nothing that podsla publishes.

    Source:
        karpenter, kwok/cloudprovider/helpers.go, InstanceTypeOptions.
    """
    return [
        {
            "name": size.name,
            "architecture": size.arch,
            "operatingSystems": ["linux"],
            "resources": {
                "cpu": f"{size.figures[VCPU.index]}m",
                "memory": str(size.figures[MEMORY.index]),
                "ephemeral-storage": "100Gi",
            },
            "offerings": [
                {
                    "Price": size.cost_m / 1000,
                    "Available": True,
                    "Requirements": [
                        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
                        {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]},
                    ],
                }
                for zone in ZONES
            ],
        }
        for size in sizes
    ]


def start_karpenter(cluster: Cluster, binaries: Mapping[str, Path], report: Callable[[str], None]) -> None:
    """
    Start Karpenter with the types of the simulated nodes, and a pool that may buy any of them; no node is there yet.

    Raises:
        ClusterError: It did not become ready.
    """
    report("Karpenter")
    admin = Admin(cluster)
    crds = [yaml.safe_load(file.read_text()) for file in sorted(binaries[KARPENTER_CRDS].glob("*.yaml"))]
    admin.create_all("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crds)
    known = {size.name: size for size in load_catalog([SHIPPED_CATALOG]).sizes}
    types = cluster.data / "karpenter-types.json"
    types.write_text(json.dumps(instance_types(known[name] for name in SIZES)))
    flags = [
        f"--instance-types-file-path={types}",
        f"--health-probe-port={cluster.ports['karpenter']}",
        f"--metrics-port={cluster.ports['karpenter-metrics']}",
        "--disable-leader-election=true",
        "--feature-gates=NodeOverlay=true",
        "--batch-idle-duration=200ms",
        "--log-level=info",
    ]
    env = {"KUBECONFIG": str(cluster.kubeconfig), "SYSTEM_NAMESPACE": "kube-system"}
    process = start(cluster, "karpenter", [binaries["karpenter"], *flags], env=env)
    url = f"http://{LOOPBACK}:{cluster.ports['karpenter']}/readyz"
    wait_ready(cluster, "Karpenter", lambda: admin.answers(url), process)
    admin.create("/apis/karpenter.kwok.sh/v1alpha1/kwoknodeclasses", NODE_CLASS)
    admin.create("/apis/karpenter.sh/v1/nodepools", NODE_POOL)
