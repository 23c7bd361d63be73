"""EDGE: what is counted, behind the port `Recorder`; its real side keeps a Prometheus registry of its own."""

from collections.abc import Callable
from math import nan
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from catalog.fit import Index
from webhook.decision import Reason

ENDPOINTS: Final = frozenset({"mutate", "validate", "templates"})
OUTCOMES: Final = frozenset({"sized", "allowed", "ignored", "warned", "refused", "failed"})
REASONS: Final = frozenset(reason.value for reason in Reason)
NOT_YET: Final = frozenset({"not_ready", "overloaded", "too_late", "unknown_default", "unknown_namespace"})  # 503
ERRORS: Final = NOT_YET | {"bad_review", "content_type", "exception", "method", "path", "slow_body", "too_large"}
OTHER: Final = "other"
MAX_CLASSES: Final = 100
BUCKETS_S: Final = (50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1.0)
CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class Recorder(Protocol):
    """Counts what the webhook does; declared here for `app`."""

    def answered(self, endpoint: str, outcome: str, reason: str, duration_s: float, sla_class: str = "") -> None:
        """Count one answer; *reason*, and *sla_class* if it is one that is served, only where it is a refusal."""

    def changed(self, answer_bytes: int, *, again: bool) -> None:
        """Count an answer with a patch, 0 where it has none, and whether the pod came with a record of ours."""

    def failed(self, kind: str) -> None:
        """Count a request that got no decision."""

    def watch_queue(self, queue: Callable[[], tuple[int, int]]) -> None:
        """Show from now on how many calls wait, and how many bytes."""

    def expose(self, index: Index | None) -> bytes:
        """Write all metrics as text, with what is served now."""


class PrometheusRecorder:
    """Metrics of one process, with labels from closed sets only."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._requests = Counter(
            "podsla_admission_requests", "Reviews answered.", ["endpoint", "outcome"], registry=registry
        )
        self._refusals = Counter(
            "podsla_admission_refusals",
            "Pods refused, by reason and class.",
            ["reason", "sla_class"],
            registry=registry,
        )
        self._duration = Histogram(
            "podsla_admission_duration_seconds",
            "Time to answer a review, from the body read to the answer written.",
            ["endpoint", "outcome"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._errors = Counter(
            "podsla_admission_errors", "Requests that got no decision, by kind.", ["kind"], registry=registry
        )
        self._patched = Counter(
            "podsla_admission_patched_bytes", "Bytes of answers that change a pod.", registry=registry
        )
        self._again = Counter(
            "podsla_admission_reinvocations", "New pods that had a record of ours.", registry=registry
        )
        self._since = Gauge(
            "podsla_catalog_since_timestamp_seconds",
            "When this worker was first asked while it served its revision.",
            registry=registry,
        )
        self._info = Gauge("podsla_catalog_info", "1 for the revision served.", ["revision"], registry=registry)
        self._sizes = Gauge("podsla_catalog_sizes", "Sandbox sizes served.", registry=registry)
        self._classes = Gauge("podsla_catalog_classes", "SLA classes served.", registry=registry)
        self._waiting = Gauge("podsla_admission_waiting", "Calls that wait for their answer.", registry=registry)
        self._waiting_bytes = Gauge("podsla_admission_waiting_bytes", "Their bodies.", registry=registry)
        self._classes_seen: set[str] = set()
        self._revision = ""
        for endpoint in sorted(ENDPOINTS):
            self._duration.labels(endpoint, "allowed")  # a series that exists from the start can be alerted on
        for kind in sorted(ERRORS):
            self._errors.labels(kind)

    def answered(self, endpoint: str, outcome: str, reason: str, duration_s: float, sla_class: str = "") -> None:
        """Count one answer; past `MAX_CLASSES` that ever refused a pod, further ones are counted together."""
        endpoint, outcome = _one_of(ENDPOINTS, endpoint), _one_of(OUTCOMES, outcome)
        self._requests.labels(endpoint, outcome).inc()
        self._duration.labels(endpoint, outcome).observe(duration_s)
        if outcome == "refused":
            if len(self._classes_seen) < MAX_CLASSES:
                self._classes_seen.add(sla_class)
            known = sla_class if sla_class in self._classes_seen else OTHER
            self._refusals.labels(_one_of(REASONS, reason), known).inc()

    def changed(self, answer_bytes: int, *, again: bool) -> None:
        """Count an answer with a patch, and a pod that came with a record."""
        self._patched.inc(answer_bytes)
        self._again.inc(again)

    def watch_queue(self, queue: Callable[[], tuple[int, int]]) -> None:
        """Read the queue at each scrape."""
        self._waiting.set_function(lambda: queue()[0])
        self._waiting_bytes.set_function(lambda: queue()[1])

    def failed(self, kind: str) -> None:
        """Count a request that got no decision."""
        self._errors.labels(_one_of(ERRORS, kind)).inc()

    def expose(self, index: Index | None) -> bytes:
        """Write all metrics as text; only the revision served now has a series."""
        self._info.clear()
        if index is not None:
            self._info.labels(index.catalog.revision).set(1)
            if index.catalog.revision != self._revision:
                self._revision = index.catalog.revision
                self._since.set_to_current_time()
        else:
            self._since.set(nan)
        self._sizes.set(len(index.catalog.sizes) if index else 0)
        self._classes.set(len(index.catalog.classes) if index else 0)
        return generate_latest(self.registry)


def _one_of(known: frozenset[str], label: str) -> str:
    return label if label in known else OTHER
