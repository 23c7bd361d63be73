"""
EDGE: the desired state from a cluster: GPUAttachments and pods of this node by watch, devices from the kubelet.

While the API server is away, what it last said stands: leases end all the same. After a restart in that time nothing is
known to be wanted or unwanted, so the journal alone says what stays, and until when.
"""

import logging
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from attach.api import Attachment, parse_attachment
from attach.cluster import (
    STATUSES,
    ClusterView,
    Wanted,
    container_of,
    is_here,
    orphans,
    placeholder_of,
    unlisted,
    wanted,
)
from attach.desired import unreadable
from attach.entry import Entry, Trouble
from attach.errors import AttachError
from attach.model import Container, Target
from attach.observe import trouble_of
from attach.ports import Processes
from attach.reconcile import Clock, Desired, Status
from attach.report import is_over, report
from attach.reservation import PodDevices, Reservations
from attach.transitions import State
from catalog.problems import InvalidError, Problem
from kube.api import Api, ApiError, Object
from kube.kinds import GPU_ATTACHMENTS, PODS, RESOURCE_SLICES
from kube.watch import Watched, pause_s

SOON_S: Final = 0.1  # the kubelet tells nobody that it has given a device away, so it is asked
ENDING_S: Final = 0.25  # until a placeholder that was told to end has ended

_log: Final = logging.getLogger(__name__)


class ClusterSource:
    """What the API server and the kubelet say, and the way back: status, and the word that ends a placeholder."""

    def __init__(
        self,
        api: Api,
        node: str,
        reservations: Reservations,
        processes: Processes,
        clock: Clock,
        system_namespaces: Sequence[str] = (),
    ) -> None:
        self._api, self._reservations, self._processes, self._clock = api, reservations, processes, clock
        self._woken = threading.Event()
        here = {"fieldSelector": f"spec.nodeName={node}"}
        self._attachments = Watched(api, GPU_ATTACHMENTS, on_change=self._woken.set)
        self._pods = Watched(api, PODS, selectors=here, on_change=self._woken.set, keep=pod_facts)
        self._slices = Watched(api, RESOURCE_SLICES, selectors=here, on_change=self._woken.set)
        self._node = node
        self._view = ClusterView(clock.now(), system_namespaces=tuple(system_namespaces))
        self._wanted = Wanted()
        self._failures, self._not_before_s = 0, 0.0
        self._ends: dict[str, threading.Event] = {}  # of placeholders' processes, by the pod's UID
        self._read_before: dict[tuple[str, str], Attachment] = {}  # by UID and version: reading one takes 2 ms

    def __str__(self) -> str:
        return f"node {self._node}"

    def start(self) -> "ClusterSource":
        """Begin to watch."""
        for watched in (self._attachments, self._pods, self._slices):
            watched.start()
        return self

    def close(self) -> None:
        """See the port."""
        for watched in (self._attachments, self._pods, self._slices):
            watched.stop()

    @property
    def synced(self) -> bool:
        """Whether attachments and pods were read whole; where no ResourceSlices are, none are needed."""
        return self._attachments.synced and self._pods.synced

    def read(self, entries: Mapping[str, Entry]) -> tuple[Desired, tuple[Problem, ...]]:
        """See the port."""
        self._woken.clear()
        if not self.synced:
            return unreadable(())
        attachments, problems = self._read_attachments()
        pods = {(pod["metadata"]["namespace"], pod["metadata"]["name"]): pod for pod in self._pods.items()}
        now, slices = self._clock.now(), self._slices.items()
        view = replace(self._view, attachments=attachments, pods=pods, slices=slices, now=now)
        view = replace(view, given=self._ask_kubelet(view), attached=self._attached(view, entries))
        self._view = replace(view, unlisted=unlisted(view, entries), ended=self._ended(view))
        self._wanted = wanted(self._view, entries)
        return replace(self._wanted.desired, complete=not problems), problems

    def _read_attachments(self) -> tuple[tuple[Attachment, ...], tuple[Problem, ...]]:
        """Read those of this node; one that can't be read ends nothing, its own lease apart."""
        problems, known, self._read_before = list[Problem](), self._read_before, {}
        for thing in self._attachments.items():
            stamp = thing["metadata"]["uid"], thing["metadata"]["resourceVersion"]
            try:
                self._read_before[stamp] = known.get(stamp) or parse_attachment(thing)
            except InvalidError as error:
                problems += error.problems
            except (KeyError, TypeError, ValueError) as error:
                meta = thing["metadata"]
                problems.append(
                    Problem(f"{meta.get('namespace')}/{meta['name']}", 0, "status", f"can't be read: {error}")
                )
        return tuple(each for each in self._read_before.values() if is_here(each, self._node)), tuple(problems)

    def tell(self, statuses: Sequence[Status], entries: Mapping[str, Entry]) -> float | None:
        """See the port."""
        by_uid = {status.uid: status for status in statuses}
        dues_s = [SOON_S] if self._is_waiting() else []
        have_ended = [self._end(pod) for pod in orphans(self._view, entries)]
        if not all(have_ended):
            dues_s.append(ENDING_S)
        attached = self._attached(self._view, entries)
        for each in self._view.attachments:
            status, over = by_uid.get(each.uid), self._wanted.over.get(each.uid)
            if status is None and (over is None or each.status.placeholder is None):
                continue  # it waits, or never reached this node: the controller says so
            ended = is_over(status, over) and self._placeholder_ended(each)
            if is_over(status, over) and not ended:
                dues_s.append(ENDING_S)
            now = self._clock.now()
            body = report(each, status, over, attached.get(each.uid), now, placeholder_ended=ended)
            if body is not None and (pause := self._patch(each, body)) is not None:
                dues_s.append(pause)
        return min(dues_s, default=None)

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """See the port."""
        self._woken.wait(seconds)

    def wake(self) -> None:
        """End `wait`."""
        self._woken.set()

    def _ask_kubelet(self, view: ClusterView) -> tuple[PodDevices, ...] | Trouble:
        if not any(placeholder_of(each, view) for each in view.attachments):
            return ()
        try:
            return self._reservations.pods()
        except AttachError as error:
            if not isinstance(view.given, Trouble):
                _log.warning("kubelet not asked", extra={"fields": {"reason": error.reason, "error": str(error)}})
            return trouble_of(error)

    def _attached(self, view: ClusterView, entries: Mapping[str, Entry]) -> dict[str, float]:
        """Remember when each was first attached: the status says so, or the journal, until the status does."""
        found: dict[str, float] = {}
        for each in view.attachments:
            entry = entries.get(each.uid)
            if each.status.attached_s is not None:
                found[each.uid] = each.status.attached_s
            elif each.uid in view.attached:
                found[each.uid] = view.attached[each.uid]
            elif entry is not None and entry.state is State.ATTACHED:
                found[each.uid] = entry.since_s
        return found

    def _ended(self, view: ClusterView) -> frozenset[str]:
        """
        Name the placeholders whose process has ended.

        So it is where nobody asked, as in an eviction: the kubelet frees the device, and tells the API server after.
        """
        reserving = (placeholder_of(each, view) for each in view.attachments)
        pods = {str(pod["metadata"]["uid"]): pod for pod in reserving if pod is not None}
        self._ends = {uid: end for uid in pods if (end := self._ends.get(uid) or self._follow(pods[uid])) is not None}
        return frozenset(uid for uid, end in self._ends.items() if end.is_set())

    def _follow(self, pod: Object) -> threading.Event | None:
        """Have the end of a placeholder's process noted; None: it is not seen to run, which is no word on its end."""
        end, uid = threading.Event(), str(pod["metadata"]["uid"])

        def note() -> None:
            end.set()
            self._woken.set()

        try:
            found = self._find(pod)
        except AttachError:
            return None
        return end if found is not None and self._processes.on_end(found.init, uid, note) else None

    def _find(self, pod: Object) -> Container | None:
        """Find a placeholder's container; None: it does not run."""
        meta, (container_id, _) = pod["metadata"], container_of(pod)
        if not container_id:
            return None
        return self._processes.find(Target(meta["namespace"], meta["name"], meta["uid"], container_id))

    def _is_waiting(self) -> bool:
        """Whether a placeholder is here, and its attachment has not begun: the kubelet is about to give a device."""
        uids = {each.uid for each in self._view.attachments if placeholder_of(each, self._view)}
        return bool(uids - self._wanted.desired.wishes.keys() - self._wanted.over.keys())

    def _placeholder_ended(self, attachment: Attachment) -> bool:
        pod = placeholder_of(attachment, self._view)
        return pod is None or self._end(pod)

    def _end(self, pod: Object) -> bool:
        """Give the word that lets a placeholder end; say whether it has. One that never ran needs no word."""
        meta = pod["metadata"]
        try:
            found = self._find(pod)
            return found is None or not self._processes.signal(found.init, meta["uid"], signal.SIGUSR1)
        except AttachError as error:
            fields = {"pod": f"{meta['namespace']}/{meta['name']}", "reason": error.reason, "error": str(error)}
            _log.warning("placeholder not ended", extra={"fields": fields})
            return False

    def _patch(self, attachment: Attachment, status: Mapping[str, object]) -> float | None:
        """Write a status, if the object still is the one that was read; a pause where the API server is away."""
        left_s = self._not_before_s - time.monotonic()
        if left_s > 0:
            return left_s
        body = {"metadata": {"resourceVersion": attachment.version}, "status": status}
        try:
            self._api.patch(
                GPU_ATTACHMENTS, attachment.name, body, namespace=attachment.namespace, subresource="status"
            )
            self._failures = 0
        except ApiError as error:
            if error.status in (404, 409):  # it is looked at again once the change is seen here
                return None
            self._failures += 1
            self._not_before_s = time.monotonic() + pause_s(self._failures)
            _log.warning(
                "status not written", extra={"fields": {"attachment": str(attachment), "error": str(error)[:256]}}
            )
            return pause_s(self._failures)
        return None


def pod_facts(pod: Object) -> Object:
    """Keep of a pod who it is and how its containers stand."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    kept = ("name", "namespace", "uid", "labels", "deletionTimestamp", "resourceVersion")
    return {
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {
            "restartPolicy": spec.get("restartPolicy", "Always"),
            **{
                group: [{key: one.get(key) for key in ("name", "restartPolicy")} for one in spec[group]]
                for group in STATUSES.values()
                if spec.get(group)
            },
        },
        "status": {
            "phase": status.get("phase", ""),
            **{
                kind: [{key: one.get(key) for key in ("name", "containerID", "state")} for one in status[kind]]
                for kind in STATUSES
                if status.get(kind)
            },
        },
    }
