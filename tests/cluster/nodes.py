"""Which nodes kwok plays: machines of published sizes, that offer what real ones would. Creates nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from catalog.dimension import MEMORY, VCPU
from catalog.model import Catalog, SandboxSize
from catalog.target import Target

# One size each of twelve families, which between them floor every dimension and hold three models of GPU; with further
# nodes the row begins anew. Sizes of one rank differ in what they are good for, as in a real cluster.
SIZES: Final = (
    "ecs.c7.2xlarge",
    "ecs.g7.4xlarge",
    "ecs.r7.2xlarge",
    "ecs.hfc7.2xlarge",  # 3.3 GHz
    "ecs.g7ne.4xlarge",  # packets: 3 million a second, 16 queues
    "ecs.gn6i-c4g1.xlarge",  # a T4
    "ecs.gn7i-c16g1.4xlarge",  # an A10
    "ecs.i3.2xlarge",  # local disks
    "ecs.gn6v-c8g1.8xlarge",  # four V100
    "ecs.c6e.2xlarge",
    "ecs.hfg7.4xlarge",
    "ecs.g6a.xlarge",  # no queues published
)
ANNOTATION: Final = "kwok.x-k8s.io/node"
ZONES: Final = ("zone-a", "zone-b", "zone-c")
# What kubelet and system keep. With the requests of the DaemonSets below, less than the shipped targets' nodeOverhead:
# a node offers a little more than sizes are counted with, as real ones do.
RESERVED_CPU_M: Final = 60
RESERVED_MEMORY_BYTES: Final = 700 << 20
DAEMONS: Final = {"node-logger": ("10m", "64Mi"), "node-metrics": ("10m", "64Mi")}
_EPHEMERAL_BYTES: Final = 100 << 30


def nodes(count: int, catalog: Catalog, target: Target) -> list[dict[str, Any]]:
    """
    Write *count* nodes, of the sizes above in turn.

    Args:
        catalog: The sizes' figures.
        target: How GPUs are asked for and how their label is spelt.
    """
    known = {size.name: size for size in catalog.sizes}
    sizes = [known[name] for name in SIZES]
    return [_node(index, sizes[index % len(sizes)], target) for index in range(count)]


def _node(index: int, size: SandboxSize, target: Target) -> dict[str, Any]:
    name = f"{size.name.replace('.', '-')}-{index // len(SIZES)}"
    gpus = _gpus(size, target)
    cpu_m, memory_bytes = size.figures[VCPU.index] or 0, size.figures[MEMORY.index] or 0
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {ANNOTATION: "fake"}, "labels": _labels(name, index, size, target)},
        "status": {
            "capacity": _resources(cpu_m, memory_bytes, _EPHEMERAL_BYTES) | gpus,
            "allocatable": _resources(
                cpu_m - RESERVED_CPU_M, memory_bytes - RESERVED_MEMORY_BYTES, _EPHEMERAL_BYTES * 9 // 10
            )
            | gpus,
            "nodeInfo": {**dict.fromkeys(_NODE_INFO, ""), "architecture": size.arch, "operatingSystem": "linux"},
        },
    }


_NODE_INFO: Final = (
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "osImage",
    "systemUUID",
)


def _labels(name: str, index: int, size: SandboxSize, target: Target) -> dict[str, str]:
    labels = {
        "type": "kwok",
        "node.kubernetes.io/instance-type": size.name,
        "kubernetes.io/arch": size.arch,
        "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": name,
        "topology.kubernetes.io/region": "region-1",
        "topology.kubernetes.io/zone": ZONES[index % len(ZONES)],
    }
    if target.gpu and size.gpu_count and size.gpu and size.gpu.model:
        labels[target.gpu.model_label] = target.gpu.spellings([size.gpu.model])[0]
    return labels


def _gpus(size: SandboxSize, target: Target) -> dict[str, str]:
    return {target.gpu.resource: str(size.gpu_count)} if target.gpu and size.gpu_count else {}


def _resources(cpu_m: int, memory_bytes: int, ephemeral_bytes: int) -> dict[str, str]:
    return {
        "cpu": f"{cpu_m}m",
        "memory": f"{memory_bytes >> 10}Ki",
        "ephemeral-storage": f"{ephemeral_bytes >> 10}Ki",
        "pods": "110",
    }


def daemon_sets(selector: Mapping[str, str], daemons: Mapping[str, Sequence[str]] = DAEMONS) -> list[dict[str, Any]]:
    """Write the DaemonSets that put a pod each on every kwok node, as logging and metrics agents do."""
    return [_daemon_set(name, cpu, memory, selector) for name, (cpu, memory) in daemons.items()]


def _daemon_set(name: str, cpu: str, memory: str, selector: Mapping[str, str]) -> dict[str, Any]:
    labels = {"app": name}
    container = {
        "name": name,
        "image": "registry.invalid/never-pulled",
        "resources": {"requests": {"cpu": cpu, "memory": memory}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": dict(selector),
                    "tolerations": [{"operator": "Exists"}],
                    "priorityClassName": "system-node-critical",
                    "containers": [container],
                },
            },
        },
    }
