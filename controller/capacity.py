"""EDGE: publishes on each node what a node of its size offers."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from controller.metrics import Metrics
from controller.serving import Serving
from controller.world import Failures, World, patch_version
from kube.kinds import NODES
from nodes.bound import by_node
from nodes.capacity import Held, NodePatch, plan
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
        self._unknown: tuple[str, ...] = ()
        self._tried: dict[str, str] = {}  # the version of a node that was written on, until a later one is seen here
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="capacity")

    def reconcile(self) -> bool:
        """Bring up to AT_ONCE nodes to what they offer; False where more are left."""
        served = self.serving.current()
        if served is None:
            return True
        nodes = self.world.nodes.items()
        due = plan(nodes, served.catalog, served.target, by_node(self.world.bound()))
        if due.unknown and due.unknown != self._unknown:
            _log.info("nodes of types that no catalogue has", extra={"fields": {"types": due.unknown[:20]}})
        self._unknown, self.held = due.unknown, due.held
        self.started = tuple(started(nodes, {patch.node for patch in due.patches}))
        self.metrics.nodes(known=len(nodes) - due.unknown_nodes, unknown=due.unknown_nodes)
        self.metrics.held(len({held.node for held in due.held}))
        self._tried = {p.node: p.version for p in due.patches if self._tried.get(p.node) == p.version}
        todo = [patch for patch in due.patches if patch.node not in self._tried]
        self._write_all(todo[:AT_ONCE])
        return len(todo) <= AT_ONCE

    def _write_all(self, patches: list[NodePatch]) -> None:
        """
        Write several at a time.

        Raises:
            ApiError: One was refused; or nobody answers, and those that were not begun are left.
        """
        begun = [self._writers.submit(self._write, patch) for patch in patches]
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

    def _write(self, patch: NodePatch) -> None:
        """Write on a node, unless a later version of it is here by now: that is looked at in the next round."""
        node = self.world.nodes.get(patch.node)
        if node is not None and node["metadata"].get("resourceVersion") == patch.version:
            patch_version(self.world.api, NODES, patch.node, patch.version, patch.body, "status")
