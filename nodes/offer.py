"""What a node of a size offers on a target: capacity that the scheduler counts, labels that placement reads. Pure.

Whoever publishes on nodes and whoever tells an autoscaler what nodes will publish must say the same, so both ask here.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from catalog.dimension import DIMENSIONS, RESERVABLE
from catalog.keys import FAMILY, GENERATION, GPU_SEATS, NODE_SIZE
from catalog.model import Catalog, SandboxSize
from catalog.problems import nearest
from catalog.target import Target


class UnknownSizeError(ValueError):
    """A name is no size and no family that the target can have."""


@dataclass(frozen=True, slots=True)
class NodeOffer:
    """
    What a node of one size publishes.

    Attributes:
        capacity: Extended resources in base units (packets/s, bits/s, operations/s, bytes/s, seats), by name.
        labels: Node labels, by key.
    """

    size: SandboxSize
    capacity: Mapping[str, int]
    labels: Mapping[str, str]


def node_offer(size: SandboxSize, target: Target) -> NodeOffer:
    """
    Say what a node of *size* publishes on *target*.

    A figure that nobody published is left out: 0 would be a promise of nothing, and would fail pods that the source
    does not speak of. CPU, memory and GPUs are the kubelet's and the device plugin's to publish.
    """
    figures = target.offer(size)
    capacity = {d.resource: figure for d in RESERVABLE if d.resource and (figure := figures[d.index]) is not None}
    if target.gpu and size.gpu_count:
        capacity[GPU_SEATS] = size.gpu_count * target.gpu.seats_percent // 100
    labels = {d.label: d.render(figure) for d in DIMENSIONS if d.label and (figure := figures[d.index]) is not None}
    if size.generation is not None:
        labels[GENERATION] = str(size.generation)
    labels |= {FAMILY: size.family, NODE_SIZE: size.name}
    return NodeOffer(size, dict(sorted(capacity.items())), dict(sorted(labels.items())))


def offers(catalog: Catalog, target: Target, only: Collection[str] = ()) -> tuple[NodeOffer, ...]:
    """
    Say what the nodes of this cluster publish, sorted by size.

    Args:
        catalog: The sizes that exist.
        target: Its nodeTypes, where it lists any, say which of them this cluster can have.
        only: Names of sizes or families to keep; empty: all of them.

    Raises:
        UnknownSizeError: A name of *only* is no size and no family that the target can have.
    """
    here = sorted((size for size in catalog.sizes if target.has(size)), key=lambda size: size.name)
    known = {size.name for size in here} | {size.family for size in here}
    for name in sorted(set(only) - known):
        raise UnknownSizeError(f"{name!r} is no size or family on target {target.name!r}; {nearest(name, known)}")
    return tuple(node_offer(size, target) for size in here if not only or size.name in only or size.family in only)
