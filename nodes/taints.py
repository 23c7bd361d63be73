"""Which nodes lose a taint of podsla's, or get one. Pure."""

from collections.abc import Container, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from catalog.keys import QUARANTINED
from nodes.export import STARTUP_TAINT


@dataclass(frozen=True, slots=True)
class Retaint:
    """
    A node whose taints are to change.

    Attributes:
        taints: All that it is to have; those that others gave it stay.
        version: That of the node as it was read.
    """

    node: str
    taints: tuple[Mapping[str, Any], ...]
    version: str

    @property
    def body(self) -> dict[str, Any]:
        """Write a JSON merge patch of the node; one of that version, since it replaces the list."""
        return {"spec": {"taints": [dict(taint) for taint in self.taints]}}


def started(nodes: Iterable[Mapping[str, Any]], waiting: Set[str]) -> Iterator[Retaint]:
    """
    Find nodes that say what they offer, and still have the taint; of a type that nobody knows, one offers nothing.

    Args:
        nodes: As the API server has them; name, version, capacity and taints are read.
        waiting: Names of nodes that do not say it yet.
    """
    for node in nodes:
        up = "cpu" in ((node.get("status") or {}).get("capacity") or {})
        if up and node["metadata"]["name"] not in waiting and _has(node, STARTUP_TAINT):
            yield _retaint(node, _without(node, STARTUP_TAINT))


def quarantine(nodes: Iterable[Mapping[str, Any]], unreserved: Container[str]) -> Iterator[Retaint]:
    """
    Find nodes that are to be kept from new pods and are not, or no longer are to be and still are.

    Args:
        nodes: As the API server has them; name, version and taints are read.
        unreserved: Names of nodes where the kubelet may give a quarantined device to anybody.
    """
    for node in nodes:
        wanted = node["metadata"]["name"] in unreserved
        if wanted is not _has(node, QUARANTINED):
            ours = ({"key": QUARANTINED, "effect": "NoSchedule"},) if wanted else ()
            yield _retaint(node, (*_without(node, QUARANTINED), *ours))


def _taints(node: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    return tuple((node.get("spec") or {}).get("taints") or ())


def _has(node: Mapping[str, Any], key: str) -> bool:
    return any(taint["key"] == key for taint in _taints(node))


def _without(node: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(taint for taint in _taints(node) if taint["key"] != key)


def _retaint(node: Mapping[str, Any], taints: tuple[Mapping[str, Any], ...]) -> Retaint:
    return Retaint(node["metadata"]["name"], taints, node["metadata"].get("resourceVersion", ""))
