"""EDGE: publishes on each node what a node of its size offers."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Final

from catalog.served import Served
from controller.metrics import Metrics
from controller.serving import Serving
from controller.world import Failures, World, patch_version
from kube.api import Object
from kube.kinds import NODES, PODS
from nodes.bound import by_node, keep_promises, read_bound
from nodes.capacity import Held, NodePatch, Plan, give_back, plan
from nodes.taints import Retaint, started

AT_ONCE: Final = 100  # nodes written in one round, so that an edit of a catalogue never waits for a thousand
WRITERS: Final = 8  # of them at the same time: where nodes join by the hundred, the API server takes long for each call
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Tried:
    """The version of a node that was written on, until a later one is seen here; what its pods were seen to hold."""

    version: str
    held: tuple[Held, ...]


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
        self.started: tuple[Retaint, ...] = ()
        self._unknown = set[str]()  # types that were told of
        self._waiting, self._told_waiting = (
            tuple[str, ...](),
            False,
        )  # catalogues that were not judged in the last round
        self._tried: dict[str, _Tried] = {}  # by node
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="capacity")

    def reconcile(self) -> bool:
        """Bring up to AT_ONCE nodes to what they offer; False where more are left."""
        judged, served = self._judged(), self.serving.current()
        if served is None:
            return True
        nodes = self.world.nodes.items()
        due = plan(nodes, served.catalog, served.target, by_node(self.world.bound()))
        # Where one is not judged yet, what nodes offer may be to come.
        self.started = tuple(started(nodes, {patch.node for patch in due.patches})) if judged else ()
        wanted = [patch for patch in due.patches if judged or not patch.takes]
        self._tried = {p.node: one for p in wanted if (one := self._tried.get(p.node)) and one.version == p.version}
        if judged:
            self._tell(due, len(nodes))
        todo = [patch for patch in wanted if patch.node not in self._tried]
        self._write_all(todo[:AT_ONCE], served)
        return len(todo) <= AT_ONCE

    def _judged(self) -> bool:
        """Ask whether all catalogues were judged; one that waits for it for more than a round is told of, once."""
        waiting = self.serving.unjudged()
        if waiting and waiting == self._waiting and not self._told_waiting:
            _log.warning(
                "nothing is taken from nodes until these catalogues are judged",
                extra={"fields": {"catalogs": waiting[:20]}},
            )
        self._told_waiting = bool(waiting) and waiting == self._waiting
        self._waiting = waiting
        return not waiting

    def _tell(self, due: Plan, nodes: int) -> None:
        """Note what nodes hold, by all of their pods where these were listed; say which types nobody knows, once."""
        if new := tuple(name for name in due.unknown if name not in self._unknown):
            _log.info("nodes of types that no catalogue has", extra={"fields": {"types": new[:20]}})
        self._unknown.update(new)
        self.metrics.nodes(known=nodes - due.unknown_nodes, unknown=due.unknown_nodes)
        listed = {node: tried.held for node, tried in self._tried.items() if tried.held}
        others = (held for held in due.held if held.node not in listed)
        self.held = (*others, *chain.from_iterable(listed.values()))
        self.metrics.held(len({held.node for held in self.held}))

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
                    self._tried[patch.node] = _Tried(patch.version, written.result())
        finally:
            for written in begun:
                written.cancel()
        failures.end()

    def _write(self, planned: NodePatch, served: Served) -> tuple[Held, ...]:
        """
        Write on a node, unless a later version of it is here by now: that is looked at in the next round.

        Returns:
            What it holds for its pods, where all of them had to be listed.
        """
        node = self.world.nodes.get(planned.node)
        if node is None or node["metadata"].get("resourceVersion") != planned.version:
            return ()
        if not planned.takes:
            patch_version(self.world.api, NODES, planned.node, planned.version, planned.body, "status")
            return ()
        patch, held = self._by_all_its_pods(node, served)
        version: str | None = planned.version
        while patch is not None and version is not None:
            version = patch_version(self.world.api, NODES, patch.node, version, patch.body, "status")
            needed, held = self._by_all_its_pods(node, served)
            patch = give_back(node, patch, needed)  # to a pod that was bound meanwhile
        return held

    def _by_all_its_pods(self, node: Object, served: Served) -> tuple[NodePatch | None, tuple[Held, ...]]:
        """
        Plan again by the pods that the API server has on the node now; None: they need all that is there.

        Those that are watched have a size. A pod without one may ask for our resources and labels by hand, and one
        that was bound a moment ago may not have been seen yet.
        """
        pods = self.world.api.list(PODS, fieldSelector=f"spec.nodeName={node['metadata']['name']}")
        due = plan([node], served.catalog, served.target, by_node(read_bound(map(keep_promises, pods))))
        return next(iter(due.patches), None), due.held
