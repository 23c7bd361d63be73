"""Which nodes lose the taint that they registered with, now that their capacity stands. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from nodes.export import STARTUP_TAINT


@dataclass(frozen=True, slots=True)
class Started:
    """
    A node that may take pods.

    Attributes:
        taints: Those that others gave it, which stay.
        version: That of the node as it was read.
    """

    node: str
    taints: tuple[Mapping[str, Any], ...]
    version: str

    @property
    def body(self) -> dict[str, Any]:
        """Write a JSON merge patch of the node; one of that version, since it replaces the list."""
        return {"spec": {"taints": [dict(taint) for taint in self.taints]}}


def started(nodes: Iterable[Mapping[str, Any]], waiting: Set[str]) -> Iterator[Started]:
    """
    Find nodes that say what they offer, and still have the taint; of a type that nobody knows, one offers nothing.

    Args:
        nodes: As the API server has them; name, version, capacity and taints are read.
        waiting: Names of nodes that do not say it yet.
    """
    for node in nodes:
        name, taints = node["metadata"]["name"], (node.get("spec") or {}).get("taints") or ()
        up = "cpu" in ((node.get("status") or {}).get("capacity") or {})
        if up and name not in waiting and any(taint["key"] == STARTUP_TAINT for taint in taints):
            left = tuple(taint for taint in taints if taint["key"] != STARTUP_TAINT)
            yield Started(name, left, node["metadata"].get("resourceVersion", ""))
