"""EDGE: publishes on each node what a node of its size offers."""

import logging
from typing import Final

from controller.metrics import Metrics
from controller.serving import Serving
from controller.world import Failures, World, patch_version
from kube.kinds import NODES
from nodes.bound import by_node
from nodes.capacity import Held, NodePatch, plan

AT_ONCE: Final = 100  # nodes written in one round, so that an edit of a catalogue never waits for a thousand
_log = logging.getLogger(__name__)


class Capacity:
    """
    Reconciles what nodes publish: extended resources in their status, and labels.

    Attributes:
        held: What nodes publish beyond what they offer, for pods that are bound there.
    """

    def __init__(self, world: World, metrics: Metrics, serving: Serving) -> None:
        self.world, self.metrics, self.serving = world, metrics, serving
        self.held: tuple[Held, ...] = ()
        self._unknown: tuple[str, ...] = ()

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
        self.metrics.nodes(known=len(nodes) - due.unknown_nodes, unknown=due.unknown_nodes)
        self.metrics.held(len({held.node for held in due.held}))
        failures = Failures()
        for patch in due.patches[:AT_ONCE]:
            with failures.noted():
                self._write(patch)
        failures.end()
        return len(due.patches) <= AT_ONCE

    def _write(self, patch: NodePatch) -> None:
        """Capacity before labels: a pod that the labels bring must find what it reserves."""
        api, version = self.world.api, patch.version
        if patch.status_patch:
            version = patch_version(api, NODES, patch.node, version, patch.status_patch, "status") or ""
        if patch.metadata_patch and version:
            patch_version(api, NODES, patch.node, version, patch.metadata_patch)
