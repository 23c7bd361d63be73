"""EDGE: what serves, built once for everybody here who asks; and a note of it for every record that names it.

Replicas serve only what is noted, so a note is written before the statuses that make it serve.
"""

import logging
from collections.abc import Iterable
from typing import Final

from catalog.accept import Memo
from catalog.load import DEFAULT_TARGET, load_target
from catalog.merged import MergedPlan, plan_merged, read_merged
from catalog.served import TARGET_CONFIG_MAP, Accepted, Served, build, find_accepted
from catalog.target import Metadata
from controller.targets import plan_target
from controller.world import World
from kube.api import Object
from kube.kinds import CONTROLLER_REVISIONS

_log: Final = logging.getLogger(__name__)


class Serving:
    """What was accepted, as it serves now."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.default, self.memo = load_target(DEFAULT_TARGET), Memo()
        self.accepted: Accepted | None = None
        self._served: Served | None = None
        self._ahead: tuple[object, Served] | None = None  # what was noted last before it served

    def current(self) -> Served | None:
        """Give what serves; None while nothing was found yet."""
        world = self.world
        found = find_accepted(world.catalogs.items(), world.revisions.items(), world.runtime_classes.items())
        if found is not None and found.target is None and self._target_waits():
            return self._served
        if found is not None and (self.accepted is None or found.key != self.accepted.key):
            ahead = self._ahead if self._ahead and self._ahead[0] == found.key else None
            self._served, self.accepted = ahead[1] if ahead else build(found, self.default, self.memo), found
        return self._served

    def placeholder_metadata(self) -> Metadata:
        """Give what the target wants on pods that reserve GPUs."""
        served = self.current()
        gpu = served.target.gpu if served is not None else None
        return gpu.placeholder_metadata if gpu is not None else Metadata()

    @property
    def judged(self) -> bool:
        """
        Whether every catalogue was judged.

        What one that was restored without its status says is missing from what serves for a moment, and nothing is to
        be taken away for want of it. It is asked before `current`, which must have seen no less.
        """
        return not self.unjudged()

    def unjudged(self) -> tuple[str, ...]:
        """Name the catalogues that were not judged yet."""
        things = self.world.catalogs.items()
        return tuple(
            thing["metadata"]["name"] for thing in things if not (thing.get("status") or {}).get("observedGeneration")
        )

    def _target_waits(self) -> bool:
        """Whether the first target is about to be accepted, as after a restore without ControllerRevisions."""
        config_map = self.world.targets.get(TARGET_CONFIG_MAP, self.world.namespace)
        return config_map is not None and plan_target(config_map, ()).create is not None

    def reconcile(self) -> bool:
        """Have the note of what serves be the newest, and forget those that nobody needs."""
        served, accepted, world = self.current(), self.accepted, self.world
        if served is None or accepted is None or not accepted.kept:
            return True
        plan = self._plan(served, accepted)
        self._create(plan, served)
        if plan.renew is not None:
            name, number = plan.renew
            world.api.patch(CONTROLLER_REVISIONS, name, {"revision": number}, namespace=world.namespace)
        for name in plan.delete:
            world.api.delete(CONTROLLER_REVISIONS, name, world.namespace)
        return True

    def note_ahead(self, catalogs: Iterable[Object], revisions: Iterable[Object]) -> None:
        """Note what will serve once the statuses are those of *catalogs*; a note that is there will do."""
        found = find_accepted(catalogs, revisions, self.world.runtime_classes.items())
        if found is not None and found.kept:
            served = build(found, self.default, self.memo)
            self._ahead = found.key, served
            self._create(self._plan(served, found), served)

    def _plan(self, served: Served, accepted: Accepted) -> MergedPlan:
        world, merged = self.world, read_merged(self.world.revisions.items())
        return plan_merged(served.catalog.revision, accepted.kept, merged, world.used_revisions(), world.namespace)

    def _create(self, plan: MergedPlan, served: Served) -> None:
        if plan.create is not None:
            self.world.api.create(CONTROLLER_REVISIONS, plan.create, self.world.namespace)
            _log.info("noted", extra={"fields": {"revision": served.catalog.revision, "target": served.target.name}})
