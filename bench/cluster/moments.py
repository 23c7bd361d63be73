"""When nodes were seen Ready, and when with their capacity; and whether memory is flat. Pure: no clock, no network."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.cluster.plan import percentile
from catalog.dimension import PPS
from catalog.keys import FAMILY

FLAT_PERCENT: Final = 5


@dataclass(slots=True)
class Moments:
    """When each of some nodes was first seen, Ready, and with the capacity and the labels of its size, in seconds."""

    seen_s: dict[str, float] = field(default_factory=dict)
    ready_s: dict[str, float] = field(default_factory=dict)
    stands_s: dict[str, float] = field(default_factory=dict)

    def see(self, node: Mapping[str, Any], at_s: float) -> None:
        """Note a node as it was at a moment; moments come in order."""
        name = node["metadata"]["name"]
        self.seen_s.setdefault(name, at_s)
        if is_ready(node):
            self.ready_s.setdefault(name, at_s)
        if stands(node):
            self.stands_s.setdefault(name, at_s)

    @property
    def complete(self) -> int:
        """How many nodes were seen Ready and with their capacity."""
        return len(self.ready_s.keys() & self.stands_s.keys())

    def waits_s(self) -> list[float]:
        """From Ready until capacity stands, in order; 0 where it stood before."""
        return sorted(max(0.0, at_s - self.ready_s[name]) for name, at_s in self.stands_s.items())

    def since_seen_s(self) -> list[float]:
        """From the first sight of a node until its capacity stands, in order."""
        return sorted(at_s - self.seen_s[name] for name, at_s in self.stands_s.items())


@dataclass(frozen=True, slots=True)
class Spread:
    """Of many times: the middle one, the nearest-rank 99th percentile, and the longest."""

    median_s: float
    p99_s: float
    longest_s: float

    @classmethod
    def of(cls, ordered_s: Sequence[float]) -> "Spread":
        """Sum up times that are in order."""
        return cls(statistics.median(ordered_s), percentile(ordered_s, 99), ordered_s[-1])


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether the node says that pods may come."""
    conditions = node["status"].get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def stands(node: Mapping[str, Any]) -> bool:
    """Whether the scheduler can count on what the node's size offers; every size here has packets/s."""
    figures = [node["status"].get(group) or {} for group in ("capacity", "allocatable")]
    return FAMILY in (node["metadata"].get("labels") or {}) and all(PPS.resource in figure for figure in figures)


def is_flat(resident_mib: Sequence[float]) -> bool:
    """
    Whether memory is flat over waves that are alike, by what is resident after each.

    The first wave is not judged: an allocator keeps what it once needed. None after it may leave more than FLAT_PERCENT
    on top.
    """
    return max(resident_mib) <= resident_mib[0] * (1 + FLAT_PERCENT / 100)
