"""Is podsla installed whole, is it called, and can it answer. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from catalog.schema import API_VERSION
from podsla.health.certificates import check_bundle, check_pair
from podsla.health.findings import Finding, Object, Reason, Snapshot, error, warning

ENTRIES: Final[Mapping[str, Sequence[str]]] = {
    "mutating": ("pods.podsla.io", "defaulted-pods.podsla.io"),
    "validating": ("resized-pods.podsla.io",),
    "templates": ("templates.podsla.io", "defaulted-templates.podsla.io"),
}
_TITLES: Final = {
    "mutating": "MutatingWebhookConfiguration/podsla",
    "validating": "ValidatingWebhookConfiguration/podsla",
    "templates": "ValidatingWebhookConfiguration/podsla-templates",
}
_OLDEST_MINOR: Final = 34
_LEASE_GRACE_S: Final = 30  # clocks differ, and a list takes a moment
_NAME_LABEL: Final = "kubernetes.io/metadata.name"
_APPLY: Final = "apply the manifests again"
_CONDITIONS: Final = {"no-mirror-pod", "has-a-key-of-ours", "does-more-than-opt-out"}  # those that are shipped


def check_install(found: Snapshot) -> Iterator[Finding]:
    """Judge what is installed; of a cluster without podsla, only that is said."""
    for what in sorted(found.hidden):
        message = f"you may not read {what}, so they are not judged; ask with an administrator's rights"
        yield warning(Reason.NOT_VISIBLE, what, message)
    if not found.mutating and not found.crd and not found.hidden & {"webhook configurations", "CRDs"}:
        message = "neither CRD nor webhook is here; kubectl apply --server-side -k manifests/overlays/default"
        yield error(Reason.NOT_INSTALLED, "cluster", message)
        return
    yield from _server(found.server)
    if "CRDs" not in found.hidden:
        yield from _crd(found.crd)
    if "webhook configurations" not in found.hidden:
        yield from _webhooks(found)
    if not found.policy and "admission policies" not in found.hidden:
        message = f"is missing: class and record of running pods can be rewritten; {_APPLY}"
        yield warning(Reason.POLICY_MISSING, "ValidatingAdmissionPolicy/podsla-sized-pods", message)
    if "secrets" not in found.hidden:
        for secret, data in (("podsla-ca", found.ca), ("podsla-webhook-tls", found.leaf)):
            if secret == "podsla-webhook-tls" or data:  # whoever brings a certificate of their own has no CA here  # noqa: S105
                yield from check_pair(data, secret, found.now)
    if not found.hidden & {"services", "endpoint slices"}:
        yield from _service(found)
    yield from _replicas(found.deployments)
    if "leases" not in found.hidden:
        yield from _leader(found)


def _server(version: str) -> Iterator[Finding]:
    match = re.match(r"v1\.(\d+)", version)
    if match and int(match[1]) < _OLDEST_MINOR:
        message = f"is {version}, and podsla needs 1.{_OLDEST_MINOR} or later; upgrade Kubernetes"
        yield error(Reason.KUBERNETES_TOO_OLD, "API server", message)


def _crd(crd: Object | None) -> Iterator[Finding]:
    subject = "CustomResourceDefinition/speccatalogs.podsla.io"
    if crd is None:
        yield error(Reason.CRD_MISSING, subject, f"is missing, so no catalogue can be published; {_APPLY}")
        return
    wanted = API_VERSION.rpartition("/")[2]
    versions = {one["name"]: one for one in crd["spec"].get("versions") or ()}
    conditions = {c["type"]: c["status"] for c in (crd.get("status") or {}).get("conditions") or ()}
    if not (versions.get(wanted) or {}).get("served"):
        message = f"serves {', '.join(sorted(versions)) or 'nothing'}, and this podsla reads {wanted}; {_APPLY}"
        yield error(Reason.CRD_NOT_SERVED, subject, message)
    elif conditions.get("Established") != "True":
        yield error(Reason.CRD_NOT_SERVED, subject, "is not Established yet; kubectl describe it")


def _webhooks(found: Snapshot) -> Iterator[Finding]:
    for kind, entries in ENTRIES.items():
        thing = getattr(found, kind)
        hooks = {hook["name"]: hook for hook in (thing or {}).get("webhooks") or ()}
        missing = [name for name in entries if name not in hooks]
        if missing:
            make = warning if kind == "templates" else error
            message = f"has no entry {' nor '.join(missing)}, so what these would be sent is not looked at; {_APPLY}"
            yield make(Reason.WEBHOOK_MISSING, _TITLES[kind], message)
        open_ones = [n for n, hook in hooks.items() if hook.get("failurePolicy") == "Ignore"]
        if kind == "mutating" and open_ones:
            message = "is Ignore (overlay fail-open?): pods are created without a size while podsla does not answer"
            yield warning(Reason.WEBHOOK_FAILS_OPEN, f"failurePolicy of {', '.join(open_ones)}", message)
        for name, hook in hooks.items():
            yield from _entry(name, hook, found)
            if kind == "mutating" and (why := "; ".join(_passed_by(hook))):
                yield error(Reason.WEBHOOK_PASSED_BY, f"webhook {name}", f"{why}; {_APPLY}")


def _passed_by(hook: Mapping[str, Any]) -> Iterator[str]:
    """Say why pods with a class are created and not sent to it, though it is there."""
    sent = (("apiGroups", ""), ("apiVersions", "v1"), ("resources", "pods"), ("operations", "CREATE"))
    rules = hook.get("rules") or ()
    if not any(all({each, "*"} & {*(rule.get(field) or ())} for field, each in sent) for rule in rules):
        yield "it has no rule for pods that are created, so it is never called"
    if hook.get("objectSelector"):
        yield "it has an objectSelector, and pods that this leaves out come without a size"
    others = sorted({one["name"] for one in hook.get("matchConditions") or ()} - _CONDITIONS)
    if others:
        yield f"it has matchConditions of somebody else ({', '.join(others)}), and what they leave out has no size"


def _entry(name: str, hook: Mapping[str, Any], found: Snapshot) -> Iterator[Finding]:
    config = hook.get("clientConfig") or {}
    leaf = (found.leaf or {}).get("tls.crt", "")
    yield from check_bundle(config.get("caBundle") or "", leaf, _host(config), f"webhook {name}")
    sent = [name for name in ("kube-system", found.home) if selects(hook.get("namespaceSelector") or {}, name)]
    if sent:
        message = f"pods of {' and '.join(sent)} are sent to it, which can keep the cluster from starting; {_APPLY}"
        yield error(Reason.SYSTEM_NAMESPACE_SENT, f"webhook {name}", message)


def _host(config: Mapping[str, Any]) -> str:
    service = config.get("service")
    if service:
        return f"{service['name']}.{service['namespace']}.svc"
    return urlsplit(config.get("url") or "").hostname or ""


def selects(selector: Mapping[str, Any], namespace: str) -> bool:
    """Tell whether a namespaceSelector takes a namespace whatever labels it gets beside its name."""
    for expression in selector.get("matchExpressions") or ():
        values = expression.get("values") or ()
        if expression["key"] == _NAME_LABEL and (expression["operator"] == "NotIn") == (namespace in values):
            return False
    return True  # any other label may come at any time


def _service(found: Snapshot) -> Iterator[Finding]:
    """Judge whether somebody answers, where a Service is called; beside a cluster, an address is."""
    hooks = (found.mutating or {}).get("webhooks") or ()
    if not any((hook.get("clientConfig") or {}).get("service") for hook in hooks):
        return
    subject = f"Service/podsla-webhook in {found.home}"
    if found.service is None:
        yield error(Reason.SERVICE_MISSING, subject, f"is called by the webhooks and is not there; {_APPLY}")
        return
    endpoints = [endpoint for one in found.slices for endpoint in one.get("endpoints") or ()]
    ready = [one for one in endpoints if (one.get("conditions") or {}).get("ready") is not False]
    if not ready:
        message = f"has {len(endpoints)} endpoints and none that is ready: pods with a class are refused; "
        yield error(Reason.NO_ENDPOINTS, subject, f"{message}kubectl -n {found.home} describe pods")


def _replicas(deployments: Sequence[Object]) -> Iterator[Finding]:
    images = {}
    for one in deployments:
        name = one["metadata"]["name"]
        wanted, ready = one["spec"].get("replicas", 1), (one.get("status") or {}).get("readyReplicas") or 0
        images[name] = one["spec"]["template"]["spec"]["containers"][0].get("image", "")
        if ready < wanted or not wanted:
            make = warning if ready else error
            message = f"{ready} of {wanted} replicas are ready; kubectl describe its pods"
            yield make(Reason.REPLICAS_NOT_READY, f"Deployment/{name}", message)
    if len(set(images.values())) > 1:
        told = ", ".join(f"{name} runs {image}" for name, image in sorted(images.items()))
        message = f"{told}; upgrade both with one apply"
        yield warning(Reason.VERSION_SKEW, "Deployments", message)


def _leader(found: Snapshot) -> Iterator[Finding]:
    subject, spec = f"Lease/podsla-controller in {found.home}", (found.lease or {}).get("spec") or {}
    idle = "catalogues are not judged, nodes publish nothing new, certificates are not renewed"
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        yield error(Reason.NO_LEADER, subject, f"nobody holds it: {idle}; start `podsla controller`")
        return
    since = found.now - datetime.fromisoformat(spec["renewTime"])
    lasts_s = int(spec.get("leaseDurationSeconds") or 0)
    if since.total_seconds() > lasts_s + _LEASE_GRACE_S:
        message = f"{spec['holderIdentity']} renewed it {int(since.total_seconds())} s ago, and it lasts {lasts_s} s"
        yield error(Reason.NO_LEADER, subject, f"{message}: {idle}; look at the controller's log")
