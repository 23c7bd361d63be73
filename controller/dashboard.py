"""The Grafana dashboard, made of panels that each ask one question. `make manifests` writes it. Pure."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

COLUMNS: Final = 3
WIDTH, HEIGHT = 8, 7
_LED: Final = "and on (pod) (podsla_controller_leading == 1)"  # who led before keeps what it saw last
_COLOURS: Final = {"timeseries": {}, "state-timeline": {"color": {"mode": "palette-classic"}}}
_OPTIONS: Final = {
    "timeseries": {},
    "state-timeline": {"options": {"showValue": "never", "legend": {"showLegend": False}}},
}
_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """
    A question, and what answers it.

    Attributes:
        queries: PromQL, and how a series is called in the legend.
        unit: As Grafana names it.
        kind: Of a timeline, each series is a row with a bar for as long as there is one.
    """

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: Literal["timeseries", "state-timeline"] = "timeseries"


def _rate(by: str, metric: str) -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


def _time(quantile: float, metric: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({quantile}, sum by ({labels}) (rate({metric}_bucket[$__rate_interval])))"


PANELS: Final = (
    Panel("How many reviews are answered?",
          [(_rate("outcome", "podsla_admission_requests_total"), "{{outcome}}")], "reqps"),
    Panel("How long does one in a hundred take?",
          [(_time(0.99, "podsla_admission_duration_seconds", "outcome"), "{{outcome}}")], "s"),
    Panel("How long does one in two take?",
          [(_time(0.5, "podsla_admission_duration_seconds", "outcome"), "{{outcome}}")], "s"),
    Panel("Why are pods refused?", [(_rate("reason", "podsla_admission_refusals_total"), "{{reason}}")], "reqps"),
    Panel("Which classes refuse pods?",
          [(_rate("sla_class", "podsla_admission_refusals_total"), "{{sla_class}}")], "reqps"),
    Panel("What gets no decision?", [(_rate("kind", "podsla_admission_errors_total"), "{{kind}}")], "reqps"),
    Panel("How many calls wait?", [("podsla_admission_waiting", "{{pod}}")]),
    Panel("With how many bytes?", [("podsla_admission_waiting_bytes", "{{pod}}")], "bytes"),
    Panel("Which revision is served?", [("count by (revision) (podsla_catalog_info)", "{{revision}}")]),
    Panel("Since when, by worker?", [("time() - podsla_catalog_since_timestamp_seconds", "{{pod}}")], "s"),
    Panel("How large are answers that change a pod?",
          [("sum(rate(podsla_admission_patched_bytes_total[$__rate_interval]))", "answers")], "Bps"),
    Panel("How many pods come again?",
          [("sum(rate(podsla_admission_reinvocations_total[$__rate_interval]))", "with a record")], "reqps"),
    Panel("How many classes and sizes are served?", [
        ("max(podsla_catalog_classes)", "classes"), ("max(podsla_catalog_sizes)", "sizes"),
    ]),
    Panel("What is accepted?", [
        ("podsla_catalog_accepted", "{{catalog}}"), ("max(podsla_target_accepted)", "target"),
    ]),
    Panel("How many pods has each class?", [("max by (sla_class) (podsla_class_pods)", "{{sla_class}}")]),
    Panel("Whose promises no longer hold?", [
        ("max by (sla_class) (podsla_class_misfits)", "{{sla_class}}"), ("max(podsla_nodes_held)", "nodes held"),
        ("max(podsla_pods_not_sized)", "created without a size"),
    ]),
    Panel("How many nodes have a known size?", [("max by (known) (podsla_nodes)", "{{known}}")]),
    Panel("Who borrows GPUs?", [
        ("max by (state) (podsla_gpu_attachments)", "{{state}}"),
        ("max by (state) (podsla_gpu_warm)", "kept ready: {{state}}"),
    ]),
    Panel("How many GPUs does each namespace hold?",  # the fall at midnight is a counter's that began anew
          [(f"max by (namespace) (rate(podsla_gpu_held_seconds[$__rate_interval]) {_LED})", "{{namespace}}")]),
    Panel("How many GPU-minutes has each held today?",
          [(f"max by (namespace) (podsla_gpu_held_seconds {_LED}) / 60", "{{namespace}}")]),
    Panel("What are GPUs for?",
          [(_rate("use", "podsla_gpu_use_seconds_total"), "{{use}}")]),
    Panel("Who has which GPU?",
          [(f"max by (node, gpu, namespace) (podsla_gpu_lent {_LED})", "{{node}} {{gpu}}: {{namespace}}")],
          kind="state-timeline"),
    Panel("How long did they wait for it?", [(_time(0.5, "podsla_gpu_wait_seconds"), "one in two"),
                                             (_time(0.99, "podsla_gpu_wait_seconds"), "one in a hundred")], "s"),
    Panel("How long does a step of the agent take?",
          [(_time(0.99, "podsla_attach_step_duration_seconds", "step"), "{{step}}")], "s"),
    Panel("How long does a pass of the agent take?",
          [(_time(0.99, "podsla_attach_pass_duration_seconds"), "one in a hundred")], "s"),
    Panel("What fails on nodes?", [
        (_rate("step, result", 'podsla_attach_steps_total{result!="Done"}'), "{{step}}: {{result}}"),
    ], "ops"),
    Panel("How do attachments move on?", [(_rate("to", "podsla_attach_transitions_total"), "{{to}}")], "ops"),
    Panel("What is repaired, and what is held back?", [
        (_rate("reason", "podsla_attach_repairs_total"), "repaired: {{reason}}"),
        (_rate("reason", "podsla_attach_quarantines_total"), "held back: {{reason}}"),
        ("sum(rate(podsla_attach_holders_found_total[$__rate_interval]))", "holders found"),
    ], "ops"),
    Panel("What do agents have?", [
        ("sum by (state) (podsla_attachments)", "{{state}}"),
        ("count(podsla_attach_journal_usable == 0) or vector(0)", "journals that can't be used"),
        ("sum(podsla_attach_desired_problems)", "problems of what is desired"),
    ]),
    Panel("Until when are certificates valid?", [
        ("min by (certificate) (podsla_certificate_expiry_timestamp_seconds) - time()", "{{certificate}}"),
    ], "s"),
    Panel("Who leads?", [("podsla_controller_leading", "{{pod}}")]),
    Panel("How long does a round take?",
          [(_time(0.99, "podsla_reconcile_duration_seconds", "reconciler"), "{{reconciler}}")], "s"),
    Panel("What fails in the controller?", [(_rate("reconciler", "podsla_reconcile_errors_total"), "{{reconciler}}")]),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """Write the dashboard as Grafana imports it."""
    return {
        "title": "podsla",
        "uid": "podsla",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": list(_panels()),
    }


def _panels() -> Iterator[dict[str, Any]]:
    for number, panel in enumerate(PANELS):
        row, column = divmod(number, COLUMNS)
        yield {
            "id": number + 1,
            "title": panel.title,
            "type": panel.kind,
            "datasource": _SOURCE,
            "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, **_COLOURS[panel.kind]}, "overrides": []},
            **_OPTIONS[panel.kind],
            "targets": [
                {"refId": "ABC"[index], "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
                for index, (expression, legend) in enumerate(panel.queries)
            ],
        }


def config_map() -> dict[str, Any]:
    """Wrap the dashboard in the ConfigMap that Grafana's sidecar looks for."""
    labels = {"grafana_dashboard": "1"}
    metadata = {"name": "podsla-dashboard", "namespace": "podsla-system", "labels": labels}
    data = {"podsla.json": json.dumps(dashboard(), indent=1)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


if __name__ == "__main__":
    print(json.dumps(config_map(), indent=1))
