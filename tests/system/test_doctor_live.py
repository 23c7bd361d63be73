"""A cluster is made wrong in one way at a time: `doctor` and `why` name just that, and only while it is so."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Final

import pytest

from kube.api import Object, Resource
from kube.kinds import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    LEASES,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SPEC_CATALOGS,
    VALIDATING_WEBHOOKS,
)
from tests.builders import container, pod, template
from tests.cluster.install import NAMESPACE
from tests.cluster.state import Cluster
from tests.podsla.snapshots import other_bundle
from tests.system.test_admission_rules import hanging
from tests.system.user import User
from tests.system.wrong import Site, Wrong, both, created, deleted, field, on_a_node, unsized
from tests.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("catalogs")]

POLICIES: Final = Resource("admissionregistration.k8s.io/v1", "validatingadmissionpolicies")
QUOTAS: Final = Resource("v1", "resourcequotas")
NODE, TYPE = "ecs-g7-4xlarge-0", "ecs.g7.4xlarge"
SLOW: Final = "ecs-c6e-2xlarge-0"  # 2.5 GHz, and the class asks 2.7
PPS, MHZ = "podsla.io/pps", "podsla.io/base-mhz"
SMALL: Final = container(requests={"cpu": "100m", "memory": "64Mi"})
HOSTNAME: Final = "kubernetes.io/hostname"
CONTROLLER: Final = "podsla-controller"
FIRST: Final = "webhook pods.podsla.io"
MISSION: Final = {"labelSelector": "podsla.io/catalog=mission"}
LAB: Final = {"name": "lab", "description": "x", "sizes": {"families": ["ecs.g7ne"]}}


def asking(name: str = "wants", pps: str = "", node: str = NODE, **spec: Any) -> dict[str, Any]:
    """A pod of class every-figure for one node."""
    annotations = {"podsla.io/min-pps": pps} if pps else {}
    spec = {"nodeSelector": {HOSTNAME: node}, "containers": [SMALL], **spec}
    return pod("every-figure", annotations=annotations, metadata={"name": name}, **spec)


def catalogue(**fields: Any) -> Wrong:
    """A catalogue of one class is published."""
    head = {"apiVersion": "podsla.io/v1beta1", "kind": "SpecCatalog", "metadata": {"name": "lab"}}
    return created(SPEC_CATALOGS, {**head, "spec": {"classes": [{**LAB, **fields}]}})


def target(text: str) -> Wrong:
    """The target's ConfigMap holds a text."""
    head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "podsla-target"}}
    return created(CONFIG_MAPS, {**head, "data": {"target.yaml": text}}, NAMESPACE)


def hook(pointer: str, to: Any = None) -> Wrong:
    """A field of the mutating webhook's configuration."""
    return field(MUTATING_WEBHOOKS, "podsla", pointer, to)


def label(key: str, to: str | None = None) -> Wrong:
    """A label of the node."""
    return field(NODES, NODE, f"/metadata/labels/{key.replace('/', '~1')}", to)


def publishes(pps: str | None) -> Wrong:
    """The packets/s that the node publishes: whoever plays the kubelet makes allocatable of capacity."""
    capacity = field(NODES, NODE, "/status/capacity/podsla.io~1pps", pps, subresource="status")

    @contextmanager
    def wrong(site: Site) -> Iterator[None]:
        def follows() -> bool:
            status = site.user.api.call("GET", NODES.path(name=NODE))["status"]
            return bool(status["allocatable"].get(PPS) == pps)

        with capacity(site):
            eventually(follows, "pods may have what the node publishes")
            yield

    return wrong


def namespace_label(key: str, value: str) -> Wrong:
    return field(NAMESPACES, "{there}", f"/metadata/labels/{key.replace('/', '~1')}", value)


def named(name: str) -> dict[str, str]:
    return {"fieldSelector": f"metadata.name={name}"}


Finding = tuple[str, str, str]


def findings(user: User) -> dict[Finding, str]:
    """What the doctor says: severity, reason and subject, with the message."""
    done = user.podsla("doctor", "-o", "json")
    found = {(one["severity"], one["reason"], one["subject"]): one["message"] for one in json.loads(done.stdout)}
    assert done.returncode == any(severity == "error" for severity, _, _ in found), done.stderr
    return found


@pytest.fixture(scope="module")
def usual(user: User, catalogs: None) -> Iterator[frozenset[Finding]]:
    """What is found in this cluster while nothing is made wrong; at the end, once more."""
    before = frozenset(findings(user))
    yield before
    eventually(lambda: findings(user).keys() <= before, "nothing of what was made wrong is found any more")


@contextmanager
def held(user: User, beside: Cluster) -> Iterator[None]:
    """Hold the controller, which would repair what is wrong, once it has done with what was before."""
    eventually(lambda: all(map(is_judged, user.api.list(SPEC_CATALOGS))), "the controller has judged every catalogue")
    with hanging(beside, CONTROLLER):
        yield


def is_judged(catalog: Object) -> bool:
    return bool(catalog["status"]["observedGeneration"] == catalog["metadata"]["generation"])


E, W = "error", "warning"


@pytest.mark.parametrize(
    ("wrong", "expected", "away"),
    [
        pytest.param(hook("/webhooks/0/clientConfig/caBundle"), {(E, "NoCABundle", FIRST): "every call of it fails"},
                     True, id="the CA bundle is gone"),
        pytest.param(hook("/webhooks/0/clientConfig/caBundle", other_bundle()),
                     {(E, "CABundleDiffers", FIRST): "does not hold the issuer"}, True,
                     id="the CA bundle is another's"),
        pytest.param(hook("/webhooks", lambda hooks: hooks[1:]),
                     {(E, "WebhookMissing", "MutatingWebhookConfiguration/podsla"): "no entry pods.podsla.io"}, False,
                     id="an entry of the webhook is gone"),
        pytest.param(deleted(VALIDATING_WEBHOOKS, "ValidatingWebhookConfiguration", **named("podsla-templates")),
                     {(W, "WebhookMissing", "ValidatingWebhookConfiguration/podsla-templates"): "templates.podsla.io"},
                     False, id="nobody warns of templates"),
        pytest.param(hook("/webhooks/0/failurePolicy", "Ignore"),
                     {(W, "WebhookFailsOpen", "failurePolicy of pods.podsla.io"): "created without a size"}, False,
                     id="the webhook fails open"),
        pytest.param(hook("/webhooks/0/objectSelector", {"matchLabels": {"podsla": "yes"}}),
                     {(E, "WebhookPassedBy", FIRST): "it has an objectSelector"}, False,
                     id="the webhook is for pods with a label"),
        pytest.param(hook("/webhooks/0/rules", lambda rules: [{**rules[0], "operations": ["UPDATE"]}]),
                     {(E, "WebhookPassedBy", FIRST): "no rule for pods that are created"}, False,
                     id="the webhook is not called for new pods"),
        pytest.param(hook("/webhooks/0/namespaceSelector", {}),
                     {(E, "SystemNamespaceSent", FIRST): "pods of kube-system and podsla-system are sent"}, False,
                     id="pods of kube-system are sent"),
        pytest.param(deleted(POLICIES, "ValidatingAdmissionPolicy", **named("podsla-sized-pods")),
                     {(W, "PolicyMissing", "ValidatingAdmissionPolicy/podsla-sized-pods"): "can be rewritten"}, False,
                     id="the policy is gone"),
        pytest.param(deleted(SECRETS, "Secret", NAMESPACE, **named("podsla-webhook-tls")),
                     {(E, "CertificateMissing", "Secret/podsla-webhook-tls"): "holds no certificate"}, True,
                     id="the certificate is gone"),
        pytest.param(field(LEASES, CONTROLLER, "/spec/renewTime", "2026-01-01T00:00:00.000000Z", namespace=NAMESPACE),
                     {(E, "NoLeader", f"Lease/{CONTROLLER} in {NAMESPACE}"): "and it lasts 15 s"}, True,
                     id="nobody has renewed the lease"),
        pytest.param(target("kind: Target"), {(W, "TargetRefused", "ConfigMap/podsla-target"): "correct it"}, False,
                     id="the target is bad"),
        pytest.param(catalogue(fallback=["nobody"]), {(E, "CatalogRefused", "SpecCatalog/lab"): "'nobody' is no class"},
                     False, id="a catalogue is bad"),
        pytest.param(field(SPEC_CATALOGS, "mission", "/spec/classes/0/description", "Edited."),
                     {(W, "CatalogNotJudged", "SpecCatalog/mission"): "is a controller running?"}, True,
                     id="nobody has judged an edit"),
        pytest.param(deleted(CONTROLLER_REVISIONS, "ControllerRevision", NAMESPACE, **MISSION),
                     {(E, "RevisionMissing", "ControllerRevisions"): "podsla catalog apply"}, True,
                     id="what serves is kept nowhere"),
        pytest.param(catalogue(runtime="kata"), {(E, "ClassRefusesAll", "class lab"): "needs runtime 'kata'"}, False,
                     id="a class refuses every pod"),
        pytest.param(catalogue(floor={"network": {"pps": "5M"}}),
                     {(W, "ClassFitsNoNode", "class lab"): "podsla.io/pps (2850k of 5M)"}, False,
                     id="no node is large enough for a class"),
        pytest.param(label("node.kubernetes.io/instance-type", "ecs.g7.4xlage"),
                     {(W, "UnknownNodeType", "type ecs.g7.4xlage"): f"{NODE} are of this type"}, True,
                     id="a node is of an unknown type"),
        pytest.param(label(MHZ), {(E, "NodeNotPublished", "1 node"): f"{NODE} publish no label {MHZ}"}, True,
                     id="a node has lost a label"),
        pytest.param(publishes(None), {(E, "NodeNotPublished", "1 node"): f"{NODE} publish no {PPS}"}, True,
                     id="a node has lost its capacity"),
        pytest.param(publishes("100k"), {(E, "NodeNotPublished", "1 node"): f"100k {PPS} of 2850k"}, True,
                     id="a node's figure is stale"),
        pytest.param(publishes("9M"), {(E, "NodeNotPublished", "1 node"): f"9M {PPS} where 2850k is offered"}, True,
                     id="a node's figure is too high"),
        pytest.param(label(MHZ, "9999"), {(E, "NodeNotPublished", "1 node"): f"label {MHZ}=9999, and "}, True,
                     id="a node's label says more than it has"),
        pytest.param(both(on_a_node(asking()), publishes("500k")),
                     {(W, "NodeOverPromised", f"Node/{NODE}"): "1M is promised, and it has 500k",
                      (E, "NodeNotPublished", "1 node"): f"500k {PPS} of 2850k"}, True,
                     id="more is promised than a node publishes"),
        pytest.param(unsized(asking()), {(W, "PodNotSized", "1 pod"): "/wants name a class"}, False,
                     id="a pod came past the webhook"),
        pytest.param(namespace_label("podsla.io/default-class", "generl"),
                     {(E, "DefaultClassUnusable", "Namespace/{there}"): "did you mean general?"}, False,
                     id="the default class does not exist"),
        pytest.param(namespace_label("podsla.io/defualt-class", "general"),
                     {(W, "NamespaceKeyIgnored", "Namespace/{there}"): "did you mean podsla.io/default-class?"}, False,
                     id="the key of the default class is misspelt"),
    ],
)  # fmt: skip
def test_the_doctor_names_what_is_wrong_and_nothing_else(
    user: User, beside: Cluster, namespace: Callable[..., str], usual: frozenset[Finding],
    wrong: Wrong, expected: Mapping[Finding, str], away: bool,
) -> None:  # fmt: skip
    """*away*: while the controller is held, which would repair it."""
    site = Site(user, namespace())
    wanted = {(severity, reason, site.name(subject)) for severity, reason, subject in expected}

    def told() -> Mapping[Finding, str]:
        found = {key: message for key, message in findings(user).items() if key not in usual}
        assert found.keys() == wanted, found
        return found

    with held(user, beside) if away else nullcontext(), wrong(site):
        messages = eventually(told, "the doctor names it")
        for (severity, reason, subject), said in expected.items():
            assert said in messages[severity, reason, site.name(subject)]


# --- why --------------------------------------------------------------------------------------------------------------


def deployed(sla_class: str = "every-figure", **fields: Any) -> dict[str, Any]:
    """A Deployment of two pods."""
    labels = {"app": "wants"}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}}
    made = template(sla_class, labels=labels, containers=[{**SMALL, **fields}])
    head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "wants"}}
    return {**head, "spec": {**spec, "template": made}}


def well(_site: Site) -> nullcontext[None]:
    """Nothing of the cluster is wrong: the pod alone is."""
    return nullcontext()


def quota(pps: str) -> Wrong:
    """A ResourceQuota counts the packets/s of the namespace."""
    head = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "packets"}}
    made = created(QUOTAS, {**head, "spec": {"hard": {f"requests.{PPS}": pps}}}, "{there}")

    @contextmanager
    def wrong(site: Site) -> Iterator[None]:
        with made(site):
            counted = ("wait", "--for=jsonpath={.status.hard}", "resourcequota/packets", "--timeout=30s")
            assert site.user.kubectl("-n", site.there, *counted).returncode == 0
            yield

    return wrong


NEAR: Final = {"labelSelector": {"matchLabels": {"app": "nobody"}}, "topologyKey": HOSTNAME}
DEDICATED: Final = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("wrong", "subject", "lacks", "change", "away"),
    [
        pytest.param(well, asking(nodeSelector={HOSTNAME: NODE, "team": "edge"}), {("NodeAffinity", "team")}, "Relabel",
                     False, id="a selector that no node meets"),
        pytest.param(well, asking(node=SLOW), {("NodeAffinity", MHZ)}, "", False, id="the node's clock is too low"),
        pytest.param(well, asking(pps="2900k"), {("TooLarge", PPS)}, "AskLess", False, id="no such node is that large"),
        pytest.param(on_a_node(asking("holds", "2M")), asking(), {("Insufficient", PPS)}, "MakeRoom", False,
                     id="another pod holds the rest"),
        pytest.param(field(NODES, NODE, "/spec/unschedulable", to=True), asking(), {("Cordoned", "takes no new pods")},
                     "Uncordon", False, id="the node is cordoned"),
        pytest.param(field(NODES, NODE, "/spec/taints", [DEDICATED]), asking(),
                     {("UntoleratedTaint", "dedicated=gpu:NoSchedule")}, "Tolerate", False, id="the node is tainted"),
        pytest.param(publishes(None), asking(), {("NotPublished", PPS)}, "Publish", True, id="its capacity is missing"),
        pytest.param(publishes("100k"), asking(), {("TooLarge", PPS)}, "", True, id="its figure is stale"),
        pytest.param(label(MHZ), asking(), {("NodeAffinity", MHZ)}, "", True, id="its label is missing"),
    ],
)  # fmt: skip
def test_why_names_what_a_node_lacks_and_what_would_help(
    user: User, beside: Cluster, namespace: Callable[..., str],
    wrong: Wrong, subject: Object, lacks: set[tuple[str, str]], change: str, away: bool,
) -> None:  # fmt: skip
    """Of its one node, all that is missing there; and once what was wrong is taken back, the pod gets that node."""
    site = Site(user, namespace())
    node = subject["spec"]["nodeSelector"][HOSTNAME]
    with ExitStack() as after:
        with held(user, beside) if away else nullcontext(), wrong(site):
            after.enter_context(created(PODS, subject, "{there}")(site))
            found, code = why(site, "wants")

            assert (code, found["state"], found["fitting"]) == (1, "FitsNoNode", [])
            rows = [row for row in found["missing"] if row["nodeType"].replace(".", "-") == node.removesuffix("-0")]
            assert {(row["reason"], row["what"]) for row in rows} == lacks
            helps = {one["change"] for one in found["changes"] if one["node"] == node}
            assert helps >= {change} if change else not helps
        if wrong is not well:
            now = eventually(lambda: placed(site), "it is placed once that is over")
            assert (now["state"], now["node"]) == ("Placed", node)


@pytest.mark.parametrize(
    ("wrong", "subject", "state", "noted"),
    [
        pytest.param(well, asking(schedulingGates=[{"name": "queue"}]), "SchedulingGated", [], id="a gate holds it"),
        pytest.param(well, asking(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [NEAR]}}),
                     "WouldFit", ["pod affinity"], id="it waits for what is not judged"),
    ],
)  # fmt: skip
def test_why_says_what_else_a_pod_waits_for(
    user: User, namespace: Callable[..., str], wrong: Wrong, subject: Object, state: str, noted: list[str]
) -> None:
    site = Site(user, namespace())
    with wrong(site), created(PODS, subject, "{there}")(site):
        found, code = why(site, "wants")

        assert (code, found["state"], found["notJudged"]) == (1, state, noted)


@pytest.mark.parametrize(
    ("wrong", "subject", "reason", "said"),
    [
        pytest.param(well, deployed("generl"), "RefusedByPodsla", "did you mean general?", id="its class is unknown"),
        pytest.param(quota("1M"), deployed(), "QuotaExceeded",
                     f"in quota packets, raise requests.{PPS} from 1M to 2M; or ask less", id="a quota"),
        pytest.param(hook("/webhooks/0/clientConfig/url", "https://127.0.0.1:9/mutate"), deployed(),
                     "WebhookUnavailable", "`podsla doctor` says why", id="the webhook does not answer"),
        pytest.param(namespace_label("pod-security.kubernetes.io/enforce", "restricted"), deployed(), "Refused",
                     "violates PodSecurity", id="Pod Security"),
    ],
)  # fmt: skip
def test_why_says_who_refused_the_pods_of_a_deployment(
    user: User, namespace: Callable[..., str], wrong: Wrong, subject: Object, reason: str, said: str
) -> None:
    site = Site(user, namespace())
    with wrong(site), created(Resource("apps/v1", "deployments"), subject, "{there}")(site):

        def refused() -> Mapping[str, str]:
            (one,) = why(site, "deploy/wants")[0]["refusals"]
            return dict(one)

        one = eventually(refused, "the Deployment's pods are refused")
        assert one["reason"] == reason
        assert said in one["message"] + one["advice"]


def placed(site: Site) -> Any:
    """What `podsla why` prints of a pod that has a node; nothing until it has."""
    found, code = why(site, "wants")
    return found if code == 0 else None


def why(site: Site, name: str) -> tuple[Any, int]:
    """What `podsla why` prints as JSON, and how it ends."""
    done = site.user.podsla("why", name, "-n", site.there, "-o", "json")
    assert done.stderr == ""
    return json.loads(done.stdout), done.returncode
