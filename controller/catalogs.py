"""EDGE: judges every edit of a catalogue, keeps the accepted ones as ControllerRevisions, and says so in the status."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from catalog.accept import Memo, judge
from catalog.merged import needed, read_merged
from catalog.stored import Kept, prune, read_kept, revision_object
from catalog.verdict import Verdict, settled, status_of
from controller.metrics import Metrics
from controller.serving import Serving
from controller.world import Failures, World, patch_version
from kube.api import Object
from kube.events import post
from kube.kinds import CONTROLLER_REVISIONS, SPEC_CATALOGS
from nodes.bound import used_classes

_log = logging.getLogger(__name__)


class Catalogs:
    """
    Reconciles SpecCatalogs.

    What is accepted is kept first, then what will serve together is noted, then the statuses name it: a crash in
    between leaves revisions nobody serves.

    Attributes:
        verdicts: What became of the newest edits that were judged, by catalogue.
    """

    def __init__(self, world: World, metrics: Metrics, serving: Serving) -> None:
        self.world, self.metrics, self.serving, self.memo = world, metrics, serving, Memo()
        self.verdicts: Mapping[str, Verdict] = {}

    def reconcile(self) -> bool:
        """Judge all catalogues together; False where there is more to do."""
        catalogs = self.world.catalogs.items()
        kept = read_kept(self.world.revisions.items())
        verdicts = judge(catalogs, kept, self.memo, used_classes(self.world.bound()))
        self.verdicts = {verdict.catalog: verdict for verdict in verdicts}
        by_name = {thing["metadata"]["name"]: thing for thing in catalogs}
        failures, possible, new = Failures(), list[Verdict](), list[Object]()
        for verdict in verdicts:
            with failures.noted():
                new += self._keep(verdict, by_name[verdict.catalog])
                possible.append(verdict)
        self._note(possible, by_name, new)
        for verdict in possible:
            with failures.noted():
                self._say(verdict, by_name[verdict.catalog])
        failures.end()
        self.metrics.catalogs({verdict.catalog: verdict.accepted for verdict in verdicts})
        if not any(verdict.keep for verdict in verdicts):  # what was just kept is not seen here yet
            self._forget(catalogs, kept)
        return True

    def _keep(self, verdict: Verdict, thing: Object) -> list[Object]:
        """Keep what is accepted, and give what was written for it."""
        api, namespace, keep = self.world.api, self.world.namespace, verdict.keep
        if keep is None:
            return []
        if keep.stored is not None:
            number = {"revision": keep.number}
            return [api.patch(CONTROLLER_REVISIONS, keep.stored.name, number, namespace=namespace)]
        body = revision_object(thing, keep.revision, keep.number, namespace)
        return [api.create(CONTROLLER_REVISIONS, body, namespace)]

    def _note(self, verdicts: Sequence[Verdict], by_name: Mapping[str, Object], new: Sequence[Object]) -> None:
        """Note what will serve together, if that is something else than now."""
        after = {**by_name, **{v.catalog: settled(by_name[v.catalog], v) for v in verdicts}}
        if any((by_name[v.catalog].get("status") or {}).get("serving") != v.serving for v in verdicts):
            self.serving.note_ahead(after.values(), [*self.world.revisions.items(), *new])

    def _say(self, verdict: Verdict, thing: Object) -> None:
        """Write the status, then tell."""
        body, version = status_of(verdict, thing, datetime.now(UTC)), thing["metadata"]["resourceVersion"]
        if body and patch_version(self.world.api, SPEC_CATALOGS, verdict.catalog, version, body, "status"):
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
