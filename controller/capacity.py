"""EDGE: publishes on each node what a node of its size offers."""

import logging
from typing import Final

from catalog.load import DEFAULT_TARGET, load_target
from catalog.served import Served, build, find_accepted
from controller.metrics import Metrics
from controller.world import World
from kube.kinds import NODES
from nodes.capacity import NodePatch, plan

AT_ONCE: Final = 100  # nodes written in one round, so that an edit of a catalogue never waits for a thousand
_log = logging.getLogger(__name__)


class Capacity:
    """Reconciles what nodes publish: extended resources in their status, and labels."""

    def __init__(self, world: World, metrics: Metrics) -> None:
        self.world, self.metrics = world, metrics
        self.default = load_target(DEFAULT_TARGET)
        self._served: Served | None = None
        self._key: object = None
        self._unknown: tuple[str, ...] = ()

    def reconcile(self) -> bool:
        """Bring up to AT_ONCE nodes to what they offer; False where more are left."""
        served = self._current()
        if served is None:
            return True
        nodes = self.world.nodes.items()
        due = plan(nodes, served.catalog, served.target)
        if due.unknown and due.unknown != self._unknown:
            _log.info("nodes of types that no catalogue has", extra={"fields": {"types": due.unknown[:20]}})
        self._unknown = due.unknown
        self.metrics.nodes(known=len(nodes) - due.unknown_nodes, unknown=due.unknown_nodes)
        for patch in due.patches[:AT_ONCE]:
            self._write(patch)
        return len(due.patches) <= AT_ONCE

    def _current(self) -> Served | None:
        world = self.world
        found = find_accepted(world.catalogs.items(), world.revisions.items(), world.runtime_classes.items())
        if found is not None and found.key != self._key:
            self._served, self._key = build(found, self.default), found.key
        return self._served

    def _write(self, patch: NodePatch) -> None:
        """Capacity before labels: a pod that the labels bring must find what it reserves."""
        if patch.status_patch:
            self.world.api.patch(NODES, patch.node, patch.status_patch, subresource="status")
        if patch.metadata_patch:
            self.world.api.patch(NODES, patch.node, patch.metadata_patch)
