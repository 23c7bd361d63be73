"""EDGE: what serves, built once for everybody here who asks; and a note of it for every record that names it."""

import logging
from typing import Final

from catalog.accept import Memo
from catalog.load import DEFAULT_TARGET, load_target
from catalog.merged import plan_merged, read_merged
from catalog.served import Accepted, Served, build, find_accepted
from controller.world import World
from kube.kinds import CONTROLLER_REVISIONS

_log: Final = logging.getLogger(__name__)


class Serving:
    """What was accepted, as it serves now."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.default, self.memo = load_target(DEFAULT_TARGET), Memo()
        self.accepted: Accepted | None = None
        self._served: Served | None = None

    def current(self) -> Served | None:
        """Give what serves; None while nothing was found yet."""
        world = self.world
        found = find_accepted(world.catalogs.items(), world.revisions.items(), world.runtime_classes.items())
        if found is not None and (self.accepted is None or found.key != self.accepted.key):
            self._served, self.accepted = build(found, self.default, self.memo), found
        return self._served

    def reconcile(self) -> bool:
        """Note which accepted specs the serving revision is made of."""
        served, accepted, world = self.current(), self.accepted, self.world
        if served is None or accepted is None or not accepted.kept:
            return True
        merged = read_merged(world.revisions.items())
        plan = plan_merged(served.catalog.revision, accepted.kept, merged, world.used_revisions(), world.namespace)
        if plan.create is not None:
            world.api.create(CONTROLLER_REVISIONS, plan.create, world.namespace)
            _log.info("serving", extra={"fields": {"revision": served.catalog.revision, "target": served.target.name}})
        if plan.renew is not None:
            name, number = plan.renew
            world.api.patch(CONTROLLER_REVISIONS, name, {"revision": number}, namespace=world.namespace)
        for name in plan.delete:
            world.api.delete(CONTROLLER_REVISIONS, name, world.namespace)
        return True
