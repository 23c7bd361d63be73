"""What pods were promised of each node, counted as the scheduler counts it. Pure.

A pod counts from when it is bound until it is over; its requests count, never what it uses.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from catalog.demand import CPU, RAM, amounts, requested
from catalog.keys import CLASS, RECORD
from catalog.pod import read_pod
from catalog.quantity import QuantityError, parse_cpu_m, parse_integer, render_bytes, render_cpu_m, render_integer
from nodes.capacity import size_of

PODS: Final = "pods"
_OVER: Final = ("Succeeded", "Failed")
_OF_A_NODE: Final = ("DaemonSet", "Node")  # the second owns mirror pods
_OF_CONTAINERS: Final = ("resources", "restartPolicy")
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Held:
    """
    What one bound pod holds of its node.

    Attributes:
        sla_class: By its record, else by its annotation; "" where it has none.
        amounts: By resource, CPU in millicores, everything else in base units; one of `PODS`.
        fixed: It belongs to its node, as a DaemonSet's pod does, and would come back at once.
    """

    namespace: str
    name: str
    node: str
    sla_class: str
    amounts: Mapping[str, int]
    fixed: bool = False

    @property
    def title(self) -> str:
        """Namespace and name."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """
    What a node has for pods, and who holds how much of it.

    Attributes:
        node_type: Its `podsla.io/node-size`, else its instance type; "" where nothing says.
        allocatable: What pods may have of it, by resource.
        promised: The sum of what *pods* hold.
    """

    node: str
    node_type: str
    allocatable: Mapping[str, int]
    promised: Mapping[str, int]
    pods: tuple[Held, ...]

    def free(self, resource: str) -> int:
        """What may still be promised; below 0 where too much is."""
        return self.allocatable.get(resource, 0) - self.promised.get(resource, 0)

    def over(self, resource: str) -> bool:
        """Whether more is promised than the node has, as where a figure was lowered under running pods."""
        return self.free(resource) < 0


def requests_of(pod: Mapping[str, Any]) -> Mapping[str, int]:
    """Sum what the scheduler counts for a pod: containers, pod-level resources, overhead, and the pod itself as one."""
    spec = pod["spec"]
    counted = {key: spec.get(key) for key in ("resources", "overhead")}
    for group in ("initContainers", "containers"):
        counted[group] = [{key: one.get(key) for key in _OF_CONTAINERS} for one in spec.get(group) or ()]
    return _requests(orjson.dumps(counted))


@lru_cache(maxsize=1 << 10)
def _requests(counted: bytes) -> Mapping[str, int]:
    """Sum the requests of the parts of a spec that count; thousands of pods are made alike."""
    subject = read_pod({"spec": orjson.loads(counted)})
    total = dict(requested(subject))
    for resource, more in amounts(subject.overhead).items():
        total[resource] = total.get(resource, 0) + more
    return {resource: amount for resource, amount in {**total, PODS: 1}.items() if amount}


def is_over(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has ended, and holds nothing any more."""
    return (pod.get("status") or {}).get("phase") in _OVER


def class_of(pod: Mapping[str, Any]) -> str:
    """Find the class that serves a pod: that of its record (a fallback may serve), else the one that it names."""
    annotations = pod["metadata"].get("annotations") or {}
    try:
        served = orjson.loads(annotations[RECORD])["class"]
    except (KeyError, TypeError, ValueError):
        served = None
    return str(served or annotations.get(CLASS) or "")


def held_by(pod: Mapping[str, Any]) -> Held:
    """Read what a bound pod holds."""
    metadata = pod["metadata"]
    owners = {owner.get("kind") for owner in metadata.get("ownerReferences") or ()}
    return Held(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        node=pod["spec"]["nodeName"],
        sla_class=class_of(pod),
        amounts=requests_of(pod),
        fixed=not owners.isdisjoint(_OF_A_NODE),
    )


def usage(nodes: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> tuple[NodeUsage, ...]:
    """
    Sum what is promised of each node, in the order of the nodes.

    Args:
        nodes: As the API server has them.
        pods: All of them, bound or not; those that are over, or on no node of *nodes*, count nowhere.
    """
    nodes = list(nodes)
    by_node: dict[str, list[Held]] = {node["metadata"]["name"]: [] for node in nodes}
    for pod in pods:
        if pod["spec"].get("nodeName") in by_node and not is_over(pod):
            by_node[pod["spec"]["nodeName"]].append(held_by(pod))
    return tuple(_usage(node, by_node[node["metadata"]["name"]]) for node in nodes)


def _usage(node: Mapping[str, Any], held: Iterable[Held]) -> NodeUsage:
    held = tuple(held)
    allocatable = read_amounts((node.get("status") or {}).get("allocatable") or {})
    return NodeUsage(node["metadata"]["name"], size_of(node) or "", allocatable, total(held), held)


def read_amounts(quantities: Mapping[str, Any]) -> dict[str, int]:
    """Read quantities of a node as integers; one that cannot be read counts as none."""
    found = {}
    for resource, quantity in quantities.items():
        try:
            found[resource] = parse_cpu_m(quantity) if resource == CPU else parse_integer(quantity)
        except QuantityError:
            found[resource] = 0
    return found


def total(held: Iterable[Held]) -> dict[str, int]:
    """Sum what pods hold, by resource."""
    sums: dict[str, int] = {}
    for one in held:
        for resource, amount in one.amounts.items():
            sums[resource] = sums.get(resource, 0) + amount
    return sums


def render_amount(resource: str, amount: int) -> str:
    """Write an amount for a person: CPU as cores, bytes in whole Mi, everything else as the API server would."""
    if resource == CPU:
        return render_cpu_m(amount)
    if resource in (RAM, "ephemeral-storage") or resource.startswith("hugepages-"):
        return render_bytes(amount // _MIB * _MIB) if amount >= _MIB else render_bytes(max(amount, 0))
    return render_integer(amount) if amount >= 0 else f"-{render_integer(-amount)}"
