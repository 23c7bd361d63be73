"""EDGE: takes taints of podsla's from nodes, and gives them."""

import logging
from collections.abc import Iterable, Iterator
from typing import Final

from attach.quarantine import unreserved
from catalog.keys import QUARANTINED
from controller.capacity import Capacity
from controller.world import Failures, World, patch_version
from kube.api import ApiError
from kube.events import post
from kube.kinds import NODES
from nodes.export import STARTUP_TAINT
from nodes.taints import Retaint, quarantine

_FORBIDDEN: Final = 403
_log: Final = logging.getLogger(__name__)


class Taints:
    """
    Writes one taint of podsla's on nodes, and says once where the right is missing.

    Args:
        key: The taint's.
        component: The folder of manifests/components that gives the right.
    """

    def __init__(self, world: World, key: str, component: str) -> None:
        self.world, self.key, self.component = world, key, component
        self._told = False

    def write(self, due: Iterable[Retaint]) -> Iterator[Retaint]:
        """
        Write them, and name those that were written; a node that changed meanwhile is looked at again.

        Raises:
            ApiError: One was refused, of another reason than a right that is missing.
        """
        failures = Failures()
        for one in due:
            with failures.noted():
                try:
                    if patch_version(self.world.api, NODES, one.node, one.version, one.body) is not None:
                        yield one
                except ApiError as error:
                    if error.status != _FORBIDDEN:
                        raise
                    self._tell(one.node)
                    break
        failures.end()

    def _tell(self, node: str) -> None:
        if not self._told:
            do = f"add manifests/components/{self.component} to the overlay that podsla is installed with"
            fields = {"node": node, "taint": self.key, "do": do}
            _log.error("nodes keep their taints as they are: the controller may not change them",
                       extra={"fields": fields})  # fmt: skip
        self._told = True


class Startup:
    """
    Reconciles the taint that `podsla catalog export cluster-autoscaler --startup-taint` lets nodes register with.

    It goes once a node's capacity stands, so that the autoscaler counts the node as ready.
    """

    def __init__(self, world: World, capacity: Capacity) -> None:
        self.capacity, self.taints = capacity, Taints(world, STARTUP_TAINT, "cluster-autoscaler")

    def reconcile(self) -> bool:
        """Take it from every node that says what it offers."""
        list(self.taints.write(self.capacity.started))
        return True


class Quarantine:
    """
    Reconciles the taint of nodes whose kubelet may give a quarantined device to a pod that asks for a GPU by itself.

    Whoever is there stays; nobody new comes until no such device is left.
    """

    def __init__(self, world: World) -> None:
        self.world, self.taints = world, Taints(world, QUARANTINED, "gpu-attach")

    def reconcile(self) -> bool:
        """Give it to nodes that need it, and take it from those that no longer do."""
        names = unreserved(self.world.attachments.items(), self.world.placeholders.items())
        for one in self.taints.write(quarantine(self.world.nodes.items(), names.keys())):
            self._tell(one.node, names.get(one.node, ()))
        return True

    def _tell(self, name: str, attachments: tuple[str, ...]) -> None:
        fields = {"node": name, "taint": QUARANTINED, "attachments": attachments[:20]}
        _log.warning("node tainted" if attachments else "node freed of its taint", extra={"fields": fields})
        node = self.world.nodes.get(name)
        if not attachments or node is None:
            return
        note = (
            f"a GPU is not known to be free, and nothing reserves it: {', '.join(attachments[:20])}; new pods need to "
            f"tolerate {QUARANTINED} until it is; end what has it open, or use podsla gpu release --force"
        )
        about = {"apiVersion": "v1", "kind": "Node", **node}
        post(self.world.api, about, kind="Warning", reason="ReservationLost", action="Taint", note=note)
