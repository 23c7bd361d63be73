"""EDGE: counts for how long GPUs were lent, kept ready or idle, and says who has which now."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attach.meter import Site, Use, count_uses, holdings
from attach.warm import read_ready
from catalog.dimension import GPU_COUNT
from catalog.keys import GPU_SEATS
from catalog.quantity import QuantityError, parse_integer
from controller.attachments import Attachments
from controller.metrics import Metrics
from controller.serving import Serving
from controller.world import World
from kube.api import Object
from nodes.bound import Bound, by_node

NOBODY: Final[Mapping[Use, int]] = {}
MOST_S: Final = 30.0  # rounds come every ten seconds; after a longer pause another may have led, and counted


class Meter:
    """
    Counts each round what the last one saw, for the time since then: whatever changes makes a round.

    Time in which another leads is that one's to count.
    """

    def __init__(
        self,
        world: World,
        metrics: Metrics,
        serving: Serving,
        attachments: Attachments,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.world, self.metrics, self.serving, self.attachments = world, metrics, serving, attachments
        self._clock, self._seen, self._since_s = clock, NOBODY, 0.0

    def reconcile(self) -> bool:
        """Look, and count."""
        now_s, seen, since_s = self._clock(), self._seen, self._since_s
        self._seen, self._since_s = NOBODY, now_s  # first, so that a round that fails counts nothing twice
        passed_s = min(now_s - since_s, MOST_S)
        self.metrics.gpu_uses({use: gpus * passed_s for use, gpus in seen.items()})
        listed, served = self.attachments.all(), self.serving.current()
        self.metrics.lent((one.node, one.gpu, one.namespace) for one in holdings(listed))
        if served is not None and served.target.gpu is not None:
            resource = served.target.gpu.resource
            ready = read_ready(self.world.placeholders.items())
            self._seen = count_uses(self._sites(resource), listed, ready, resource)
        return True

    def forget(self) -> None:
        """Have seen nothing, and say of nobody that it has a GPU: another leads."""
        self._seen = NOBODY
        self.metrics.lent(())

    def _sites(self, resource: str) -> Iterator[Site]:
        """Find the nodes with seats beside GPUs."""
        seated = [node for node in self.world.nodes.items() if _figure(node, GPU_SEATS)]
        bound = by_node(self.world.bound()) if seated else {}
        for node in seated:
            name = node["metadata"]["name"]
            yield Site(name, _figure(node, resource), sum(map(_whole_life, bound.get(name, ()))))


def _figure(node: Object, resource: str) -> int:
    return _whole((node["status"].get("allocatable") or {}).get(resource, "0"))


def _whole_life(bound: Bound) -> int:
    """Read of a pod's record how many GPUs it has from its start on: none, where it has seats beside them."""
    return 0 if bound.figures.get(GPU_SEATS) else _whole(bound.kept.get(GPU_COUNT.path, "0"))


def _whole(value: Any) -> int:
    try:
        return max(parse_integer(str(value)), 0)
    except QuantityError:
        return 0
