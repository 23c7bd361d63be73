"""EDGE: who leads, by a Lease. Two processes never lead at once, as long as their clocks run at about the same rate."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from kube.api import Api, ApiError
from kube.kinds import LEASES

READ_TIMEOUT_S: Final = 4.0  # with the time to connect, so short that another try begins before the lease is over
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """
    How long a lease holds.

    Attributes:
        duration_s: Others wait for this long after they last saw it renewed.
        deadline_s: The holder stops acting this long after it last sent a renewal that succeeded; less than duration_s,
            since it counts from the moment before the call and others from the moment after.
        retry_s: Between two tries.
    """

    duration_s: int = 15
    deadline_s: float = 10.0
    retry_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A lease as it was read, and when by this process's own clock it was first seen to be so."""

    version: tuple[str, str]
    since_s: float


def see(spec: Mapping[str, Any], before: Seen | None, now_s: float) -> Seen:
    """Note the lease; a clock on another machine is never compared with ours, only change is observed."""
    version = (spec.get("holderIdentity") or "", spec.get("renewTime") or "")
    return before if before is not None and before.version == version else Seen(version, now_s)


def claim(spec: Mapping[str, Any], identity: str, seen: Seen, now_s: float, now: datetime) -> dict[str, Any] | None:
    """
    Say what to write into the lease to hold it; None while another holds it.

    Args:
        spec: The Lease's, {} where there is none.
        now_s: Of the clock that *seen* counts by.
    """
    holder = spec.get("holderIdentity") or ""
    if holder not in ("", identity) and now_s - seen.since_s < spec.get("leaseDurationSeconds", 0):
        return None
    when = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if holder == identity:
        return {**spec, "renewTime": when}
    transitions = spec.get("leaseTransitions", 0) + (1 if spec else 0)
    return {**spec, "holderIdentity": identity, "acquireTime": when, "renewTime": when, "leaseTransitions": transitions}


class Election:
    """
    Keeps trying to hold one Lease.

    Args:
        on_change: Called on the thread of the election when it is won or lost.
        clock: Seconds; it must stand still while the machine sleeps no more than others' clocks do.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        *,
        on_change: Callable[[], None] = lambda: None,
        terms: Terms = Terms(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.api = Api(api.client, read_timeout_s=READ_TIMEOUT_S)
        self.namespace, self.name, self.identity = namespace, name, identity
        self.terms, self.clock, self.on_change = terms, clock, on_change
        self._leads_until_s = float("-inf")
        self._seen: Seen | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    @property
    def leading(self) -> bool:
        """Whether this process may act now."""
        return self.clock() < self._leads_until_s

    def start(self) -> "Election":
        """Begin to try, on a thread of its own."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop acting at once, and give the lease up, so that another need not wait for it to expire."""
        led, self._leads_until_s = self.leading, float("-inf")
        self._stopped.set()
        self._thread.join(self.terms.deadline_s)
        if led:
            self._release()

    def _run(self) -> None:
        led = False
        while not self._stopped.is_set():
            self.try_once()
            if self.leading != led:
                led = not led
                _log.info("leading" if led else "not leading", extra={"fields": {"identity": self.identity}})
                self.on_change()
            self._stopped.wait(self.terms.retry_s)

    def try_once(self) -> None:
        """Renew the lease, or take it where nobody holds it; a failure leaves everything as it was."""
        started_s = self.clock()
        try:
            lease = self.api.get(LEASES, self.name, self.namespace)
            spec = lease.get("spec") or {} if lease else {}
            self._seen = see(spec, self._seen, self.clock())
            wanted = claim(spec, self.identity, self._seen, self.clock(), datetime.now(UTC))
            if wanted is None or self._stopped.is_set():
                return
            wanted["leaseDurationSeconds"] = self.terms.duration_s
            if lease is None:
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.name}}
                self.api.create(LEASES, {**body, "spec": wanted}, self.namespace)
            else:
                self.api.replace(LEASES, {**lease, "spec": wanted}, self.namespace)
        except ApiError as error:
            if error.reason not in ("Conflict", "AlreadyExists"):
                _log.warning("cannot renew the lease", extra={"fields": {"error": str(error)[:256]}})
            return
        self._leads_until_s = started_s + self.terms.deadline_s

    def _release(self) -> None:
        try:
            lease = self.api.get(LEASES, self.name, self.namespace)
            if lease and lease["spec"].get("holderIdentity") == self.identity:
                self.api.replace(LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": ""}}, self.namespace)
        except ApiError as error:
            _log.warning("cannot give the lease up; it expires", extra={"fields": {"error": str(error)[:256]}})
