"""What to write on nodes so that they publish what a node of their size offers. Pure.

A node's size is its label `podsla.io/node-size`, else its instance type. Capacity is written as allocatable too: a
kubelet copies it there by itself within seconds, and where there is none, as with simulated nodes, nobody else does.

A raised figure is followed at once. A lowered or withdrawn one is followed down to what pods bound to the node were
promised, and a label stays while a bound pod requires it: a kubelet that restarts admits its pods anew, and fails those
that its node does not hold any more (`OutOfpodsla.io/pps`, `NodeAffinity`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from catalog.dimension import DIMENSIONS
from catalog.keys import FAMILY, GENERATION, INSTANCE_TYPE, NODE_SIZE
from catalog.model import Catalog
from catalog.quantity import QuantityError, parse_integer, render_integer
from catalog.target import Target
from nodes.bound import RESOURCES, Bound, promised
from nodes.offer import NodeOffer, node_offer

# What is ours on a node: nothing else is ever written. NODE_SIZE is not: it is read, and written by whoever knows
# better than the instance type does; a copy of ours would outlive a change of that.
LABELS: Final = frozenset({FAMILY, GENERATION, *(d.label for d in DIMENSIONS if d.label)})
NOBODY: Final[Mapping[str, Sequence[Bound]]] = {}


@dataclass(frozen=True, slots=True)
class NodePatch:
    """
    What is to change on one node; None takes a key away.

    Attributes:
        labels: By key.
        capacity: Quantities of extended resources, by name.
        allocatable: As capacity.
        version: The resourceVersion of the node that this was planned for; "" where it has none.
        takes: It withdraws, lowers or changes something that pods on the node may lean on.
    """

    node: str
    labels: Mapping[str, str | None]
    capacity: Mapping[str, str | None]
    allocatable: Mapping[str, str | None]
    version: str = ""
    takes: bool = field(default=False, compare=False)

    @property
    def body(self) -> dict[str, Any]:
        """
        Write a JSON merge patch of the node's status subresource; empty where nothing changes.

        It takes labels too, as kubelets know, so that a pod which the labels bring finds what it reserves.
        """
        fields = {"capacity": dict(self.capacity), "allocatable": dict(self.allocatable)}
        changed = {key: value for key, value in fields.items() if value}
        metadata = {"metadata": {"labels": dict(self.labels)}} if self.labels else {}
        return {**metadata, **({"status": changed} if changed else {})}


@dataclass(frozen=True, slots=True)
class Held:
    """
    What a node publishes beyond what it offers, for the sake of pods that are bound to it.

    Attributes:
        size: Of the node; "" where nothing says.
        key: A resource or a label.
        offered: What it would publish without them; None: nothing.
        published: What it publishes.
    """

    node: str
    size: str
    key: str
    offered: str | None
    published: str


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What to write so that nodes publish what they offer.

    Attributes:
        patches: One for each node that differs, in the order of the nodes.
        unknown: Sizes that nodes name and no catalogue has, sorted.
        unknown_nodes: How many nodes name one of them.
        held: What is not withdrawn yet.
    """

    patches: tuple[NodePatch, ...]
    unknown: tuple[str, ...]
    unknown_nodes: int
    held: tuple[Held, ...] = ()


def plan(
    nodes: Iterable[Mapping[str, Any]],
    catalog: Catalog,
    target: Target,
    bound: Mapping[str, Sequence[Bound]] = NOBODY,
) -> Plan:
    """
    Compare what nodes publish with what they offer; no patches once they agree.

    A node of an unknown size, or of one that the target cannot have, offers nothing: what was published is withdrawn.

    Args:
        nodes: As the API server has them; name, labels, capacity and allocatable are read.
        catalog: What serves; an empty one withdraws everything.
        target: What this cluster has.
        bound: Pods that are bound, by node.
    """
    nodes = list(nodes)
    named = {size_of(node) for node in nodes}  # often one of hundreds
    sizes = {size.name: size for size in catalog.sizes if size.name in named}
    offers = {name: node_offer(size, target) for name, size in sizes.items() if target.has(size)}
    patches: list[NodePatch] = []
    unknown: list[str] = []
    held: list[Held] = []
    for node in nodes:
        size = size_of(node)
        if size is not None and size not in sizes:
            unknown.append(size)
        patch, kept = _patch(node, offers.get(size or ""), bound.get(node["metadata"]["name"], ()))
        if patch.labels or patch.capacity or patch.allocatable:
            patches.append(patch)
        held += kept
    return Plan(tuple(patches), tuple(sorted(set(unknown))), len(unknown), tuple(held))


def give_back(node: Mapping[str, Any], written: NodePatch, needed: NodePatch | None) -> NodePatch | None:
    """
    Put back what a write took away, and a pod that was bound meanwhile needs; None: nothing.

    Args:
        node: As it was before.
        needed: What would have been written had that pod been seen; None: nothing at all.
    """
    status = node.get("status") or {}
    before = (node["metadata"].get("labels") or {}, status.get("capacity") or {}, status.get("allocatable") or {})
    did = (written.labels, written.capacity, written.allocatable)
    due = (needed.labels, needed.capacity, needed.allocatable) if needed is not None else ({}, {}, {})
    labels, capacity, allocatable = (
        {key: wanted for key in changes if (wanted := right.get(key, old.get(key))) != changes[key]}
        for old, changes, right in zip(before, did, due, strict=True)
    )
    return NodePatch(written.node, labels, capacity, allocatable) if labels or capacity or allocatable else None


def size_of(node: Mapping[str, Any]) -> str | None:
    """Find the name of the node's size; None where nothing says."""
    labels = node["metadata"].get("labels") or {}
    return labels.get(NODE_SIZE) or labels.get(INSTANCE_TYPE) or None


def _patch(
    node: Mapping[str, Any], offer: NodeOffer | None, bound: Sequence[Bound]
) -> tuple[NodePatch, Sequence[Held]]:
    name, present = node["metadata"]["name"], node["metadata"].get("labels") or {}
    status = node.get("status") or {}
    capacity, allocatable = status.get("capacity") or {}, status.get("allocatable") or {}
    up = "cpu" in capacity  # what a node publishes first must come from itself, or nobody fills in the rest
    labels = {key: value for key, value in offer.labels.items() if key in LABELS} if offer else {}
    figures = offer.capacity if offer else {}
    kept_labels = _kept_labels(name, present, labels, bound)
    floors = promised(bound) if bound else {}
    new_labels = _changes(LABELS, present, {**labels, **kept_labels})
    new_capacity = _figure_changes(capacity, figures, floors) if up else {}
    new_allocatable = _figure_changes(allocatable, figures, floors) if up else {}
    patch = NodePatch(
        node=name,
        labels=new_labels,
        capacity=new_capacity,
        allocatable=new_allocatable,
        version=node["metadata"].get("resourceVersion", ""),
        takes=not present.keys().isdisjoint(new_labels)
        or _lowers(capacity, new_capacity)
        or _lowers(allocatable, new_allocatable),
    )
    beyond = _beyond(capacity, figures, floors) if up else {}
    kept_figures = {key: render_integer(figure) for key, figure in beyond.items()}
    offered = {**labels, **{key: render_integer(figure) for key, figure in figures.items()}}
    kept = {**kept_figures, **kept_labels}
    return patch, [Held(name, size_of(node) or "", key, offered.get(key), text) for key, text in sorted(kept.items())]


def _kept_labels(
    node: str, present: Mapping[str, str], wanted: Mapping[str, str], bound: Sequence[Bound]
) -> dict[str, str]:
    """Find the labels that stay as they are, since a bound pod requires them so."""
    kept: dict[str, str] = {}
    changing = {key: present[key] for key in LABELS & present.keys() if present[key] != wanted.get(key)}
    if not changing:
        return kept
    others = {key: value for key, value in present.items() if key not in LABELS}
    for pod in bound:
        if pod.needs(node, present, {**others, **wanted, **kept}):
            kept |= {key: value for key, value in changing.items() if key in pod.keys}
    return kept


def _beyond(published: Mapping[str, Any], figures: Mapping[str, int], floors: Mapping[str, int]) -> dict[str, int]:
    """
    Find what stays published above what is offered: what bound pods were promised, of what is there.

    What was never published is not raised for the sake of a pod that nobody scheduled.
    """
    found: dict[str, int] = {}
    for resource in RESOURCES & floors.keys() & published.keys():
        least = min(_integer(published[resource]), floors[resource])
        if least > figures.get(resource, 0):
            found[resource] = least
    return found


def _figure_changes(
    published: Mapping[str, Any], figures: Mapping[str, int], floors: Mapping[str, int]
) -> dict[str, str | None]:
    """Compare quantities by what they mean: "950000" is "950k"."""
    figures = {**figures, **_beyond(published, figures, floors)}
    wanted = {resource: render_integer(figure) for resource, figure in figures.items()}
    read = {resource: _spelt(published[resource]) for resource in RESOURCES & published.keys()}
    return _changes(RESOURCES, read, wanted)


def _lowers(published: Mapping[str, Any], changes: Mapping[str, str | None]) -> bool:
    old = {key: _integer(published[key]) for key in changes.keys() & published.keys()}
    return any(figure > _integer(changes[key] or "0") for key, figure in old.items())


def _integer(quantity: Any) -> int:
    try:
        return parse_integer(quantity)
    except QuantityError:
        return 0


def _spelt(quantity: Any) -> str:
    try:
        return render_integer(parse_integer(quantity))
    except QuantityError:
        return ""  # differs from any figure


def _changes(ours: frozenset[str], found: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str | None]:
    return {key: wanted.get(key) for key in sorted(ours) if found.get(key) != wanted.get(key)}
