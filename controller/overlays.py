"""EDGE: keeps Karpenter's NodeOverlays in step with what nodes will offer, where the target asks for it."""

import logging
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final

from catalog.keys import OVERLAY, TARGET
from catalog.served import TARGET_CONFIG_MAP, TARGET_KEY, Served
from catalog.target_reader import asks_karpenter
from controller.serving import Serving
from controller.world import Failures, World
from kube.api import ApiError, Object
from kube.events import post
from kube.kinds import NODE_OVERLAYS
from nodes.export import karpenter
from nodes.offer import offers
from nodes.overlays import OverlayPlan, plan_overlays

AT_ONCE: Final = 100  # overlays written in one round
LOOK_EVERY_S: Final = 30.0  # overlays wake nobody, and Karpenter may be installed at any time
_log: Final = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why overlays are not what the target asks for."""

    KARPENTER_MISSING = "KarpenterMissing"
    EXPORT_NOT_ALLOWED = "ExportNotAllowed"
    OVERLAY_NAME_TAKEN = "OverlayNameTaken"


class Overlays:
    """
    Reconciles NodeOverlays.

    A cluster whose target never asked for them is asked nothing: Karpenter and the rights are not there as a rule.
    """

    def __init__(self, world: World, serving: Serving, clock: Callable[[], float] = time.monotonic) -> None:
        self.world, self.serving, self.clock = world, serving, clock
        self._settled: tuple[object, ...] | None = None  # what overlays were brought in step with
        self._look_s = 0.0
        self._unseen = False  # what was made when the target asked, and may still stand
        self._told: tuple[Reason, str] | None = None

    def reconcile(self) -> bool:
        """Bring up to AT_ONCE overlays in step; False where more are left."""
        judged, served = self.serving.judged, self.serving.current()
        if served is None or not (served.target.karpenter or self._asked_before()):
            return True
        key = (served.catalog.revision, served.target, judged)
        if key == self._settled and (not (served.target.karpenter or self._unseen) or self.clock() < self._look_s):
            return True
        plan = self._plan(served)
        writes = list(self._writes(plan, judged=judged))
        failures = Failures()
        for write in writes[:AT_ONCE]:
            with failures.noted():
                write()
        failures.end()
        if len(writes) > AT_ONCE:
            return False
        self._settled, self._look_s = key, self.clock() + LOOK_EVERY_S
        return True

    def _asked_before(self) -> bool:
        """Whether a target that served not long ago asked for overlays: what is left of them goes."""
        kept = (thing for thing in self.world.revisions.items() if TARGET in (thing["metadata"].get("labels") or {}))
        return any(asks_karpenter(thing["data"][TARGET_KEY]) for thing in kept)

    def _plan(self, served: Served) -> OverlayPlan:
        """Read what stands; where it cannot be read, say why and leave it."""
        asked = served.target.karpenter
        try:
            standing = list(self.world.api.list(NODE_OVERLAYS))
        except ApiError as error:
            if error.status not in (403, 404):
                raise
            self._unseen = error.status == 403 and asked is None
            self._tell(*_WHY[error.status] if asked else _LEFT if self._unseen else (None, ""))
            return OverlayPlan()
        wanted, self._unseen = None, False
        if asked is not None:
            wanted = karpenter(offers(served.catalog, served.target), price=asked.price, weight=asked.weight)
        plan = plan_overlays(wanted, standing)
        names = ", ".join(plan.taken[:5])
        note = (
            f"{len(plan.taken)} NodeOverlays that somebody else made have the names of ours, and are left as they are: "
        )
        self._tell(Reason.OVERLAY_NAME_TAKEN if plan.taken else None, f"{note}{names}; delete or rename them")
        return plan

    def _writes(self, plan: OverlayPlan, *, judged: bool) -> Iterator[Callable[[], object]]:
        """
        What is not needed goes last: a type is told of twice for a moment, never not at all.

        Args:
            judged: Nothing that serves is missing from the plan; else what stands is left.
        """
        api = self.world.api
        yield from (lambda body=body: api.create(NODE_OVERLAYS, body) for body in plan.create)
        if not judged:
            return
        yield from (lambda body=body: api.replace(NODE_OVERLAYS, body) for body in plan.replace)
        yield from (lambda name=name: api.delete(NODE_OVERLAYS, name) for name in plan.delete)

    def _tell(self, reason: Reason | None, note: str) -> None:
        """Say once what is wrong, in the log and as an event of the target."""
        told = None if reason is None else (reason, note)
        if told is not None and told != self._told:
            _log.error("overlays are not what the target asks for", extra={"fields": {"reason": reason, "why": note}})
            config_map: Object | None = self.world.targets.get(TARGET_CONFIG_MAP, self.world.namespace)
            if config_map is not None:
                post(self.world.api, config_map, kind="Warning", reason=str(reason), action="Export", note=note)
        self._told = told


_LEFT: Final = (
    Reason.EXPORT_NOT_ALLOWED,
    "spec.autoscaler asks for no NodeOverlays any more, and the controller has no right to those that it made before: "
    f"kubectl delete nodeoverlays -l {OVERLAY}, or give it manifests/components/karpenter until they are gone",
)
_WHY: Final = {
    404: (
        Reason.KARPENTER_MISSING,
        "spec.autoscaler.karpenter is true, and the API server has no NodeOverlay of karpenter.sh/v1alpha1; "
        "install Karpenter with the feature gate NodeOverlay, or take the field away",
    ),
    403: (
        Reason.EXPORT_NOT_ALLOWED,
        "spec.autoscaler.karpenter is true, and the controller has no right to NodeOverlays; "
        "add manifests/components/karpenter to the overlay that podsla is installed with, or take the field away",
    ),
}
