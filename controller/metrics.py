"""EDGE: what the controller counts."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS_S = (1e-3, 5e-3, 20e-3, 0.1, 0.5, 2.0, 10.0)
WAIT_BUCKETS_S = (1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0)  # Kubernetes writes whole seconds


class Metrics:
    """Metrics of one controller process."""

    def __init__(self, leading: Callable[[], bool]) -> None:
        registry = self.registry = CollectorRegistry()
        Gauge("podsla_controller_leading", "1 while this process leads.", registry=registry).set_function(
            lambda: float(leading())
        )
        self._errors = Counter("podsla_reconcile_errors", "Rounds that failed.", ["reconciler"], registry=registry)
        self._duration = Histogram(
            "podsla_reconcile_duration_seconds",
            "Time a round took.",
            ["reconciler"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._accepted = Gauge(
            "podsla_catalog_accepted", "1 where the newest edit of a catalogue serves, 0 where it was refused.",
            ["catalog"], registry=registry,
        )  # fmt: skip
        self._target = Gauge(
            "podsla_target_accepted", "1 where the newest edit of the target serves.", registry=registry
        )
        self._nodes = Gauge(
            "podsla_nodes", "Nodes, by whether their size is in a catalogue.", ["known"], registry=registry
        )
        self._held = Gauge(
            "podsla_nodes_held", "Nodes that publish more than they offer, for pods that are bound there.",
            registry=registry,
        )  # fmt: skip
        self._pods = Gauge("podsla_class_pods", "Running pods of a class.", ["sla_class"], registry=registry)
        self._misfits = Gauge(
            "podsla_class_misfits", "Running pods of a class whose size no longer has what they were promised.",
            ["sla_class"], registry=registry,
        )  # fmt: skip
        self._unsized = Gauge(
            "podsla_pods_not_sized",
            "Running pods that name a class and were created without podsla.",
            registry=registry,
        )
        self._attachments = Gauge(
            "podsla_gpu_attachments", "GPUAttachments by the condition that says their state; Waiting: none does yet.",
            ["state"], registry=registry,
        )  # fmt: skip
        self._warm = Gauge(
            "podsla_gpu_warm", "GPUs that namespaces keep ready for their next attachment; waiting: none was free yet.",
            ["state"], registry=registry,
        )  # fmt: skip
        self._waited = Histogram(
            "podsla_gpu_wait_seconds", "From an attachment's creation until its pod had the GPU.",
            buckets=WAIT_BUCKETS_S, registry=registry,
        )  # fmt: skip
        self._gpu_seconds = Gauge(
            "podsla_gpu_held_seconds", "GPU-seconds that a namespace has held since midnight, UTC.",
            ["namespace"], registry=registry,
        )  # fmt: skip
        self._uses = Counter(
            "podsla_gpu_use_seconds", "GPU-seconds that this process saw while it led, by what the GPU was for.",
            ["use"], registry=registry,
        )  # fmt: skip
        self._holdings = frozenset[tuple[str, str, str]]()
        self._lent = Gauge(
            "podsla_gpu_lent", "1 while an attachment of this namespace has this GPU.", ["node", "gpu", "namespace"],
            registry=registry,
        )  # fmt: skip
        self._expiry = Gauge(
            "podsla_certificate_expiry_timestamp_seconds",
            "When a certificate ends.",
            ["certificate"],
            registry=registry,
        )

    def ran(self, reconciler: str, duration_s: float) -> None:
        """Note how long a round took."""
        self._duration.labels(reconciler).observe(duration_s)

    def failed(self, reconciler: str) -> None:
        """Count a round that failed."""
        self._errors.labels(reconciler).inc()

    def catalogs(self, accepted: Mapping[str, bool]) -> None:
        """Note of each catalogue whether its newest edit serves."""
        self._accepted.clear()
        for name, serves in accepted.items():
            self._accepted.labels(name).set(serves)

    def target(self, *, accepted: bool) -> None:
        """Note whether the newest edit of the target serves."""
        self._target.set(accepted)

    def nodes(self, *, known: int, unknown: int) -> None:
        """Note how many nodes have a size that is in a catalogue."""
        self._nodes.labels("true").set(known)
        self._nodes.labels("false").set(unknown)

    def held(self, nodes: int) -> None:
        """Note how many nodes publish more than they offer."""
        self._held.set(nodes)

    def pods(self, pods: Mapping[str, int], misfits: Mapping[str, int]) -> None:
        """Note how many pods run in each class, and how many of them their size no longer holds."""
        for gauge, counts in ((self._pods, pods), (self._misfits, misfits)):
            gauge.clear()
            for name, count in counts.items():
                gauge.labels(name).set(count)

    def unsized(self, pods: int) -> None:
        """Note how many pods name a class and have no size."""
        self._unsized.set(pods)

    def attachments(self, states: Mapping[str, int]) -> None:
        """Note how many attachments there are in each state."""
        self._attachments.clear()
        for state, count in states.items():
            self._attachments.labels(state).set(count)

    def waited(self, each_s: Iterable[float]) -> None:
        """Note how long attachments waited that have their GPU now."""
        for one_s in each_s:
            self._waited.observe(one_s)

    def gpu_seconds(self, held_s: Mapping[str, int]) -> None:
        """Note what namespaces have held today."""
        self._gpu_seconds.clear()
        for namespace, one_s in held_s.items():
            self._gpu_seconds.labels(namespace).set(one_s)

    def warm(self, *, ready: int, waiting: int) -> None:
        """Note how many GPUs are kept ready, and how many more are to be."""
        self._warm.labels("ready").set(ready)
        self._warm.labels("waiting").set(waiting)

    def gpu_uses(self, each_s: Mapping[str, float]) -> None:
        """Count GPU-seconds by what the GPU was for."""
        for use, one_s in each_s.items():
            self._uses.labels(use).inc(one_s)

    def lent(self, holdings: Iterable[tuple[str, str, str]]) -> None:
        """Note who has which GPU now: its node, its UUID and the namespace; no scrape sees a holder missing."""
        before, self._holdings = self._holdings, frozenset(holdings)
        for holding in self._holdings:
            self._lent.labels(*holding).set(1)
        for gone in before - self._holdings:
            self._lent.remove(*gone)

    def expiry(self, certificate: str, timestamp_s: float) -> None:
        """Note when a certificate ends, in seconds since 1970."""
        self._expiry.labels(certificate).set(timestamp_s)
