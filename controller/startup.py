"""EDGE: takes the startup taint from nodes whose capacity stands, so that the autoscaler counts them as ready."""

import logging
from typing import Final

from controller.capacity import Capacity
from controller.world import Failures, World, patch_version
from kube.api import ApiError
from kube.kinds import NODES
from nodes.export import STARTUP_TAINT

_FORBIDDEN: Final = 403
_log: Final = logging.getLogger(__name__)


class Startup:
    """Reconciles the taint that `podsla catalog export cluster-autoscaler --startup-taint` lets nodes register with."""

    def __init__(self, world: World, capacity: Capacity) -> None:
        self.world, self.capacity = world, capacity
        self._told = False

    def reconcile(self) -> bool:
        """Take it from every node that says what it offers; a node that changed meanwhile is looked at again."""
        failures = Failures()
        for one in self.capacity.started:
            with failures.noted():
                try:
                    patch_version(self.world.api, NODES, one.node, one.version, one.body)
                except ApiError as error:
                    if error.status != _FORBIDDEN:
                        raise
                    self._tell(one.node)
                    break
        failures.end()
        return True

    def _tell(self, node: str) -> None:
        """Say once that the right is missing."""
        if not self._told:
            do = "add manifests/components/cluster-autoscaler to the overlay that podsla is installed with"
            fields = {"node": node, "taint": STARTUP_TAINT, "do": do}
            _log.error("nodes keep their startup taint: the controller may not take it away", extra={"fields": fields})
        self._told = True
