"""EDGE: publishes on each node what a node of its size offers."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from catalog.served import Served
from controller.metrics import Metrics
from controller.serving import Serving
from controller.world import Failures, World, patch_version
from kube.api import Object
from kube.kinds import NODES, PODS
from nodes.bound import by_node, keep_promises, read_bound
from nodes.capacity import Held, NodePatch, give_back, plan
from nodes.startup import Started, started

AT_ONCE: Final = 100  # nodes written in one round, so that an edit of a catalogue never waits for a thousand
WRITERS: Final = 8  # of them at the same time: where nodes join by the hundred, the API server takes long for each call
_log = logging.getLogger(__name__)


class Capacity:
    """
    Reconciles what nodes publish: extended resources in their status, and labels.

    Attributes:
        held: What nodes publish beyond what they offer, for pods that are bound there.
        started: Nodes that say what they offer, and have their startup taint still.
    """

    def __init__(self, world: World, metrics: Metrics, serving: Serving) -> None:
        self.world, self.metrics, self.serving = world, metrics, serving
        self.held: tuple[Held, ...] = ()
        self.started: tuple[Started, ...] = ()
        self._unknown = set[str]()  # types that were told of
        self._tried: dict[str, str] = {}  # the version of a node that was written on, until a later one is seen here
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="capacity")

    def reconcile(self) -> bool:
        """Bring up to AT_ONCE nodes to what they offer; False where more are left."""
        served = self.serving.current()
        if served is None:
            return True
        nodes = self.world.nodes.items()
        due = plan(nodes, served.catalog, served.target, by_node(self.world.bound()))
        if new := tuple(name for name in due.unknown if name not in self._unknown):
            _log.info("nodes of types that no catalogue has", extra={"fields": {"types": new[:20]}})
        self._unknown.update(new)
        self.held = due.held
        self.started = tuple(started(nodes, {patch.node for patch in due.patches}))
        self.metrics.nodes(known=len(nodes) - due.unknown_nodes, unknown=due.unknown_nodes)
        self.metrics.held(len({held.node for held in due.held}))
        self._tried = {p.node: p.version for p in due.patches if self._tried.get(p.node) == p.version}
        todo = [patch for patch in due.patches if patch.node not in self._tried]
        self._write_all(todo[:AT_ONCE], served)
        return len(todo) <= AT_ONCE

    def _write_all(self, patches: list[NodePatch], served: Served) -> None:
        """
        Write several at a time.

        Raises:
            ApiError: One was refused; or nobody answers, and those that were not begun are left.
        """
        begun = [self._writers.submit(self._write, patch, served) for patch in patches]
        failures = Failures()
        try:
            for patch, written in zip(patches, begun, strict=True):
                with failures.noted():
                    written.result()
                    self._tried[patch.node] = patch.version
        finally:
            for written in begun:
                written.cancel()
        failures.end()

    def _write(self, planned: NodePatch, served: Served) -> None:
        """Write on a node, unless a later version of it is here by now: that is looked at in the next round."""
        node = self.world.nodes.get(planned.node)
        if node is None or node["metadata"].get("resourceVersion") != planned.version:
            return
        patch = self._by_all_its_pods(node, served) if planned.takes else planned
        version: str | None = planned.version
        while patch is not None and version is not None:
            version = patch_version(self.world.api, NODES, patch.node, version, patch.body, "status")
            if not planned.takes:
                return
            patch = give_back(node, patch, self._by_all_its_pods(node, served))  # to a pod that was bound meanwhile

    def _by_all_its_pods(self, node: Object, served: Served) -> NodePatch | None:
        """
        Plan again by the pods that the API server has on the node now; None: they need all that is there.

        Those that are watched have a size. A pod without one may ask for our resources and labels by hand, and one
        that was bound a moment ago may not have been seen yet.
        """
        pods = self.world.api.list(PODS, fieldSelector=f"spec.nodeName={node['metadata']['name']}")
        bound = by_node(read_bound(map(keep_promises, pods)))
        return next(iter(plan([node], served.catalog, served.target, bound).patches), None)
