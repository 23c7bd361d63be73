"""Builders of test input: valid by default, keywords override."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from catalog.fit import compile_index
from catalog.load import load_target
from catalog.reader import read_catalog
from catalog.yamltext import parse_documents
from webhook.admit import Serving

TODAY = date(2026, 11, 23)
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"

CATALOG = """
apiVersion: podsla.io/v1beta1
kind: SpecCatalog
metadata: {name: platform}
spec:
  sizes:
  - {name: small, vcpu: "2", memory: 4Gi, cpu: {baseMHz: 2500}, network: {pps: 300k, bitsPerSecond: 1G}}
  - {name: medium, vcpu: "4", memory: 8Gi, cpu: {baseMHz: 2700}, network: {pps: 1M, bitsPerSecond: 2G}}
  - {name: large, vcpu: "8", memory: 16Gi, cpu: {baseMHz: 2700}, network: {pps: 2M, bitsPerSecond: 4G}, cost: 7500m}
  classes:
  - {name: general}
  - {name: steady, floor: {vcpu: "2"}}
  - name: net
    floor: {network: {pps: 600k}}
    tunable: {network.pps: {max: 1500k}}
"""


def catalog_text(text: str = CATALOG, *, classes: str = "") -> str:
    """A catalogue of three sizes and three classes; *classes* is YAML of further ones, one `- {…}` a line."""
    return text + "".join(f"  {line}\n" for line in classes.splitlines())


def serving(text: str | None = None, *, target: str = "kubernetes") -> Serving:
    """What a replica serves: a catalogue for a shipped target."""
    catalog = read_catalog(parse_documents(text or catalog_text(), "catalog.yaml"))
    return Serving(compile_index(catalog, load_target(target)))


def container(name: str = "app", *, requests: Any = None, limits: Any = None, **fields: Any) -> dict[str, Any]:
    """A container; requests and limits only where given."""
    resources = {key: value for key, value in (("requests", requests), ("limits", limits)) if value is not None}
    return {"name": name, "image": "registry.example/app:1", "resources": resources, **fields}


def pod(
    sla_class: str | None = "net",
    *,
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    containers: Sequence[Mapping[str, Any]] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A pod of one container that names a class; further keywords are fields of its spec."""
    written = {**({"podsla.io/class": sla_class} if sla_class else {}), **(annotations or {})}
    head: dict[str, Any] = {"name": "checkout-x7k2p", "namespace": "team-a", **(metadata or {})}
    if written:
        head["annotations"] = written
    if labels:
        head["labels"] = dict(labels)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": head,
        "spec": {"containers": list(containers or [container(requests={"cpu": "500m", "memory": "1Gi"})]), **spec},
    }


def template(sla_class: str | None = "net", **overrides: Any) -> dict[str, Any]:
    """A pod template: a pod without kind, name and namespace."""
    made = pod(sla_class, **overrides)
    head = {key: value for key, value in made["metadata"].items() if key not in ("name", "namespace")}
    return {"metadata": head, "spec": made["spec"]}


def workload(kind: str = "Deployment", *, metadata: Mapping[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A workload of 3 replicas over `template()`; further keywords are fields of its spec."""
    defaults: dict[str, Any] = {"template": template()}
    if kind in ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"):
        defaults["replicas"] = 3
    head = {"name": "checkout", "namespace": "team-a", **(metadata or {})}
    return {"kind": kind, "metadata": head, "spec": {**defaults, **spec}}


_GROUPS = {"Pod": "", "ReplicationController": "", "Job": "batch", "CronJob": "batch"}


def review(found: Mapping[str, Any] | None = None, *, version: str = "v1", **request: Any) -> dict[str, Any]:
    """An AdmissionReview that creates *found* (a pod unless given); further keywords are fields of its request."""
    found = pod() if found is None else found
    kind = found.get("kind", "Pod")
    group = _GROUPS.get(kind, "apps")
    return {
        "apiVersion": f"admission.k8s.io/{version}",
        "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "kind": {"group": group, "version": "v1", "kind": kind},
            "resource": {"group": group, "version": "v1", "resource": f"{kind.lower()}s"},
            "namespace": "team-a",
            "operation": "CREATE",
            "userInfo": {"username": "developer"},
            "object": found,
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
            **request,
        },
    }
