"""The admission policies on a real API server: what is settled at creation stays, and what slipped past is told."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any, TypeAlias

import pytest
import yaml

from kube.kinds import PODS
from tests.manifests.kubectl import MANIFESTS, run
from tests.system.user import User

pytestmark = pytest.mark.cluster

Document: TypeAlias = dict[str, Any]
ANNOTATIONS = {"podsla.io/class": "net", "podsla.io/min-pps": "1500000", "podsla.io/record": "{}", "other/key": "a"}
LABELS = {"podsla.io/size": "ecs.c7.large", "app": "a"}
SETTLED = "cannot change: a pod is sized when it is created; delete the pod and create it anew"
NAMESPACE, DEFAULTED = "policies-plain", "policies-defaulted"


@pytest.fixture(scope="module")
def policies(admin: User) -> Iterator[None]:
    """Both policies, and namespaces without and with a default class."""
    files = (MANIFESTS / "base/policies/sized-pods.yaml", MANIFESTS / "components/fail-open/unsized-pods.yaml")
    for name, labels in ((NAMESPACE, {}), (DEFAULTED, {"podsla.io/default-class": "general"})):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        run(admin, "apply", "-f", "-", text=json.dumps(namespace))
        run(admin, "wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
    for file in files:
        run(admin, "apply", "-f", str(file))
    run(admin, "-n", NAMESPACE, "create", "-f", "-", text=json.dumps(pod(ANNOTATIONS, LABELS, name="probe")))
    for number in count():  # the API server takes a policy over within a second
        edit = f"podsla.io/min-pps={number}"
        if admin.kubectl("-n", NAMESPACE, "annotate", "--overwrite", "pod", "probe", edit).returncode:
            break
    while "Warning" not in create(admin, NAMESPACE, pod({"podsla.io/class": "net"})):
        pass
    yield
    for file in files:
        run(admin, "delete", "-f", str(file))


@pytest.fixture(scope="module")
def sized(admin: User, policies: None) -> None:
    """A pod as podsla leaves it, and one that it never saw."""
    run(admin, "-n", NAMESPACE, "create", "-f", "-", text=json.dumps(pod(ANNOTATIONS, LABELS, name="sized")))
    run(admin, "-n", NAMESPACE, "create", "-f", "-", text=json.dumps(pod({}, {}, name="stranger")))


def pod(annotations: Document, labels: Document | None = None, **metadata: Any) -> Document:
    """Build a pod."""
    fields = {"name": "p", "annotations": annotations, "labels": labels or {}, **metadata}
    resources = {"requests": {"cpu": "1"}}
    spec: Document = {"containers": [{"name": "c", "image": "x", "resources": resources}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": fields, "spec": spec}


def create(admin: User, namespace: str, document: Document) -> str:
    """Create a pod in a dry run and read the warnings."""
    done = admin.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", text=json.dumps(document))
    assert done.returncode == 0, done.stderr
    return done.stderr


def patch(admin: User, name: str, body: Document, subresource: str) -> str:
    """Patch a pod, and read why it was refused; "" where it was not."""
    where = ("--subresource", subresource) if subresource else ()
    done = admin.kubectl("-n", NAMESPACE, "patch", "pod", name, "--type=merge", *where, "-p", json.dumps(body))
    return done.stderr.strip() if done.returncode else ""


def notes(**groups: Document) -> Document:
    """Write a patch of annotations or labels."""
    return {"metadata": groups}


@pytest.mark.usefixtures("sized")
@pytest.mark.parametrize("subresource", ["", "status"])
@pytest.mark.parametrize(
    ("name", "body", "keys"),
    [
        pytest.param("sized", notes(annotations={"podsla.io/class": "x"}), "podsla.io/class", id="another class"),
        pytest.param("sized", notes(annotations={"podsla.io/class": None}), "podsla.io/class", id="no class any more"),
        pytest.param("sized", notes(annotations={"podsla.io/min-pps": "2"}), "podsla.io/min-pps", id="another minimum"),
        pytest.param(
            "sized", notes(annotations={"podsla.io/gpu": "x"}), "podsla.io/gpu", id="a key that was not there"
        ),
        pytest.param("sized", notes(annotations={"podsla.io/record": "{ }"}), "podsla.io/record", id="a forged record"),
        pytest.param("sized", notes(labels={"podsla.io/size": "y"}), "podsla.io/size", id="another size"),
        pytest.param("sized", notes(labels={"podsla.io/size": None}), "podsla.io/size", id="no size any more"),
        pytest.param(
            "sized",
            notes(annotations={"podsla.io/class": None}, labels={"podsla.io/size": "y"}),
            "podsla.io/class, podsla.io/size",
            id="all that is wrong is named",
        ),
        pytest.param("stranger", notes(annotations={"podsla.io/class": "x"}), "podsla.io/class", id="a class too late"),
        pytest.param("stranger", notes(labels={"podsla.io/size": "x"}), "podsla.io/size", id="a size that nobody gave"),
        pytest.param("sized", notes(annotations={"other/key": "b"}, labels={"app": "b"}), "", id="keys of others"),
        pytest.param("sized", notes(annotations={"podsla.io/class": "net"}), "", id="the same class once more"),
        pytest.param("stranger", notes(annotations={"new/key": "b"}, labels={"new": "b"}), "", id="a pod of others"),
    ],
)
def test_what_was_settled_at_creation_stays(
    admin: User, name: str, body: Document, keys: str, subresource: str
) -> None:
    denied = "ValidatingAdmissionPolicy 'podsla-sized-pods' with binding 'podsla-sized-pods' denied request"
    expected = f'Error from server (Forbidden): pods "{name}" is forbidden: {denied}: {keys} {SETTLED}' if keys else ""
    assert patch(admin, name, body, subresource) == expected


@pytest.mark.usefixtures("sized")
def test_a_sized_pod_is_still_resized_debugged_reported_on_and_deleted(admin: User) -> None:
    resources = {"requests": {"cpu": "500m"}}
    assert (
        patch(admin, "probe", {"spec": {"containers": [{"name": "c", "image": "x", "resources": resources}]}}, "resize")
        == ""
    )
    assert patch(admin, "probe", {"status": {"message": "m"}}, "status") == ""
    debug = {"name": "d", "image": "x"}
    assert patch(admin, "probe", {"spec": {"ephemeralContainers": [debug]}}, "ephemeralcontainers") == ""
    run(admin, "-n", NAMESPACE, "delete", "pod", "probe", "--force", "--grace-period=0")


@pytest.mark.usefixtures("sized")
def test_a_pod_with_as_many_annotations_as_can_be_is_still_reported_on(admin: User) -> None:
    """The policy sees every status of every pod; were there a limit to run into, the kubelet would stop being heard."""
    document = pod({f"a{number}": "" for number in range(26_000)}, name="many")
    run(admin, "-n", NAMESPACE, "create", "-f", "-", text=json.dumps(document))
    assert patch(admin, "many", {"status": {"message": "m"}}, "status") == ""
    assert SETTLED in patch(admin, "many", notes(annotations={"podsla.io/class": "x"}), "")
    run(admin, "-n", NAMESPACE, "delete", "pod", "many", "--force", "--grace-period=0")


@pytest.mark.usefixtures("sized")
@pytest.mark.parametrize(
    ("subresource", "spec"),
    [
        ("resize", {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "500m"}}}]}),
        ("ephemeralcontainers", {"ephemeralContainers": [{"name": "d", "image": "x"}]}),
    ],
)
def test_what_was_settled_does_not_change_along_with_a_resize_or_a_debugger(
    admin: User, subresource: str, spec: Document
) -> None:
    """Refused as a whole, or taken without the keys."""
    forged = notes(annotations=dict.fromkeys(ANNOTATIONS, "y"), labels=dict.fromkeys(LABELS, "y"))

    refused = patch(admin, "sized", {**forged, "spec": spec}, subresource)

    assert refused == "" or SETTLED in refused
    found = admin.api.get(PODS, "sized", NAMESPACE)
    assert found is not None
    keys = [key for key in (*ANNOTATIONS, *LABELS) if key.startswith("podsla.io/")]
    assert {key: (found["metadata"]["annotations"] | found["metadata"]["labels"])[key] for key in keys} == {
        key: (ANNOTATIONS | LABELS)[key] for key in keys
    }


def test_the_policy_is_asked_about_every_way_to_change_a_pod(admin: User) -> None:
    """As the API server lists them."""
    policy, _ = yaml.safe_load_all((MANIFESTS / "base/policies/sized-pods.yaml").read_text())
    (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
    served = admin.api.call("GET", "/api/v1")["resources"]
    ways = {way["name"] for way in served if way["kind"] == "Pod" and {"patch", "update"} & set(way["verbs"])}
    assert set(rule["resources"]) == ways


def of_daemonset(**fields: Any) -> Document:
    """Build a pod that a DaemonSet owns."""
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": True}
    return pod({}, ownerReferences=[owner], **fields)


def bound(document: Document) -> Document:
    """Name the node of a pod."""
    return {**document, "spec": {**document["spec"], "nodeName": "n"}}


@pytest.mark.usefixtures("policies")
@pytest.mark.parametrize(
    ("namespace", "document", "sla_class"),
    [
        pytest.param(NAMESPACE, pod({"podsla.io/class": "net"}), "net", id="a class, and no record"),
        pytest.param(NAMESPACE, pod({"podsla.io/class": "net", "podsla.io/record": "{}"}), "", id="it was sized"),
        pytest.param(NAMESPACE, pod({"podsla.io/class": "none"}), "", id="it opts out"),
        pytest.param(NAMESPACE, pod({}), "", id="none of our business"),
        pytest.param(DEFAULTED, pod({}), "general", id="the namespace's default, and no record"),
        pytest.param(DEFAULTED, pod({"podsla.io/class": "none"}), "", id="it opts out of the default"),
        pytest.param(DEFAULTED, of_daemonset(), "", id="a default does not reach pods of a DaemonSet"),
        pytest.param(DEFAULTED, bound(pod({})), "", id="nor pods that name their node"),
        pytest.param(DEFAULTED, bound(pod({"podsla.io/class": "net"})), "net", id="a class of its own reaches them"),
    ],
)
def test_a_pod_that_slipped_past_is_warned_about(
    admin: User, namespace: str, document: Document, sla_class: str
) -> None:
    policy = "ValidatingAdmissionPolicy 'podsla-unsized-pods' with binding 'podsla-unsized-pods'"
    advice = (
        f"podsla did not size this pod (class '{sla_class}'); delete it and create it anew once podsla-webhook is ready"
    )
    expected = f"Warning: Validation failed for {policy}: {advice}\n" if sla_class else ""
    assert create(admin, namespace, document) == expected
