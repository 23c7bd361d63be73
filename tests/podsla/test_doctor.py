"""What the doctor finds in a cluster that is set up to be wrong in one way at a time."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from catalog.lint import Severity
from podsla.commands.doctor import examine
from podsla.health.findings import Reason, Snapshot
from podsla.health.install import ENTRIES
from tests.builders import pod
from tests.podsla.snapshots import (
    HOME,
    NOW,
    accepted_target,
    annotated,
    edited,
    labelled,
    leaning,
    namespace,
    node,
    old,
    other_bundle,
    promised,
    recorded,
    refused_edit,
    target,
    well,
    with_classes,
)

HIDDEN: Mapping[str, Mapping[str, Any]] = {
    "CRDs": {"crd": None},
    "admission policies": {"policy": None},
    "catalogues": {"catalogs": []},
    "config maps": {"target": None},
    "controller revisions": {"revisions": []},
    "deployments": {"deployments": []},
    "endpoint slices": {"slices": []},
    "leases": {"lease": None},
    "namespaces": {"namespaces": []},
    "nodes": {"nodes": []},
    "pods": {"pods": []},
    "runtime classes": {"runtime_classes": []},
    "secrets": {"ca": None, "leaf": None},
    "services": {"service": None},
    "webhook configurations": {"mutating": None, "validating": None, "templates": None},
}
E, W = Severity.ERROR, Severity.WARNING
MUTATING = "MutatingWebhookConfiguration/podsla"
FIRST = "webhook pods.podsla.io"


def test_where_all_is_well_nothing_is_found() -> None:
    assert examine(well()) == []


@pytest.mark.parametrize(
    ("snapshot", "expected", "said"),
    [
        pytest.param(
            Snapshot(home=HOME, now=NOW, server="v1.37.0"), (E, Reason.NOT_INSTALLED, "cluster"),
            "kubectl apply --server-side -k", id="podsla is not installed",
        ),
        pytest.param(
            well(server="v1.33.4"), (E, Reason.KUBERNETES_TOO_OLD, "API server"), "is v1.33.4, and podsla needs 1.34",
            id="Kubernetes is too old",
        ),
        pytest.param(
            well(crd=None), (E, Reason.CRD_MISSING, "CustomResourceDefinition/speccatalogs.podsla.io"),
            "no catalogue can be published", id="no CRD",
        ),
        pytest.param(
            edited("crd", "spec", "versions", 0, "name", to="v1alpha1"),
            (E, Reason.CRD_NOT_SERVED, "CustomResourceDefinition/speccatalogs.podsla.io"),
            "serves v1alpha1, and this podsla reads v1beta1", id="a CRD of another version",
        ),
        pytest.param(
            edited("crd", "status", "conditions", to=[]),
            (E, Reason.CRD_NOT_SERVED, "CustomResourceDefinition/speccatalogs.podsla.io"), "not Established",
            id="a CRD that is not established",
        ),
        pytest.param(
            well(mutating=None), (E, Reason.WEBHOOK_MISSING, MUTATING),
            "no entry pods.podsla.io nor defaulted-pods.podsla.io", id="no mutating webhook",
        ),
        pytest.param(
            edited("mutating", "webhooks", 1, to=None), (E, Reason.WEBHOOK_MISSING, MUTATING),
            "no entry defaulted-pods.podsla.io", id="one entry of two",
        ),
        pytest.param(
            well(templates=None),
            (W, Reason.WEBHOOK_MISSING, "ValidatingWebhookConfiguration/podsla-templates"),
            "templates.podsla.io", id="no warnings for templates",
        ),
        pytest.param(
            edited("mutating", "webhooks", 0, "failurePolicy", to="Ignore"),
            (W, Reason.WEBHOOK_FAILS_OPEN, "failurePolicy of pods.podsla.io"), "created without a size",
            id="a webhook that fails open",
        ),
        pytest.param(
            edited("mutating", "webhooks", 0, "rules", 0, "operations", to=["UPDATE"]),
            (E, Reason.WEBHOOK_PASSED_BY, FIRST), "it has no rule for pods that are created, so it is never called",
            id="a webhook that is not called for new pods",
        ),
        pytest.param(
            edited("mutating", "webhooks", 0, "rules", 0, "resources", to=["deployments"]),
            (E, Reason.WEBHOOK_PASSED_BY, FIRST), "no rule for pods", id="a webhook that is not called for pods",
        ),
        pytest.param(
            edited("mutating", "webhooks", 0, "objectSelector", to={"matchLabels": {"podsla": "yes"}}),
            (E, Reason.WEBHOOK_PASSED_BY, FIRST), "it has an objectSelector", id="a webhook for pods with a label",
        ),
        pytest.param(
            edited("mutating", "webhooks", 0, "matchConditions", 0, "name", to="not-today"),
            (E, Reason.WEBHOOK_PASSED_BY, FIRST), "matchConditions of somebody else (not-today)",
            id="a webhook with another's condition",
        ),
        pytest.param(
            edited("mutating", "webhooks", 0, "namespaceSelector", "matchExpressions", 1, "values", to=[HOME]),
            (E, Reason.SYSTEM_NAMESPACE_SENT, FIRST), "pods of kube-system are sent", id="kube-system is sent",
        ),
        pytest.param(
            edited("mutating", "webhooks", 0, "clientConfig", "caBundle", to=None), (E, Reason.NO_CA_BUNDLE, FIRST),
            "every call of it fails", id="no CA bundle",
        ),
        pytest.param(
            edited("mutating", "webhooks", 0, "clientConfig", "caBundle", to=other_bundle()),
            (E, Reason.CA_BUNDLE_DIFFERS, FIRST), "does not hold the issuer", id="the CA bundle of another CA",
        ),
        pytest.param(
            edited("mutating", "webhooks", 0, "clientConfig", "service", "name", to="other"),
            (E, Reason.CERTIFICATE_INVALID, FIRST), f"calls other.{HOME}.svc, and the webhook's certificate is for",
            id="a Service that the certificate is not for",
        ),
        pytest.param(
            edited("leaf", "tls.crt", to=None), (E, Reason.CERTIFICATE_MISSING, "Secret/podsla-webhook-tls"),
            "holds no certificate", id="no certificate",
        ),
        pytest.param(
            edited("leaf", "tls.crt", to="bm90aGluZw=="),
            (E, Reason.CERTIFICATE_INVALID, "Secret/podsla-webhook-tls"), "cannot be read",
            id="a certificate that cannot be read",
        ),
        pytest.param(
            old(timedelta(days=75)), (W, Reason.CERTIFICATE_EXPIRING, "Secret/podsla-webhook-tls"),
            "ends 2027-02-21 12:00 UTC, in 15 days, and should have been renewed", id="a certificate nobody renewed",
        ),
        pytest.param(
            old(timedelta(days=91)), (E, Reason.CERTIFICATE_EXPIRED, "Secret/podsla-webhook-tls"),
            "and it is 2027-02-22 12:00 UTC", id="a certificate that is over",
        ),
        pytest.param(
            well(service=None), (E, Reason.SERVICE_MISSING, f"Service/podsla-webhook in {HOME}"), "is not there",
            id="no Service",
        ),
        pytest.param(
            edited("slices", 0, "endpoints", 0, "conditions", "ready", to=False),
            (E, Reason.NO_ENDPOINTS, f"Service/podsla-webhook in {HOME}"), "has 1 endpoints and none that is ready",
            id="no replica is ready",
        ),
        pytest.param(
            edited("deployments", 0, "status", "readyReplicas", to=1),
            (W, Reason.REPLICAS_NOT_READY, "Deployment/podsla-webhook"), "1 of 2 replicas are ready",
            id="one replica of two",
        ),
        pytest.param(
            edited("deployments", 1, "spec", "template", "spec", "containers", 0, "image", to="podsla:2"),
            (W, Reason.VERSION_SKEW, "Deployments"), "podsla-controller runs podsla:2, podsla-webhook runs podsla:1",
            id="half an upgrade",
        ),
        pytest.param(
            well(lease=None), (E, Reason.NO_LEADER, f"Lease/podsla-controller in {HOME}"), "nobody holds it",
            id="no controller",
        ),
        pytest.param(
            edited("lease", "spec", "renewTime", to="2026-11-23T11:50:00.000000Z"),
            (E, Reason.NO_LEADER, f"Lease/podsla-controller in {HOME}"), "c-0 renewed it 600 s ago, and it lasts 15 s",
            id="a controller that died",
        ),
        pytest.param(
            well(policy=None), (W, Reason.POLICY_MISSING, "ValidatingAdmissionPolicy/podsla-sized-pods"),
            "can be rewritten", id="no policy for running pods",
        ),
        pytest.param(
            well(catalogs=[], revisions=[], namespaces=[]), (E, Reason.NO_CATALOG, "SpecCatalogs"),
            "podsla catalog apply", id="no catalogue",
        ),
        pytest.param(
            refused_edit(), (W, Reason.CATALOG_REFUSED, "SpecCatalog/platform"),
            "InvalidCatalog: spec.sizes[0]: wrong; podsla catalog rollback platform puts back what serves",
            id="a refused edit, and the last good one serves",
        ),
        pytest.param(
            edited("catalogs", 0, "metadata", "generation", to=2),
            (W, Reason.CATALOG_NOT_JUDGED, "SpecCatalog/platform"), "generation 2 is not judged, 1 was the last",
            id="an edit nobody judged",
        ),
        pytest.param(
            well(revisions=[]), (E, Reason.REVISION_MISSING, "ControllerRevisions"), "a replica that starts serves",
            id="what serves is kept nowhere",
        ),
        pytest.param(
            well(target=target("kind: Target")), (W, Reason.TARGET_REFUSED, "ConfigMap/podsla-target"),
            "the shipped target serves", id="a target that is wrong",
        ),
        pytest.param(
            well(target={"metadata": {}, "data": {"x": ""}}), (W, Reason.TARGET_REFUSED, "ConfigMap/podsla-target"),
            "has no key target.yaml", id="a target without its key",
        ),
        pytest.param(
            well(target=target("{apiVersion: podsla.io/v1beta1, kind: Target, metadata: {name: x}, spec: {}}")),
            (W, Reason.TARGET_NOT_JUDGED, "ConfigMap/podsla-target"), "is a controller running",
            id="a target nobody took over",
        ),
        pytest.param(
            accepted_target("kind: Target"), (E, Reason.TARGET_REFUSED, "ConfigMap/podsla-target"),
            "what was accepted of it cannot be read by this podsla", id="a target of a newer podsla",
        ),
        pytest.param(
            leaning(), (E, Reason.CATALOGS_MISFIT, "served catalogues"), "'gone' is no class",
            id="a catalogue leans on one that is gone",
        ),
        pytest.param(
            edited("nodes", 0, "metadata", "labels", "node.kubernetes.io/instance-type", to="mediun"),
            (W, Reason.UNKNOWN_NODE_TYPE, "type mediun"), "did you mean medium?", id="a node of an unknown type",
        ),
        pytest.param(
            edited("nodes", 0, "metadata", "labels", "podsla.io/base-mhz", to="9999"),
            (E, Reason.NODE_NOT_PUBLISHED, "1 node"), "n1 publish label podsla.io/base-mhz=9999, and 2700 is offered",
            id="a label says more than the size offers",
        ),
        pytest.param(
            edited("nodes", 0, "status", "allocatable", "podsla.io/pps", to="9M"),
            (E, Reason.NODE_NOT_PUBLISHED, "1 node"), "9M podsla.io/pps where 950k is offered",
            id="more than the size offers, and no pod was promised it",
        ),
        pytest.param(
            edited("nodes", 0, "status", "allocatable", "podsla.io/disk-iops", to="9"),
            (E, Reason.NODE_NOT_PUBLISHED, "1 node"), "9 podsla.io/disk-iops where nothing is offered",
            id="a figure that the size does not have",
        ),
        pytest.param(
            edited("nodes", 0, "metadata", "labels", "podsla.io/base-mhz", to=None),
            (E, Reason.NODE_NOT_PUBLISHED, "1 node"), "n1 publish no label podsla.io/base-mhz",
            id="a label is missing",
        ),
        pytest.param(
            edited("nodes", 0, "status", "allocatable", "podsla.io/pps", to="100k"),
            (E, Reason.NODE_NOT_PUBLISHED, "1 node"), "100k podsla.io/pps of 950k", id="less than the size offers",
        ),
        pytest.param(
            well(pods=[promised("1500k")]), (W, Reason.NODE_OVER_PROMISED, "Node/n1"),
            "podsla.io/pps: 1500k is promised, and it has 950k", id="more is promised than there is",
        ),
        pytest.param(
            with_classes("- {name: fast, description: x, floor: {cpu: {baseMHz: 2700}, network: {pps: 1800k}}}"),
            None, "", id="a class that one node can hold",
        ),
        pytest.param(
            replace(with_classes("- {name: many, description: x, floor: {network: {pps: 1800k}}}"), nodes=[node("n1")]),
            (W, Reason.CLASS_FITS_NO_NODE, "class many"),
            "none of 1 nodes can hold a pod of it, even empty; medium comes nearest and lacks podsla.io/pps (950k of "
            "1800k)", id="a class that no node can hold",
        ),
        pytest.param(
            with_classes("- {name: vm, description: x, runtime: kata}"), (E, Reason.CLASS_REFUSES_ALL, "class vm"),
            "needs runtime 'kata'", id="a class that nobody gets",
        ),
        pytest.param(
            with_classes("- {name: past, description: x, deprecated: {refuseFrom: 2026-01-01}}"), None, "",
            id="a class that was retired on purpose",
        ),
        pytest.param(
            with_classes("- {name: edge, description: x, namespaces: {matchLabels: {team: edge}}}"), None, "",
            id="a class that is open to some",
        ),
        pytest.param(
            well(namespaces=[namespace("team-b", default_class="generl")]),
            (E, Reason.DEFAULT_CLASS_UNUSABLE, "Namespace/team-b"),
            "podsla.io/default-class=generl, and every pod is refused: class 'generl' is in no catalogue; "
            "did you mean general?", id="a default class that does not exist",
        ),
        pytest.param(
            well(namespaces=[namespace("team-b", defualt_class="general")]),
            (W, Reason.NAMESPACE_KEY_IGNORED, "Namespace/team-b"),
            "the label podsla.io/defualt-class has no effect on a namespace; did you mean podsla.io/default-class?",
            id="the key of the default class is misspelt",
        ),
        pytest.param(
            well(namespaces=[labelled("podsla/default-class", "general")]),
            (W, Reason.NAMESPACE_KEY_IGNORED, "Namespace/team-b"), "did you mean podsla.io/default-class?",
            id="its domain is misspelt",
        ),
        pytest.param(
            well(namespaces=[namespace("team-b", **{"class": "general"})]),
            (W, Reason.NAMESPACE_KEY_IGNORED, "Namespace/team-b"), "did you mean podsla.io/default-class",
            id="the key of a pod stands on a namespace",
        ),
        pytest.param(
            well(namespaces=[annotated("podsla.io/default-class", "general")]),
            (W, Reason.NAMESPACE_KEY_IGNORED, "Namespace/team-b"),
            "podsla.io/default-class is an annotation here and has no effect; make it a label",
            id="the default class is an annotation",
        ),
        pytest.param(
            well(namespaces=[annotated("podsla.io/default", "general")]),
            (W, Reason.NAMESPACE_KEY_IGNORED, "Namespace/team-b"),
            "the annotation podsla.io/default has no effect on a namespace, where labels count; "
            "did you mean podsla.io/default-class", id="a misspelt annotation",
        ),
        pytest.param(
            well(namespaces=[namespace("team-b", enforce_templates="yes")]),
            (W, Reason.NAMESPACE_KEY_IGNORED, "Namespace/team-b"),
            "the label podsla.io/enforce-templates is 'yes' and has no effect; write true or false",
            id="templates are not enforced by yes",
        ),
        pytest.param(
            well(namespaces=[namespace("team-b", warm_gpus="2")]), None, "", id="GPUs that are kept ready",
        ),
        pytest.param(
            replace(
                with_classes("- {name: edge, description: x, namespaces: {matchLabels: {podsla.io/team: edge}}}"),
                namespaces=[namespace("team-b", team="edge", enforce_templates="true")],
            ), None, "", id="a key of ours that a class asks of namespaces",
        ),
        pytest.param(
            well(namespaces=[labelled("example.io/enforce-templates", "yes"), annotated("example.com/class", "x")]),
            None, "", id="keys of others",
        ),
        pytest.param(
            well(namespaces=[namespace("team-b", default_class="none")]), None, "", id="a default that opts out",
        ),
        pytest.param(
            well(pods=[pod("net")]), (W, Reason.POD_NOT_SIZED, "1 pod"),
            "team-a/checkout-x7k2p name a class and were created without podsla", id="a pod without a record",
        ),
        pytest.param(
            well(pods=[pod("net", metadata={"namespace": "kube-system"}), pod("none"), pod(None)]), None, "",
            id="pods that podsla is not asked about",
        ),
        pytest.param(
            well(pods=[recorded("medium", "600k")]), None, "", id="a pod that has what it was promised",
        ),
        pytest.param(
            well(pods=[recorded("medium", "600k", name="fits"), *(recorded("medium", "990k", name=n) for n in "dcba")]),
            (W, Reason.PODS_MISFIT, "class net"),
            "4 of 5 pods were promised what is not offered any more: "
            "team-a/a (network.pps: 990k kept, medium offers 950k), "
            "team-a/b (network.pps: 990k kept, medium offers 950k), "
            "team-a/c (network.pps: 990k kept, medium offers 950k) and 1 more; "
            "they run on; `podsla explain pod a -n team-a` says what a new one would get",
            id="a figure was lowered under pods",
        ),
        pytest.param(
            well(pods=[recorded("huge", "600k")]), (W, Reason.PODS_MISFIT, "class net"),
            "1 of 1 pods were promised what is not offered any more: team-a/checkout-x7k2p (size huge is gone); ",
            id="a size was withdrawn under a pod",
        ),
    ],
)  # fmt: skip
def test_one_thing_is_wrong(snapshot: Snapshot, expected: tuple[Severity, Reason, str] | None, said: str) -> None:
    found = examine(snapshot)

    assert [(one.severity, one.reason, one.subject) for one in found] == ([expected] if expected else [])
    assert all(said in one.message for one in found)


def test_the_entries_that_are_looked_for_are_those_that_are_shipped() -> None:
    shipped: Mapping[str, Any] = {
        "mutating": well().mutating, "validating": well().validating, "templates": well().templates,
    }  # fmt: skip
    names = {kind: tuple(hook["name"] for hook in one["webhooks"]) for kind, one in shipped.items()}

    assert names == {kind: tuple(entries) for kind, entries in ENTRIES.items()}


def test_nodes_that_hold_figures_up_for_pods_are_told_by_the_catalogue() -> None:
    snapshot = well()
    held = {"type": "Followed", "status": "False", "reason": "HeldForPods", "message": "1 node publishes more"}
    snapshot.catalogs[0]["status"]["conditions"].append(held)

    (found,) = examine(snapshot)
    assert (found.severity, found.reason) == (W, Reason.NODES_HELD)
    assert found.message.startswith("1 node publishes more; ")


@pytest.mark.parametrize("hidden", sorted(HIDDEN))
def test_what_may_not_be_seen_is_named_and_never_missed(hidden: str) -> None:
    found = examine(replace(well(**HIDDEN[hidden]), hidden=frozenset({hidden})))

    assert [(one.severity, one.reason, one.subject) for one in found] == [(W, Reason.NOT_VISIBLE, hidden)]


def test_errors_come_first() -> None:
    found = examine(well(lease=None, policy=None))

    assert [one.severity for one in found] == [E, W]
