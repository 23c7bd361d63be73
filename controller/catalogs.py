"""EDGE: judges every edit of a catalogue, keeps the accepted ones as ControllerRevisions, and says so in the status."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from catalog.accept import Memo, judge
from catalog.merged import needed, read_merged
from catalog.stored import Kept, prune, read_kept, revision_object
from catalog.verdict import Verdict, status_of
from controller.metrics import Metrics
from controller.world import Failures, World, patch_version
from kube.api import Object
from kube.events import post
from kube.kinds import CONTROLLER_REVISIONS, SPEC_CATALOGS
from nodes.bound import used_classes

_log = logging.getLogger(__name__)


class Catalogs:
    """
    Reconciles SpecCatalogs.

    What is accepted is kept first and named in the status after: a crash in between leaves a revision nobody serves.
    """

    def __init__(self, world: World, metrics: Metrics) -> None:
        self.world, self.metrics, self.memo = world, metrics, Memo()

    def reconcile(self) -> bool:
        """Judge all catalogues together; False where there is more to do."""
        catalogs = self.world.catalogs.items()
        kept = read_kept(self.world.revisions.items())
        verdicts = judge(catalogs, kept, self.memo, used_classes(self.world.bound()))
        by_name = {thing["metadata"]["name"]: thing for thing in catalogs}
        failures = Failures()
        for verdict in verdicts:
            with failures.noted():
                self._settle(verdict, by_name[verdict.catalog])
        failures.end()
        self.metrics.catalogs({verdict.catalog: verdict.accepted for verdict in verdicts})
        if not any(verdict.keep for verdict in verdicts):  # what was just kept is not seen here yet
            self._forget(catalogs, kept)
        return True

    def _settle(self, verdict: Verdict, thing: Object) -> None:
        """Keep what is accepted, then write the status, then tell."""
        api, namespace, keep = self.world.api, self.world.namespace, verdict.keep
        if keep is not None and keep.stored is None:
            api.create(CONTROLLER_REVISIONS, revision_object(thing, keep.revision, keep.number, namespace), namespace)
        elif keep is not None and keep.stored is not None:
            api.patch(CONTROLLER_REVISIONS, keep.stored.name, {"revision": keep.number}, namespace=namespace)
        body = status_of(verdict, thing, datetime.now(UTC))
        if not body:
            return
        if patch_version(api, SPEC_CATALOGS, verdict.catalog, thing["metadata"]["resourceVersion"], body, "status"):
            self._tell(verdict, thing)

    def _tell(self, verdict: Verdict, thing: Object) -> None:
        fields: dict[str, object] = {"catalog": verdict.catalog, "serving": verdict.serving}
        if verdict.accepted:
            _log.info("catalogue accepted", extra={"fields": fields})
            return
        fields |= {"reason": str(verdict.reason), "problems": len(verdict.problems), "first": verdict.problems[:1]}
        _log.error("catalogue refused, its last good revision serves on", extra={"fields": fields})
        note = "; ".join(verdict.problems)
        post(self.world.api, thing, kind="Warning", reason=str(verdict.reason), action="Accept", note=note)

    def _forget(self, catalogs: Sequence[Object], kept: Sequence[Kept]) -> None:
        merged = read_merged(self.world.revisions.items())
        for name in prune(catalogs, kept, needed(merged, self.world.used_revisions())):
            self.world.api.delete(CONTROLLER_REVISIONS, name, self.world.namespace)
