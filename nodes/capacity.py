"""What to write on nodes so that they publish what a node of their size offers. Pure.

A node's size is its label `podsla.io/node-size`, else its instance type. Capacity is written as allocatable too: a
kubelet copies it there by itself within seconds, and where there is none, as with simulated nodes, nobody else does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from catalog.dimension import DIMENSIONS, RESERVABLE
from catalog.keys import FAMILY, GENERATION, GPU_SEATS, INSTANCE_TYPE, NODE_SIZE
from catalog.model import Catalog
from catalog.quantity import QuantityError, parse_integer, render_integer
from catalog.target import Target
from nodes.offer import NodeOffer, node_offer

# What is ours on a node: nothing else is ever written. NODE_SIZE is not: it is read, and written by whoever knows
# better than the instance type does; a copy of ours would outlive a change of that.
LABELS: Final = frozenset({FAMILY, GENERATION, *(d.label for d in DIMENSIONS if d.label)})
RESOURCES: Final = frozenset({GPU_SEATS, *(d.resource for d in RESERVABLE if d.resource)})


@dataclass(frozen=True, slots=True)
class NodePatch:
    """
    What is to change on one node; None takes a key away.

    Attributes:
        labels: By key.
        capacity: Quantities of extended resources, by name.
        allocatable: As capacity.
    """

    node: str
    labels: Mapping[str, str | None]
    capacity: Mapping[str, str | None]
    allocatable: Mapping[str, str | None]

    @property
    def metadata_patch(self) -> dict[str, Any]:
        """Write a JSON merge patch of the node; empty where nothing changes."""
        return {"metadata": {"labels": dict(self.labels)}} if self.labels else {}

    @property
    def status_patch(self) -> dict[str, Any]:
        """Write a JSON merge patch of the node's status subresource; empty where nothing changes."""
        fields = {"capacity": dict(self.capacity), "allocatable": dict(self.allocatable)}
        changed = {key: value for key, value in fields.items() if value}
        return {"status": changed} if changed else {}


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What to write so that nodes publish what they offer.

    Attributes:
        patches: One for each node that differs, in the order of the nodes.
        unknown: Sizes that nodes name and no catalogue has, sorted.
        unknown_nodes: How many nodes name one of them.
    """

    patches: tuple[NodePatch, ...]
    unknown: tuple[str, ...]
    unknown_nodes: int


def plan(nodes: Iterable[Mapping[str, Any]], catalog: Catalog, target: Target) -> Plan:
    """
    Compare what nodes publish with what they offer; no patches once they agree.

    A node of an unknown size, or of one that the target cannot have, offers nothing: what was published is withdrawn.

    Args:
        nodes: As the API server has them; name, labels, capacity and allocatable are read.
        catalog: What serves; an empty one withdraws everything.
        target: What this cluster has.
    """
    offers = {size.name: node_offer(size, target) for size in catalog.sizes if target.has(size)}
    known = {size.name for size in catalog.sizes}
    patches: list[NodePatch] = []
    unknown: list[str] = []
    for node in nodes:
        size = size_of(node)
        if size is not None and size not in known:
            unknown.append(size)
        patch = _patch(node, offers.get(size or ""))
        if patch.labels or patch.capacity or patch.allocatable:
            patches.append(patch)
    return Plan(tuple(patches), tuple(sorted(set(unknown))), len(unknown))


def size_of(node: Mapping[str, Any]) -> str | None:
    """Find the name of the node's size; None where nothing says."""
    labels = node["metadata"].get("labels") or {}
    return labels.get(NODE_SIZE) or labels.get(INSTANCE_TYPE) or None


def _patch(node: Mapping[str, Any], offer: NodeOffer | None) -> NodePatch:
    status = node.get("status") or {}
    capacity, allocatable = status.get("capacity") or {}, status.get("allocatable") or {}
    up = "cpu" in capacity  # what a node publishes first must come from itself, or nobody fills in the rest
    labels = {key: value for key, value in offer.labels.items() if key in LABELS} if offer else {}
    figures = offer.capacity if offer else {}
    return NodePatch(
        node=node["metadata"]["name"],
        labels=_changes(LABELS, node["metadata"].get("labels") or {}, labels),
        capacity=_figure_changes(capacity, figures) if up else {},
        allocatable=_figure_changes(allocatable, figures) if up else {},
    )


def _figure_changes(published: Mapping[str, Any], figures: Mapping[str, int]) -> dict[str, str | None]:
    """Compare quantities by what they mean: "950000" is "950k"."""
    wanted = {resource: render_integer(figure) for resource, figure in figures.items()}
    read = {resource: _spelt(published[resource]) for resource in RESOURCES & published.keys()}
    return _changes(RESOURCES, read, wanted)


def _spelt(quantity: Any) -> str:
    try:
        return render_integer(parse_integer(quantity))
    except QuantityError:
        return ""  # differs from any figure


def _changes(ours: frozenset[str], found: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str | None]:
    return {key: wanted.get(key) for key in sorted(ours) if found.get(key) != wanted.get(key)}
